//! How many connections a listener has and may have, in all and per source (AL-05, `hardening.md` section 1).
//! One gate may serve several accept loops: the workers of one listener share its caps.
//! Also knows which connections are idle, so that the oldest can make room when descriptors run out (AL-02).
//! Whoever serves them looks at [`ConnectionPermit::is_asked`], and is told by [`Gate::evictions`] when to look.

use crate::{DrainWatch, Peer, drain::OpenGuard};
use base_ports::Mono;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// Limits of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one source: an IPv4 address or an IPv6 /64. Off on loopback and Unix sockets.
    pub per_source: usize,
    /// Connections of one verified identity.
    pub per_identity: usize,
}

impl Default for Caps {
    fn default() -> Caps {
        Caps { connections: 10_000, per_source: 1_000, per_identity: 5_000 }
    }
}

impl Caps {
    fn within_limits(self) -> Caps {
        self.within(getrlimit(Resource::Nofile).current)
    }

    /// Never above what the process may open, less a reserve for admin, ledger and control.
    fn within(self, descriptors: Option<u64>) -> Caps {
        const RESERVE: u64 = 256;
        let Some(all) = descriptors else { return self };
        let ours = usize::try_from(all.saturating_sub(RESERVE).max(all / 2)).unwrap_or(usize::MAX);
        Caps { connections: self.connections.min(ours), per_source: self.per_source.min(ours), ..self }
    }
}

/// Counts the connections of one listener and refuses what is above its caps.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counts: Mutex<Counts>,
    evictions: watch::Sender<()>,
    refused_by_listener: AtomicU64,
    refused_by_source: AtomicU64,
    accept_faults: AtomicU64,
}

#[derive(Debug)]
struct Counts {
    caps: Caps,
    /// Sources are told by forwarders, after accept.
    is_behind: bool,
    open: usize,
    sources: HashMap<IpAddr, usize>,
    identities: HashMap<u64, usize>,
    open_by_number: HashMap<u64, Arc<Rest>>,
    next: u64,
}

/// Of the idle connections, this part makes room at a time, at least one: telling them costs a look of each connection.
const EVICTED: usize = 64;

/// Since when a connection has nothing in flight.
#[derive(Debug, Default)]
struct Rest {
    /// Nanoseconds; 0 while something is in flight, and before the connection serves anything.
    since: AtomicU64,
    calls: AtomicU32,
    has_served: AtomicBool,
    is_asked: AtomicBool,
}

/// Why a connection was refused at accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The listener has as many as it may have.
    Listener,
    /// The source has as many as it may have.
    Source,
    /// The identity has as many as it may have.
    Identity,
}

/// What a gate has refused since it was made, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Above the cap of the listener.
    pub listener: u64,
    /// Above the share of one source.
    pub source: u64,
    /// Accept errors.
    pub accept_faults: u64,
}

impl From<Caps> for Gate {
    fn from(caps: Caps) -> Gate {
        Gate::new(caps)
    }
}

impl Gate {
    /// With these caps, lowered to what the process may open.
    #[must_use]
    pub fn new(caps: Caps) -> Gate {
        Self::of(caps, false)
    }

    /// The same for a listener behind forwarders: a connection has no source until
    /// [`ConnectionPermit::comes_from`] says it.
    #[must_use]
    pub fn behind_forwarders(caps: Caps) -> Gate {
        Self::of(caps, true)
    }

    fn of(caps: Caps, is_behind: bool) -> Gate {
        let counts = Counts {
            caps: caps.within_limits(),
            is_behind,
            open: 0,
            sources: HashMap::new(),
            identities: HashMap::new(),
            open_by_number: HashMap::new(),
            next: 0,
        };
        Gate {
            shared: Arc::new(Shared {
                counts: Mutex::new(counts),
                evictions: watch::Sender::new(()),
                refused_by_listener: AtomicU64::new(0),
                refused_by_source: AtomicU64::new(0),
                accept_faults: AtomicU64::new(0),
            }),
        }
    }

    /// The caps in force.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.shared.counts.lock().caps
    }

    /// Counts new connections by other caps, with or without forwarders before it. Those that are open stay and count.
    pub fn renew(&self, caps: Caps, is_behind_forwarders: bool) {
        let mut counts = self.shared.counts.lock();
        counts.caps = caps.within_limits();
        counts.is_behind = is_behind_forwarders;
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.counts.lock().open
    }

    /// What was refused so far.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals {
            listener: self.shared.refused_by_listener.load(Ordering::Relaxed),
            source: self.shared.refused_by_source.load(Ordering::Relaxed),
            accept_faults: self.shared.accept_faults.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn count_fault(&self) {
        self.shared.accept_faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts in a connection that came over a datagram socket, or says why not. A drain waits for its permit.
    ///
    /// # Errors
    /// The listener or the source has as many as it may have.
    pub fn enter(&self, source: SocketAddr, drain: &DrainWatch) -> Result<ConnectionPermit, Refused> {
        self.admit(&Peer::Tcp(source), drain.hold())
    }

    /// Counts a connection in, or says why not.
    pub(crate) fn admit(&self, peer: &Peer, open: OpenGuard) -> Result<ConnectionPermit, Refused> {
        let mut counts = self.shared.counts.lock();
        let source = source(peer).filter(|_| !counts.is_behind);
        if counts.open >= counts.caps.connections {
            self.shared.refused_by_listener.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Listener);
        }
        if let Some(source) = source {
            self.shared.take(&mut counts, source)?;
        }
        counts.open += 1;
        let (number, rest) = (counts.next, Arc::<Rest>::default());
        counts.next = number.wrapping_add(1);
        counts.open_by_number.insert(number, Arc::clone(&rest));
        Ok(ConnectionPermit { gate: self.clone(), source, identity: None, number, rest, open })
    }

    /// Told whenever connections were asked to close.
    #[must_use]
    pub fn evictions(&self) -> watch::Receiver<()> {
        self.shared.evictions.subscribe()
    }

    /// Asks the connections that are idle for longest to close. False when none is idle.
    pub(crate) fn evict_idle(&self) -> bool {
        let mut idle: Vec<(u64, Arc<Rest>)> = {
            let counts = self.shared.counts.lock();
            let since = |rest: &Arc<Rest>| Some((rest.idle_since()?, Arc::clone(rest)));
            counts.open_by_number.values().filter_map(since).collect()
        };
        idle.sort_unstable_by_key(|(since, _)| *since);
        let most = idle.len().div_ceil(EVICTED);
        idle.iter().take(most).for_each(|(_, rest)| rest.is_asked.store(true, Ordering::Relaxed));
        if most > 0 {
            self.shared.evictions.send_replace(());
        }
        most > 0
    }
}

