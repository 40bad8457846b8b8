//! Counting in and out at the edges of the caps (LM-03).

use super::*;
use crate::Drain;
use std::{net::SocketAddr, time::Duration};

fn tcp(ip: &str) -> Peer {
    Peer::Tcp(SocketAddr::new(ip.parse().unwrap(), 4711))
}

struct Door {
    gate: Gate,
    drain: Drain,
}

impl Door {
    fn new(connections: usize, per_source: usize) -> Door {
        Door { gate: Gate::new(Caps { connections, per_source }), drain: Drain::new().0 }
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
    assert_eq!(caps.within(Some(1024)), Caps { connections: 768, per_source: 768 });
    assert_eq!(caps.within(Some(64)).connections, 32, "half, where the reserve would take all");
}

#[tokio::test(start_paused = true)]
async fn al_02_the_connection_idle_for_longest_makes_room() {
    let door = Door::new(10, 10);
    let mut permits = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| door.admit(ip).unwrap());
    assert!(!door.gate.evict_idle(), "busy connections are left alone");
    for permit in &mut permits {
        permit.idle();
        permit.idle();
    }
    assert!(permits[0].busy());
    assert!(door.gate.evict_idle());
    let soon = |permit| tokio::time::timeout(Duration::from_millis(1), ConnectionPermit::evicted(permit));
    assert!(soon(&permits[0]).await.is_err());
    assert!(soon(&permits[2]).await.is_err());
    assert!(soon(&permits[1]).await.is_ok());
    assert!(!permits[1].busy(), "it is told when work comes too late");
    drop(permits);
    assert!(!door.gate.evict_idle(), "closed connections cannot make room");
}

#[test]
fn px_02_behind_forwarders_the_source_that_is_told_has_the_share() {
    let gate = Gate::behind_forwarders(Caps { connections: 10, per_source: 1 });
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
