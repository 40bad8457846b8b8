//! Both halves of the stream together: a real authority on one side, the copy of an agent on the other, and a line between
//! that is cut, doubled and garbled.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base_ports::{ManualClock, MemoryDisk, Rng, SeededRng, SystemRng, UnixTime};
use base_store::Memory;
use ca_agent::replica::{Receiver, Replica, Taken};
use ca_authority::service::{self, Caller};
use ca_authority::{
    Authority, ClosedFetch, Events, Evidence, GateAnswer, IdentityEvent, IssuanceGate, IssueRequest, Named,
    NewEntry, NewRevocation, Ports,
};
use ca_identity::{PrivateKey, Selector, SpiffeId, TrustDomain, csr};
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

#[derive(Debug)]
struct Open;

impl IssuanceGate for Open {
    fn decide(&self, _: &IssueRequest<'_>) -> GateAnswer {
        GateAnswer { allow: true, decision_id: "d".to_owned() }
    }
}

#[derive(Debug)]
struct Deaf;

impl Events for Deaf {
    fn event(&self, _: IdentityEvent) {}
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&domain(), path).unwrap()
}

async fn authority() -> Arc<Authority> {
    let ports = Ports {
        store: Memory::new(),
        disk: Arc::new(MemoryDisk::new()),
        clock: Arc::new(ManualClock::new(UnixTime::from_secs(1_795_608_000))),
        rng: Arc::new(SystemRng),
        gate: Arc::new(Open),
        events: Arc::new(Deaf),
        fetch: Arc::new(ClosedFetch),
    };
    Authority::open(ca_authority::Config::new(domain(), "/data".as_ref()), ports).await.unwrap()
}

async fn agent(authority: &Authority) -> SpiffeId {
    let token = authority.create_join_token(Duration::from_secs(60)).await.unwrap().token;
    let request = csr::build(&PrivateKey::generate_p256().unwrap(), &[]).unwrap();
    authority.attest(Evidence::JoinToken(token), &request).await.unwrap().id
}

/// A stream as the agent opens it.
async fn open(router: &Router, agent: &SpiffeId, receiver: &mut Receiver) -> Body {
    let resume = serde_json::to_string(&receiver.begin()).unwrap();
    let request = Request::post("/v1/agents:sync").header("content-type", "application/json");
    let request = request.extension(Caller::Svid(agent.clone())).body(Body::from(resume)).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.into_body()
}

/// What the authority has for the agent, in the words of the copy.
fn same(authority: &Authority, agent: &SpiffeId, copy: &Replica) -> bool {
    let mut wanted: Vec<_> = authority
        .entries_for(agent)
        .iter()
        .map(|entry| (entry.id.clone(), entry.hint.clone().unwrap_or_default()))
        .collect();
    let mut found: Vec<_> = copy.entries().into_iter().map(|entry| (entry.id, entry.hint)).collect();
    wanted.sort();
    found.sort();
    let (denied, theirs) = (copy.denied(), authority.watch_revoked().borrow().clone());
    wanted == found
        && denied.digest() == theirs.digest()
        && copy.bundle().sequence == authority.bundle().sequence
        && copy.crls().len() == authority.watch_crls().borrow().len()
}

/// One change of something, at random.
async fn change(authority: &Authority, agent: &SpiffeId, dice: &dyn Rng, count: &mut u64) {
    *count += 1;
    let known = authority.list_entries(&ca_authority::EntryFilter::default(), None, 1_000);
    let some = || known.get(usize::try_from(dice.u64()).unwrap_or(0) % known.len().max(1)).cloned();
    let parent = match dice.u64() % 3 {
        0 => None,
        1 => Some(agent.clone()),
        _ => Some(id("/portcullis/agent/join_token/other")),
    };
    let entry = |path: String| NewEntry {
        parent_id: parent.clone(),
        hint: Some(count.to_string()),
        ..NewEntry::new(id(&path), vec![Selector::parse("unix:uid:1").unwrap()])
    };
    match (dice.u64() % 8, some()) {
        (0, Some(found)) => drop(authority.delete_entry(&found.id, None).await.unwrap()),
        (1, Some(found)) => {
            let changed = entry(found.spiffe_id.path().to_owned());
            drop(authority.update_entry(&found.id, changed, None).await.unwrap());
        }
        (2, Some(found)) => {
            let (reason, author) = ("test".to_owned(), "test".to_owned());
            let new = NewRevocation { what: Named::Id(found.spiffe_id.clone()), reason, author, until: None };
            drop(authority.revoke(new).await);
        }
        (3, _) => {
            let revoked = authority.revocations(None, 1).unwrap();
            if let Some(first) = revoked.first() {
                authority.lift(&first.what, "test").await.unwrap();
            }
        }
        (4, _) => drop(authority.rotate_key(ca_authority::KeyKind::Signing, true, "test").await),
        (5, _) => drop(authority.prepare_key(ca_authority::KeyKind::Jwt, true, "test").await),
        _ => drop(authority.create_entry(entry(format!("/w{count}"))).await.unwrap()),
    }
}

