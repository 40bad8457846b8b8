//! The handshakes that run, on all workers: each has a place, and may be told to give it up.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use enforcer_traffic::Handshakes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Handshakes by source; those of this host, which nobody counts one by one, are together.
type Running = Handshakes<Option<IpAddr>, Arc<Notify>>;

/// One per process.
#[derive(Debug)]
pub(crate) struct Shaken {
    running: Mutex<Running>,
    refused: AtomicU64,
}

/// The place of one handshake.
#[derive(Debug)]
pub(crate) struct Shaking {
    of: Arc<Shaken>,
    source: Option<IpAddr>,
    number: u64,
    ends: Arc<Notify>,
}

impl Shaken {
    /// At most so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { running: Mutex::new(Running::new(most)), refused: AtomicU64::new(0) }
    }

    /// A handshake begins, unless there are too many; one of `most` of its source.
    pub(crate) fn begin(self: &Arc<Self>, source: SocketAddr, most: usize) -> Option<Shaking> {
        let source = shared(source.ip());
        let most = if source.is_some() { most } else { usize::MAX };
        let ends = Arc::new(Notify::new());
        let begun = self.running.lock().begin(source, most, Arc::clone(&ends));
        if begun.as_ref().is_none_or(|begun| begun.instead.is_some()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let begun = begun?;
        if let Some(other) = begun.instead {
            other.notify_one();
        }
        Some(Shaking { of: Arc::clone(self), source, number: begun.number, ends })
    }

    /// From here on whoever can prove its address must.
    pub(crate) fn is_half_full(&self) -> bool {
        let running = self.running.lock();
        running.running() >= running.most() / 2
    }

    /// How many had no place since this was asked last.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

impl Shaking {
    /// Returns when its place is needed for another. Cancel-safe.
    pub(crate) async fn ends(&self) {
        self.ends.notified().await;
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.of.running.lock().end(&self.source, self.number);
    }
}

/// Who shares a part of the handshakes: an IPv4 address, an IPv6 /64; nobody on this host.
fn shared(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(IpAddr::V4(ip)),
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
    }
}
