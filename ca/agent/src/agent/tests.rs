//! The agent over a made-up authority: issuance, faults of the authority, its own status.

use std::time::Duration;

use base_ports::{SeededRng, task::Tasks};

use super::*;
use crate::{
    rotate::{Keeper, SignOwn},
    testing::{FakeAuthority, entry},
};

/// Waits for something that happens within a few milliseconds, and fails after seconds.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen in time");
}

#[tokio::test]
async fn every_entry_gets_an_svid_with_its_own_key() {
    let tasks = Tasks::new("test");
    let authority = FakeAuthority::start(vec![entry("a", "/a", 2), entry("b", "/b", 1)]);
    let agent = authority.agent(&tasks);

    until(|| agent.status().held == 2).await;

    assert_eq!(agent.status(), AgentStatus { entries: 2, held: 2, ..AgentStatus::default() });
    assert_eq!(authority.signed(), 2);
}

#[tokio::test]
async fn a_failing_authority_is_asked_again_and_named_in_the_status() {
    let tasks = Tasks::new("test");
    let authority = FakeAuthority::start(vec![entry("a", "/a", 1)]);
    authority.fail(Some("disk full"));
    let agent = authority.agent(&tasks);
    until(|| agent.status().problem.is_some_and(|problem| problem.contains("disk full"))).await;

    authority.fail(None);
    authority.advance(1);

    until(|| agent.status().held == 1).await;
    assert_eq!(agent.status().problem, None);
}

#[tokio::test]
async fn an_svid_of_somebody_else_is_not_taken() {
    let tasks = Tasks::new("test");
    let authority = FakeAuthority::start(vec![entry("a", "/a", 1)]);
    authority.sign_as("/b");
    let agent = authority.agent(&tasks);

    until(|| agent.status().problem.is_some_and(|problem| problem.contains("spiffe://example.org/b"))).await;
    assert_eq!(agent.status().held, 0);
}

#[tokio::test]
async fn an_svid_that_has_expired_on_arrival_is_not_taken() {
    let tasks = Tasks::new("test");
    let authority = FakeAuthority::start(vec![entry("a", "/a", 1)]);
    authority.set_ttl(0);
    let agent = authority.agent(&tasks);

    until(|| agent.status().problem.is_some_and(|problem| problem.contains("not valid now"))).await;
    assert_eq!(agent.status().held, 0);
}

#[tokio::test]
async fn more_entries_than_parallel_signings_are_all_served() {
    let tasks = Tasks::new("test");
    let entries = (0..3 * PARALLEL).map(|n| entry(&format!("e{n}"), &format!("/e{n}"), 1)).collect();
    let authority = FakeAuthority::start(entries);
    let agent = authority.agent(&tasks);

    until(|| agent.status().held == 3 * PARALLEL).await;
}

#[tokio::test]
async fn a_keeper_renews_before_expiry_and_withdraws_what_expired() {
    let tasks = Tasks::new("test");
    let authority = FakeAuthority::start(Vec::new());
    authority.set_ttl(600);
    let id = ca_identity::SpiffeId::parse("spiffe://example.org/gateway").unwrap();
    let sign: SignOwn = {
        let (authority, id) = (Arc::clone(&authority), id.clone());
        Arc::new(move |csr| Box::pin(std::future::ready(authority.sign_for(&id, &csr))))
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let on_new = {
        let seen = Arc::clone(&seen);
        move |svid: Arc<X509Svid>| seen.lock().push(svid)
    };
    let rng = Arc::new(SeededRng::new(7));
    let keeper =
        Keeper::start(id.clone(), vec!["localhost".to_owned()], sign, on_new, authority.clock(), rng, &tasks);
    until(|| keeper.current().is_some()).await;
    assert_eq!(keeper.current().unwrap().id, id);

    authority.advance(400);
    until(|| seen.lock().len() == 2).await;
    let serials: Vec<_> = seen.lock().iter().map(|svid| svid.serial.clone()).collect();
    assert_ne!(serials[0], serials[1]);

    authority.fail(Some("down"));
    authority.advance(700);
    until(|| keeper.current().is_none()).await;

    authority.fail(None);
    authority.advance(2);
    until(|| keeper.current().is_some()).await;
    keeper.stop();
    until(|| keeper.watch().has_changed().is_err()).await;
}
