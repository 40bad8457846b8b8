//! How many connections a listener has and may have, in all and per source (AL-05, `hardening.md` section 1).
//! One gate may serve several accept loops: the workers of one listener share its caps.
//! Also knows which connections are idle, so that the oldest can make room when descriptors run out (AL-02).

use crate::{DrainWatch, Peer, drain::OpenGuard};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// Limits of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one source: an IPv4 address or an IPv6 /64. Off on loopback and Unix sockets.
    pub per_source: usize,
}

impl Default for Caps {
    fn default() -> Caps {
        Caps { connections: 10_000, per_source: 1_000 }
    }
}

impl Caps {
    /// Never above what the process may open, less a reserve for admin, ledger and control.
    fn within(self, descriptors: Option<u64>) -> Caps {
        const RESERVE: u64 = 256;
        let Some(all) = descriptors else { return self };
        let ours = usize::try_from(all.saturating_sub(RESERVE).max(all / 2)).unwrap_or(usize::MAX);
        Caps { connections: self.connections.min(ours), per_source: self.per_source.min(ours) }
    }
}

/// Counts the connections of one listener and refuses what is above its caps.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    caps: Caps,
    /// Sources are told by forwarders, after accept.
    is_behind: bool,
    counts: Mutex<Counts>,
    refused_by_listener: AtomicU64,
    refused_by_source: AtomicU64,
    accept_faults: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    sources: HashMap<IpAddr, usize>,
    /// Idle connections, the one idle for longest first.
    idle: BTreeMap<u64, Arc<Notify>>,
    next_idle: u64,
}

/// Why a connection was refused at accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The listener has as many as it may have.
    Listener,
    /// The source has as many as it may have.
    Source,
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
        let caps = caps.within(getrlimit(Resource::Nofile).current);
        Gate {
            shared: Arc::new(Shared {
                caps,
                is_behind,
                counts: Mutex::default(),
                refused_by_listener: AtomicU64::new(0),
                refused_by_source: AtomicU64::new(0),
                accept_faults: AtomicU64::new(0),
            }),
        }
    }

    /// The caps in force.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.shared.caps
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
        let source = source(peer).filter(|_| !self.shared.is_behind);
        let mut counts = self.shared.counts.lock();
        if counts.open >= self.shared.caps.connections {
            self.shared.refused_by_listener.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Listener);
        }
        if let Some(source) = source {
            self.shared.take(&mut counts, source)?;
        }
        counts.open += 1;
        Ok(ConnectionPermit {
            gate: self.clone(),
            source,
            idle_since: None,
            evicted: Arc::new(Notify::new()),
            _open: open,
        })
    }

    /// Asks the connection that is idle for longest to close. False when none is idle.
    pub(crate) fn evict_idle(&self) -> bool {
        let oldest = self.shared.counts.lock().idle.pop_first();
        if let Some((_, evicted)) = &oldest {
            evicted.notify_one();
        }
        oldest.is_some()
    }
}

impl Shared {
    /// Counts one more of that source.
    fn take(&self, counts: &mut Counts, source: IpAddr) -> Result<(), Refused> {
        let of_source = counts.sources.entry(source).or_insert(0);
        if *of_source >= self.caps.per_source {
            self.refused_by_source.fetch_add(1, Ordering::Relaxed);
            if *of_source == 0 {
                counts.sources.remove(&source);
            }
            return Err(Refused::Source);
        }
        *of_source += 1;
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
    idle_since: Option<u64>,
    evicted: Arc<Notify>,
    _open: OpenGuard,
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

    /// Nothing is in flight: this connection may be asked to make room. Takes a lock that the workers of the
    /// listener share, so call it after a while of silence rather than after each request.
    pub fn idle(&mut self) {
        if self.idle_since.is_none() {
            let mut counts = self.gate.shared.counts.lock();
            let turn = counts.next_idle;
            counts.next_idle = turn.wrapping_add(1);
            counts.idle.insert(turn, Arc::clone(&self.evicted));
            self.idle_since = Some(turn);
        }
    }

    /// Something is in flight again. False when the connection was asked to close meanwhile.
    pub fn busy(&mut self) -> bool {
        match self.idle_since.take() {
            Some(turn) => self.gate.shared.counts.lock().idle.remove(&turn).is_some(),
            None => true,
        }
    }

    /// Returns when descriptors have run out and this connection was the one idle for longest. Cancel-safe.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.gate.shared.counts.lock();
        counts.open = counts.open.saturating_sub(1);
        if let Some(turn) = self.idle_since {
            counts.idle.remove(&turn);
        }
        if let Some(source) = self.source
            && let Some(of_source) = counts.sources.get_mut(&source)
        {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                counts.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests;
