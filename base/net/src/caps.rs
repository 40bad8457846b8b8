//! How many connections a listener takes, in all and from one source (hardening chapter 1).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connection caps of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one IPv4 address or one IPv6 /64. Loopback and Unix sockets are exempt.
    pub per_source: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { connections: 10_000, per_source: 1_000 }
    }
}

/// A place under the caps, given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    gate: Arc<Gate>,
    source: Option<IpAddr>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock();
        open.total = open.total.saturating_sub(1);
        let Some(source) = self.source else { return };
        let left = open.sources.get_mut(&source).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            open.sources.remove(&source);
        }
    }
}

/// Counts the open connections of one listener.
#[derive(Debug)]
pub(crate) struct Gate {
    caps: Caps,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    sources: HashMap<IpAddr, usize>,
}

impl Gate {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, open: Mutex::new(Open::default()) })
    }

    /// A place for a connection from `peer`, unless a cap is reached.
    pub(crate) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<ConnectionPermit> {
        let source = peer.filter(|ip| !ip.is_loopback()).map(source);
        let mut open = self.open.lock();
        if open.total >= self.caps.connections {
            return None;
        }
        if let Some(source) = source {
            let count = open.sources.entry(source).or_default();
            if *count >= self.caps.per_source {
                return None;
            }
            *count = count.saturating_add(1);
        }
        open.total = open.total.saturating_add(1);
        Some(ConnectionPermit { gate: Arc::clone(self), source })
    }
}

/// What counts as one source: an IPv4 address, or the /64 of an IPv6 address.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & (u128::MAX << 64)).into()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_cap_refuses_and_a_drop_makes_room() {
        let gate = Gate::new(Caps { connections: 2, per_source: 1 });
        let first = gate.enter(ip("10.0.0.1")).unwrap();
        assert!(gate.enter(ip("10.0.0.1")).is_none(), "one per source");
        let _second = gate.enter(ip("10.0.0.2")).unwrap();
        assert!(gate.enter(ip("10.0.0.3")).is_none(), "two in all");
        drop(first);
        assert!(gate.enter(ip("10.0.0.1")).is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_loopback_is_exempt() {
        let gate = Gate::new(Caps { connections: 10, per_source: 1 });
        let _first = gate.enter(ip("2001:db8::1")).unwrap();
        assert!(gate.enter(ip("2001:db8::2")).is_none());
        let _other = gate.enter(ip("2001:db8:0:1::1")).unwrap();
        let _local = [gate.enter(ip("127.0.0.1")).unwrap(), gate.enter(ip("127.0.0.1")).unwrap()];
        let _unix = [gate.enter(None).unwrap(), gate.enter(None).unwrap()];
    }
}
