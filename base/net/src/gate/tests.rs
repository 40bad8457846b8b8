//! Counting in and out at the edges of the caps (LM-03).

use super::*;
use crate::Drain;
use std::net::SocketAddr;

fn tcp(ip: &str) -> Peer {
    Peer::Tcp(SocketAddr::new(ip.parse().unwrap(), 4711))
}

struct Door {
    gate: Gate,
    drain: Drain,
}

impl Door {
    fn new(connections: usize, per_source: usize) -> Door {
        Door { gate: Gate::new(Caps { connections, per_source, ..Caps::default() }), drain: Drain::new().0 }
    }

    fn admit(&self, peer: &str) -> Result<ConnectionPermit, Refused> {
        self.gate.admit(&tcp(peer), self.drain.watch().hold())
    }
}

#[test]
fn the_listener_cap_holds_at_the_limit_and_opens_again() {
    let door = Door::new(2, 100);
    let first = door.admit("192.0.2.1").unwrap();
    let _second = door.admit("192.0.2.2").unwrap();
    assert_eq!(door.admit("192.0.2.3").unwrap_err(), Refused::Listener);
    assert_eq!((door.gate.open(), door.drain.open()), (2, 2), "what is refused is not counted");
    drop(first);
    assert!(door.admit("192.0.2.3").is_ok());
    assert_eq!(door.gate.refusals(), Refusals { listener: 1, ..Refusals::default() });
}

#[test]
fn al_05_one_source_cannot_take_the_listener() {
    let door = Door::new(100, 2);
    let kept = [door.admit("192.0.2.1").unwrap(), door.admit("192.0.2.1").unwrap()];
    assert_eq!(door.admit("192.0.2.1").unwrap_err(), Refused::Source);
    assert!(door.admit("192.0.2.9").is_ok());
    drop(kept);
    assert!(door.admit("192.0.2.1").is_ok());
    assert_eq!(door.gate.refusals().source, 1);
    assert!(door.gate.shared.counts.lock().sources.is_empty(), "nothing is kept about who is gone");
}

#[test]
fn al_05_an_ipv6_source_is_its_64_bit_network() {
    let door = Door::new(100, 1);
    let _one = door.admit("2001:db8:0:1::1").unwrap();
    assert_eq!(door.admit("2001:db8:0:1:ffff::2").unwrap_err(), Refused::Source);
    assert!(door.admit("2001:db8:0:2::1").is_ok());
}

#[test]
fn the_source_cap_is_off_on_this_host() {
    let door = Door::new(10, 1);
    let unix = Peer::Unix { uid: 0, gid: 0, pid: None };
    let _kept: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1"].map(|ip| door.admit(ip).unwrap()).into();
    let _one = door.gate.admit(&unix, door.drain.watch().hold()).unwrap();
    assert!(door.gate.admit(&unix, door.drain.watch().hold()).is_ok());
}

#[test]
fn a_cap_of_zero_admits_nobody_and_remembers_nobody() {
    let door = Door::new(10, 0);
    assert_eq!(door.admit("192.0.2.1").unwrap_err(), Refused::Source);
    assert!(door.gate.shared.counts.lock().sources.is_empty());
    assert_eq!(Door::new(0, 10).admit("192.0.2.1").unwrap_err(), Refused::Listener);
}

#[test]
fn clones_of_a_gate_share_its_caps() {
    let door = Door::new(1, 10);
    let other = Door { gate: door.gate.clone(), drain: Drain::new().0 };
    let _kept = door.admit("192.0.2.1").unwrap();
    assert_eq!(other.admit("192.0.2.2").unwrap_err(), Refused::Listener);
}

#[test]
fn caps_stay_below_what_the_process_may_open() {
    let caps = Caps::default();
    assert_eq!(caps.within(None), caps);
    assert_eq!(caps.within(Some(1 << 20)), caps);
    assert_eq!(caps.within(Some(1024)), Caps { connections: 768, per_source: 768, ..caps });
    assert_eq!(caps.within(Some(64)).connections, 32, "half, where the reserve would take all");
}

#[test]
fn al_05_one_identity_cannot_take_the_listener() {
    let gate = Gate::new(Caps { per_identity: 2, ..Caps::default() });
    let door = Door { gate, drain: Drain::new().0 };
    let mut permits: Vec<_> = (0..4).map(|_| door.admit("192.0.2.1").unwrap()).collect();
    let seen: Vec<_> = permits.iter_mut().map(|permit| permit.identify(7)).collect();
    assert_eq!(seen, [Ok(()), Ok(()), Err(Refused::Identity), Err(Refused::Identity)]);
    assert_eq!(permits[3].identify(8), Ok(()));
    drop(permits.remove(0));
    assert_eq!(permits[1].identify(7), Ok(()));
    drop(permits);
    assert!(door.gate.shared.counts.lock().identities.is_empty(), "nothing is kept about who is gone");
}

#[test]
fn al_02_the_connections_idle_for_longest_make_room() {
    let door = Door::new(1_000, 1_000);
    let at = |second: u64| Mono::from_nanos(second * 1_000_000_000);
    let mut permits: Vec<_> = (0..130).map(|_| door.admit("192.0.2.1").unwrap()).collect();
    let mut told = door.gate.evictions();
    assert!(!door.gate.evict_idle(), "who cannot serve yet is left alone");
    for (second, permit) in (1..).zip(&permits) {
        permit.ready(at(second));
    }
    permits[0].begin();
    permits[1].begin();
    permits[1].begin();
    permits[1].end(at(500));
    permits[2].begin();
    permits[2].end(at(600));
    assert!(!told.has_changed().unwrap());
    assert!(door.gate.evict_idle());
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    let asked = |permits: &[ConnectionPermit]| -> Vec<usize> {
        (0..permits.len()).filter(|nth| permits[*nth].is_asked()).collect()
    };
    // Of 128 idle ones a 64th: neither the busy ones nor the one that was busy last.
    assert_eq!(asked(&permits), [3, 4]);
    assert!(door.gate.evict_idle());
    assert_eq!(asked(&permits), [3, 4, 5, 6], "others than those that are leaving");
    assert!(permits[2].has_served() && !permits[3].has_served());
    permits.truncate(2);
    assert!(!door.gate.evict_idle(), "closed and busy connections cannot make room");
}

#[test]
fn px_02_behind_forwarders_the_source_that_is_told_has_the_share() {
    let gate = Gate::behind_forwarders(Caps { connections: 10, per_source: 1, ..Caps::default() });
    let door = Door { gate, drain: Drain::new().0 };
    let (mut one, mut two, _three) = (
        door.admit("192.0.2.1").unwrap(),
        door.admit("192.0.2.1").unwrap(),
        door.admit("192.0.2.1").unwrap(),
    );
    let caller = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
    assert_eq!(one.comes_from(caller("203.0.113.7")), Ok(()));
    assert_eq!(one.comes_from(caller("203.0.113.8")), Ok(()), "said once");
    assert_eq!(two.comes_from(caller("203.0.113.7")), Err(Refused::Source));
    assert_eq!(two.comes_from(caller("203.0.113.8")), Ok(()));
    drop((one, two));
    assert!(door.gate.shared.counts.lock().sources.is_empty());
    assert_eq!(door.gate.refusals().source, 1);
}
