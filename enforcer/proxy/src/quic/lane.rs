//! Which endpoint of an address a datagram belongs to, whatever the kernel thinks (QU-01).
//!
//! Workers have an endpoint each on one port, and the kernel spreads datagrams by address, so a caller that changes its
//! address arrives anywhere. Ids of connections therefore name their endpoint and the process that gave them, under a mask
//! that nobody else can take off. What belongs to another endpoint goes there through a bounded queue, and is lost when
//! that is full, as on any crowded way. Only packets with a short header are looked at: a handshake comes from one address.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::{Context, Poll};

use base_ports::Rng;
use base_telemetry::Counter;
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::udp::RecvMeta;
use quinn::{ConnectionId, ConnectionIdGenerator};
use tokio::sync::mpsc;

/// Datagrams, as they were read together, that wait for an endpoint.
const WAITING: usize = 1024;
/// Bytes of an id that are random.
const RANDOM: usize = 8;
const LENGTH: usize = RANDOM + 2;

/// One of the endpoints of an address.
pub(crate) struct Lane {
    number: u8,
    ids: Ids,
    inbox: Mutex<mpsc::Receiver<Passed>>,
    /// By number; empty when there is no other.
    all: Arc<[mpsc::Sender<Passed>]>,
}

/// Makes the ids of the connections of one endpoint.
#[derive(Clone)]
pub(crate) struct Ids {
    number: u8,
    generation: u8,
    /// Drawn by the operating system.
    key: RandomState,
    rng: Arc<dyn Rng>,
}

/// Datagrams of one source, on their way to their endpoint.
struct Passed {
    meta: RecvMeta,
    bytes: Bytes,
}

/// Counts what came to another endpoint than its own.
#[derive(Debug, Clone)]
pub(crate) struct Steered {
    pub(crate) passed: Counter,
    pub(crate) dropped: Counter,
}

impl Lane {
    /// So many endpoints of one address.
    pub(crate) fn all(count: usize, rng: &Arc<dyn Rng>) -> Vec<Self> {
        let (key, [generation, ..]) = (RandomState::new(), rng.u64().to_le_bytes());
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(WAITING)).unzip();
        // An id has room for 256; more are not steered, and a caller that moves may be lost.
        let is_steered = (2..=256).contains(&count);
        let all: Arc<[_]> = if is_steered { senders.into() } else { Arc::default() };
        let lane = |(number, inbox)| {
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            let ids = Ids { number, generation, key: key.clone(), rng: Arc::clone(rng) };
            Self { number, ids, inbox: Mutex::new(inbox), all: Arc::clone(&all) }
        };
        inboxes.into_iter().enumerate().map(lane).collect()
    }

    pub(crate) fn ids(&self) -> Ids {
        self.ids.clone()
    }

    /// Fills the first buffer with what others passed on.
    pub(super) fn poll_passed(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        if self.all.is_empty() {
            return Poll::Pending;
        }
        let mut inbox = self.inbox.lock();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Poll::Ready(Some(passed)) = inbox.poll_recv(context) else { break };
            *meta = passed.meta;
            // What is larger than a buffer was not read by this process.
            meta.len = passed.bytes.len().min(buf.len());
            buf.iter_mut().zip(&passed.bytes).for_each(|(to, from)| *to = *from);
            count += 1;
        }
        if count > 0 { Poll::Ready(count) } else { Poll::Pending }
    }

    /// Passes on what belongs to others of what was read, and leaves the rest.
    pub(super) fn steer(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta], steered: &Steered) {
        if self.all.is_empty() {
            return;
        }
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let mut kept = 0_usize;
            let (whole, stride) = (meta.len.min(buf.len()), meta.stride.max(1));
            let mut from = 0_usize;
            while from < whole {
                let to = from.saturating_add(stride).min(whole);
                let owner = buf.get(from..to).and_then(|datagram| self.owner(datagram));
                match owner.and_then(|owner| self.all.get(usize::from(owner))) {
                    Some(other) => {
                        let bytes = Bytes::copy_from_slice(buf.get(from..to).unwrap_or_default());
                        let passed = Passed {
                            meta: RecvMeta { len: bytes.len(), stride: bytes.len(), ..*meta },
                            bytes,
                        };
                        let sent = other.try_send(passed);
                        if sent.is_ok() { &steered.passed } else { &steered.dropped }.inc();
                    }
                    None => {
                        if kept < from {
                            buf.copy_within(from..to, kept);
                        }
                        kept = kept.saturating_add(to.saturating_sub(from));
                    }
                }
                from = to;
            }
            meta.len = kept;
        }
    }

    /// The other endpoint that gave the id to which a datagram is sent.
    fn owner(&self, datagram: &[u8]) -> Option<u8> {
        let (first, rest) = datagram.split_first()?;
        let is_short = first & 0x80 == 0;
        let (random, masked) = rest.get(..LENGTH).filter(|_| is_short)?.split_first_chunk::<RANDOM>()?;
        let [number, generation] = self.ids.mask(*random, masked.try_into().ok()?);
        let is_ours = generation == self.ids.generation && usize::from(number) < self.all.len();
        (is_ours && number != self.number).then_some(number)
    }
}