impl Rest {
    /// When it became idle; none when it is not, or has been asked already.
    fn idle_since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0 && !self.is_asked.load(Ordering::Relaxed)).then_some(since)
    }
}

impl Shared {
    /// Counts one more of that source.
    fn take(&self, counts: &mut Counts, source: IpAddr) -> Result<(), Refused> {
        let most = counts.caps.per_source;
        if !join(&mut counts.sources, source, most) {
            self.refused_by_source.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Source);
        }
        Ok(())
    }
}

/// Who shares a cap: an IPv4 address, an IPv6 /64; nobody on this host.
fn source(peer: &Peer) -> Option<IpAddr> {
    match peer.ip()? {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(IpAddr::V4(ip)),
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
    }
}

/// One counted connection; dropping it counts the connection out. Lives as long as the connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    gate: Gate,
    source: Option<IpAddr>,
    identity: Option<u64>,
    number: u64,
    rest: Arc<Rest>,
    open: OpenGuard,
}

impl ConnectionPermit {
    /// A forwarder said where the connection comes from: it is counted there from now on.
    ///
    /// # Errors
    /// That source has as many as it may have.
    pub fn comes_from(&mut self, address: SocketAddr) -> Result<(), Refused> {
        if let Some(source) = source(&Peer::Tcp(address)).filter(|_| self.source.is_none()) {
            self.gate.shared.take(&mut self.gate.shared.counts.lock(), source)?;
            self.source = Some(source);
        }
        Ok(())
    }

    /// Counts the connection for that verified identity as well.
    ///
    /// # Errors
    /// The identity has as many as it may have.
    pub fn identify(&mut self, identity: u64) -> Result<(), Refused> {
        let mut counts = self.gate.shared.counts.lock();
        let most = counts.caps.per_identity;
        if !join(&mut counts.identities, identity, most) {
            return Err(Refused::Identity);
        }
        drop(counts);
        self.identity = Some(identity);
        Ok(())
    }

    /// The connection can serve, and nothing is in flight yet.
    pub fn ready(&self, now: Mono) {
        self.rest.since.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Something is in flight. No lock is taken, so it may be said of every call.
    pub fn begin(&self) {
        self.rest.calls.fetch_add(1, Ordering::Relaxed);
        self.rest.since.store(0, Ordering::Relaxed);
    }

    /// It is over.
    pub fn end(&self, now: Mono) {
        let rest = &self.rest;
        rest.has_served.store(true, Ordering::Relaxed);
        if rest.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            rest.since.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
    }

    /// Descriptors have run out and this connection is among those idle for longest: it should close.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.rest.is_asked.load(Ordering::Relaxed)
    }

    /// What is in flight on it, for others to look at.
    #[must_use]
    pub fn activity(&self) -> Activity {
        Activity(Arc::clone(&self.rest))
    }

    /// A drain waits for it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.open.leaving().is_begun()
    }

    /// Its time in the drain has come; `share` is its own, random one.
    #[must_use]
    pub fn is_asked_to_leave(&self, now: Mono, share: u8) -> bool {
        self.open.leaving().asks(now, share)
    }

    /// Something was in flight at least once, and is over.
    #[must_use]
    pub fn has_served(&self) -> bool {
        self.rest.has_served.load(Ordering::Relaxed)
    }
}

/// What is in flight on a connection.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Rest>);

impl Activity {
    /// How many calls.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Since when there is none; `None` while there is one, and before the connection can serve.
    #[must_use]
    pub fn idle_since(&self) -> Option<Mono> {
        let since = self.0.since.load(Ordering::Relaxed);
        (since != 0).then(|| Mono::from_nanos(since))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.gate.shared.counts.lock();
        counts.open = counts.open.saturating_sub(1);
        counts.open_by_number.remove(&self.number);
        if let Some(source) = self.source {
            leave(&mut counts.sources, source);
        }
        if let Some(identity) = self.identity {
            leave(&mut counts.identities, identity);
        }
    }
}

/// One more, unless there are `most` already; nothing is kept about who has none.
fn join<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, most: usize) -> bool {
    if most == 0 {
        return false;
    }
    let count = counts.entry(key).or_insert(0);
    let is_free = *count < most;
    *count += usize::from(is_free);
    is_free
}

/// One fewer; nothing is kept about who has none.
fn leave<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests;