/// RG-22: whatever is missed, cut or garbled, the copy is what the authority has as soon as the line is good.
#[tokio::test(start_paused = true)]
async fn rg_22_after_cuts_at_random_places_the_copy_equals_what_the_authority_has() {
    for seed in 0..12 {
        let dice = SeededRng::new(seed);
        let authority = authority().await;
        let agent = agent(&authority).await;
        let router = service::enrolment(Arc::clone(&authority));
        let empty = ca_identity::Bundle::new(domain(), Vec::new(), 0).unwrap().to_jwks();
        let mut receiver = Receiver::new(domain(), Replica::new(&domain(), &empty).unwrap());
        let mut count = 0;
        for round in 0..25 {
            for _ in 0..dice.u64() % 4 {
                change(&authority, &agent, &dice, &mut count).await;
            }
            let mut body = open(&router, &agent, &mut receiver).await;
            // So many lines until the line is cut; some are lost, doubled, or broken on the way.
            for _ in 0..dice.u64() % 12 {
                if dice.u64().is_multiple_of(3) {
                    change(&authority, &agent, &dice, &mut count).await;
                }
                let next = tokio::time::timeout(Duration::from_secs(61), body.frame()).await;
                let Ok(Some(Ok(frame))) = next else { break };
                let line = frame.into_data().unwrap();
                let taken = match dice.u64() % 20 {
                    0 => continue,
                    1 => receiver.take(&line).and_then(|_| receiver.take(&line)),
                    2 => receiver.take(line.get(..line.len() / 2).unwrap()),
                    _ => receiver.take(&line),
                };
                if taken.is_err() {
                    break;
                }
            }
            if round % 5 != 4 {
                continue;
            }
            let mut body = open(&router, &agent, &mut receiver).await;
            loop {
                let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
                if matches!(receiver.take(&line).unwrap(), Taken::New | Taken::Same) {
                    break;
                }
            }
            assert!(same(&authority, &agent, &receiver.current()), "seed {seed}, round {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ag_01_a_stream_that_goes_on_sends_only_what_changed_meanwhile() {
    let authority = authority().await;
    let agent = agent(&authority).await;
    let router = service::enrolment(Arc::clone(&authority));
    let entry = |path: &str| NewEntry::new(id(path), vec![Selector::parse("unix:uid:1").unwrap()]);
    let first = authority.create_entry(entry("/a")).await.unwrap();
    authority.create_entry(entry("/b")).await.unwrap();
    let empty = ca_identity::Bundle::new(domain(), Vec::new(), 0).unwrap().to_jwks();
    let mut receiver = Receiver::new(domain(), Replica::new(&domain(), &empty).unwrap());
    let whole = async |receiver: &mut Receiver| {
        let (mut body, mut lines) = (open(&router, &agent, receiver).await, Vec::new());
        loop {
            let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
            lines.push(String::from_utf8_lossy(&line).into_owned());
            if matches!(receiver.take(&line).unwrap(), Taken::New | Taken::Same) {
                return lines;
            }
        }
    };
    let begun = whole(&mut receiver).await;
    assert!(begun.iter().any(|line| line.contains("\"whole\":true") && line.contains("/a")), "{begun:?}");
    assert_eq!(whole(&mut receiver).await.len(), 1, "nothing changed: only the word that all is well");

    authority.delete_entry(&first.id, None).await.unwrap();
    authority.create_entry(entry("/c")).await.unwrap();
    let resumed = whole(&mut receiver).await;
    let [entries, state] = resumed.as_slice() else { panic!("{resumed:?}") };
    assert!(entries.contains("\"whole\":false") && entries.contains(&first.id), "{entries}");
    assert!(entries.contains("/c") && !entries.contains("/b"), "{entries}");
    assert!(state.contains("\"frame\":\"state\""), "{state}");
    assert_eq!(receiver.current().entries().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rv_02_the_stream_of_a_banned_or_evicted_agent_ends() {
    let authority = authority().await;
    let router = service::enrolment(Arc::clone(&authority));
    let empty = ca_identity::Bundle::new(domain(), Vec::new(), 0).unwrap().to_jwks();
    for ban in [true, false] {
        let agent = agent(&authority).await;
        let mut receiver = Receiver::new(domain(), Replica::new(&domain(), &empty).unwrap());
        let mut body = open(&router, &agent, &mut receiver).await;
        assert!(authority.is_followed_by(&agent));
        if ban {
            authority.ban_agent(&agent, "lost", "test", true).await.unwrap();
        } else {
            authority.evict_agent(&agent, "test").await.unwrap();
        }
        let ended = async {
            while let Some(frame) = body.frame().await {
                drop(frame.unwrap())
            }
        };
        tokio::time::timeout(Duration::from_secs(1), ended).await.expect("it ends within a second");
        drop(body);
        assert!(!authority.is_followed_by(&agent));
    }
}