impl Ids {
    /// Puts the mask on, or takes it off.
    fn mask(&self, random: [u8; RANDOM], [number, generation]: [u8; 2]) -> [u8; 2] {
        let [one, two, ..] = self.key.hash_one(random).to_le_bytes();
        [number ^ one, generation ^ two]
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = self.rng.u64().to_le_bytes();
        let masked = self.mask(random, [self.number, self.generation]);
        let mut id = [0; LENGTH];
        let bytes = random.iter().chain(&masked);
        id.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
impl Steered {
    /// Counts into a registry of its own.
    pub(super) fn alone() -> Self {
        let counted = base_telemetry::Metrics::new().counter("steered", "Steered.", &["result"]);
        Self { passed: counted.with(&["passed"]), dropped: counted.with(&["dropped"]) }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("number", &self.number)
            .field("of", &self.all.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use base_ports::SystemRng;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn lanes(count: usize) -> Vec<Lane> {
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        Lane::all(count, &rng)
    }

    /// A packet with a short header to a connection of that endpoint.
    fn packet(of: &Lane, mark: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0x40];
        bytes.extend_from_slice(&of.ids().generate_cid());
        bytes.resize(length, mark);
        bytes
    }

    fn taken(lane: &Lane) -> Vec<Vec<u8>> {
        let mut storage = vec![[0_u8; 4096]; 8];
        let mut all = Vec::new();
        loop {
            let mut bufs: Vec<_> = storage.iter_mut().map(|of| IoSliceMut::new(of)).collect();
            let mut metas = [RecvMeta::default(); 8];
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(count) = lane.poll_passed(&mut context, &mut bufs, &mut metas) else {
                return all;
            };
            all.extend(bufs.iter().zip(&metas).take(count).map(|(buf, meta)| buf[..meta.len].to_vec()));
        }
    }

    #[test]
    fn qu_01_an_id_names_its_endpoint_to_its_own_process_and_to_nobody_else() {
        let (ours, others) = (lanes(4), lanes(4));
        let mut told = 0;
        for lane in &ours {
            for _ in 0..200 {
                let packet = packet(lane, 0, 60);
                for reader in &ours {
                    let expected = (reader.number != lane.number).then_some(lane.number);
                    assert_eq!(reader.owner(&packet), expected);
                }
                told += usize::from(others[0].owner(&packet).is_some());
            }
        }
        assert!(told < 40, "another process reads {told} of 800 ids as its own");
        let long = [&[0xc0][..], &packet(&ours[1], 0, 60)[1..]].concat();
        assert_eq!(ours[0].owner(&long), None, "a handshake stays where it arrived");
        assert_eq!(ours[0].owner(&packet(&ours[1], 0, 60)[..9]), None);
        let ids: std::collections::HashSet<_> =
            (0..500).map(|_| packet(&ours[1], 0, 11)[9..].to_vec()).collect();
        assert!(ids.len() > 300, "what is masked looks random");
    }

    #[test]
    fn qu_01_what_a_full_endpoint_cannot_take_is_dropped_and_counted() {
        let (lanes, counted) = (lanes(2), Steered::alone());
        for _ in 0..WAITING + 5 {
            let mut bytes = packet(&lanes[1], 1, 40);
            let mut metas = [RecvMeta { len: 40, stride: 40, ..RecvMeta::default() }];
            lanes[0].steer(&mut [IoSliceMut::new(&mut bytes)], &mut metas, &counted);
            assert_eq!(metas[0].len, 0);
        }
        assert_eq!(taken(&lanes[1]).len(), WAITING);
        assert_eq!((counted.passed.get(), counted.dropped.get()), (WAITING as u64, 5));
    }

    proptest! {
        #[test]
        fn qu_01_every_datagram_comes_to_its_endpoint_once_and_in_order(
            owners in proptest::collection::vec(0_usize..3, 1..20), last in 20_usize..60,
        ) {
            let (lanes, counted) = (lanes(3), Steered::alone());
            let count = owners.len();
            let packets: Vec<_> = owners.iter().enumerate().map(|(nth, owner)| {
                let length = if nth + 1 == count { last } else { 60 };
                packet(&lanes[*owner], u8::try_from(nth).unwrap(), length)
            }).collect();
            let mut bytes = packets.concat();
            let mut metas = [RecvMeta { len: bytes.len(), stride: 60, ..RecvMeta::default() }];
            lanes[0].steer(&mut [IoSliceMut::new(&mut bytes)], &mut metas, &counted);
            let of = |wanted: usize| {
                let theirs = packets.iter().zip(&owners).filter(|(_, owner)| **owner == wanted);
                theirs.map(|(packet, _)| packet.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(&bytes[..metas[0].len], of(0).concat());
            prop_assert_eq!(taken(&lanes[1]), of(1));
            prop_assert_eq!(taken(&lanes[2]), of(2));
        }
    }
}
