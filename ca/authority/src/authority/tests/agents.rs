//! Agents of other hosts: admitted at each request, renewed, evicted, banned.

use std::sync::Arc;

use ca_identity::SpiffeId;

use crate::ports::IdentityEvent;
use crate::testing::{Bench, DAY, HOUR, id, judge, request, web};
use crate::{AgentSvid, Authority, AuthorityError, Evidence, Issued, Requester};

/// An agent that attests.
async fn agent(authority: &Authority) -> Issued {
    let token = authority.create_join_token(HOUR).await.unwrap().token;
    authority.attest(Evidence::JoinToken(token), &request().1).await.unwrap()
}

fn shown(issued: &Issued) -> AgentSvid {
    AgentSvid { serial: issued.serial.clone(), not_after: issued.not_after }
}

async fn admitted(authority: &Authority, issued: &Issued) -> Result<Requester, AuthorityError> {
    authority.admit(&issued.id, &shown(issued)).await
}

#[tokio::test]
async fn na_06_the_new_svid_of_an_agent_is_enabled_at_its_first_use() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = agent(&authority).await;
    let requester = admitted(&authority, &first).await.unwrap();
    let second = authority.renew_agent(requester.clone(), &request().1).await.unwrap();
    assert_eq!(second.id, first.id);
    // The answer may have been lost: the one in use holds, and may ask again.
    admitted(&authority, &first).await.unwrap();
    let third = authority.renew_agent(requester, &request().1).await.unwrap();
    let lost = admitted(&authority, &second).await;
    assert!(matches!(lost, Err(AuthorityError::AgentSuperseded(_))), "another was made after it");
    admitted(&authority, &third).await.unwrap();
    for old in [&first, &second] {
        assert!(matches!(admitted(&authority, old).await, Err(AuthorityError::AgentSuperseded(_))));
    }
    // It is not forgotten.
    let authority = bench.open().await;
    admitted(&authority, &third).await.unwrap();
    assert!(admitted(&authority, &first).await.is_err());
    assert_eq!(authority.agent(&first.id).unwrap().active.unwrap().serial, third.serial);
}

#[tokio::test]
async fn threat_ca5_an_svid_of_an_agent_that_ended_renews_nothing() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = agent(&authority).await;
    assert_eq!(first.not_after.saturating_since(bench.now()).as_secs().div_ceil(3600), 24, "agents sleep");
    admitted(&authority, &first).await.unwrap();
    bench.clock.advance(DAY + HOUR);
    assert!(matches!(admitted(&authority, &first).await, Err(AuthorityError::AgentExpired(_))));
}

#[tokio::test]
async fn rv_02_nothing_is_issued_through_an_evicted_agent_and_its_host_may_attest_anew() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (entry, first) = (web(&authority).await, agent(&authority).await);
    let requester = admitted(&authority, &first).await.unwrap();
    authority.sign(requester.clone(), &entry.id, &request().1).await.unwrap();
    authority.evict_agent(&first.id, "local user 0").await.unwrap();

    assert!(matches!(admitted(&authority, &first).await, Err(AuthorityError::NotAnAgent(_))));
    let signed = authority.sign(requester.clone(), &entry.id, &request().1).await;
    assert!(matches!(signed, Err(AuthorityError::NotAnAgent(_))));
    let token = authority.sign_token(requester.clone(), &entry.id, vec!["x".to_owned()]).await;
    assert!(matches!(token, Err(AuthorityError::NotAnAgent(_))));
    let renewed = authority.renew_agent(requester, &request().1).await;
    assert!(matches!(renewed, Err(AuthorityError::NotAnAgent(_))));
    assert!(matches!(authority.evict_agent(&first.id, "x").await, Err(AuthorityError::UnknownAgent(_))));
    assert_ne!(agent(&authority).await.id, first.id);
    let told = bench.events.count(|event| matches!(event, IdentityEvent::AgentEvicted { .. }));
    assert_eq!(told, 1);
}

#[tokio::test]
async fn rv_02_a_ban_denies_all_that_was_issued_through_an_agent_and_no_more() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let (bad, good) = (agent(&authority).await, agent(&authority).await);
    let through = async |issued: &Issued| {
        let requester = admitted(&authority, issued).await.unwrap();
        authority.sign(requester, &entry.id, &request().1).await.unwrap()
    };
    let (from_bad, from_good) = (through(&bad).await, through(&good).await);
    let mut changed = authority.agents_changed.subscribe();
    changed.mark_unchanged();
    assert!(matches!(authority.ban_agent(&bad.id, "", "x", false).await, Err(AuthorityError::Reason)));
    let banned = authority.ban_agent(&bad.id, "lost", "local user 0", false).await.unwrap();
    assert_eq!((banned.svids, banned.agent.ban.unwrap().reason.as_str()), (2, "lost"));
    assert!(changed.has_changed().unwrap(), "streams look again");

    assert!(matches!(admitted(&authority, &bad).await, Err(AuthorityError::AgentBanned(_))));
    let signed = authority.sign(Requester::Agent(bad.id.clone()), &entry.id, &request().1).await;
    assert!(matches!(signed, Err(AuthorityError::AgentBanned(_))));
    for denied in [&bad, &from_bad] {
        assert!(judge(&authority, denied, &bench).is_err());
    }
    for kept in [&good, &from_good] {
        judge(&authority, kept, &bench).unwrap();
    }
    admitted(&authority, &good).await.unwrap();

    // Asked again it changes nothing, and a restart forgets nothing.
    authority.ban_agent(&bad.id, "again", "x", false).await.unwrap();
    let authority = bench.open().await;
    assert!(matches!(admitted(&authority, &bad).await, Err(AuthorityError::AgentBanned(_))));
    assert_eq!(authority.agent(&bad.id).unwrap().ban.unwrap().reason, "lost");
    assert!(judge(&authority, &from_bad, &bench).is_err());
    let told = bench.events.count(|event| matches!(event, IdentityEvent::AgentBanned { .. }));
    assert_eq!(told, 1);
    let names: Vec<SpiffeId> =
        authority.agents(None, 10).unwrap().into_iter().map(|one| one.spiffe_id).collect();
    assert!(names.len() == 2 && names.contains(&bad.id));

    authority.evict_agent(&bad.id, "x").await.unwrap();
    assert!(matches!(authority.agent(&bad.id), Err(AuthorityError::UnknownAgent(_))));
}

#[tokio::test]
async fn rv_02_what_came_through_a_banned_agent_may_be_kept() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = agent(&authority).await;
    let banned = authority.ban_agent(&first.id, "moved", "x", true).await.unwrap();
    assert_eq!(banned.svids, 1);
    judge(&authority, &first, &bench).unwrap();
    assert!(matches!(admitted(&authority, &first).await, Err(AuthorityError::AgentBanned(_))));
    let unknown = authority.ban_agent(&id("/portcullis/agent/join_token/none"), "x", "x", true).await;
    assert!(matches!(unknown, Err(AuthorityError::UnknownAgent(_))));
}

#[tokio::test]
async fn threat_ca5_a_ban_in_the_middle_of_a_signature_lets_nothing_through() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (entry, first) = (web(&authority).await, agent(&authority).await);
    let requester = admitted(&authority, &first).await.unwrap();
    for _ in 0..20 {
        let asked = (Arc::clone(&authority), requester.clone(), entry.id.clone());
        let mut signing = tokio::task::JoinSet::new();
        signing.spawn(async move {
            let (authority, requester, entry) = asked;
            authority.sign(requester, &entry, &request().1).await
        });
        tokio::task::yield_now().await;
        authority.ban_agent(&first.id, "lost", "x", false).await.unwrap();
        if let Some(Ok(Ok(issued))) = signing.join_next().await {
            assert!(judge(&authority, &issued, &bench).is_err(), "released before the ban, and denied by it");
        }
    }
}

#[tokio::test]
async fn au_05_a_root_waits_for_agents_unless_they_all_say_that_they_know_it() {
    use crate::KeyKind;
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = agent(&authority).await;
    authority.prepare_key(KeyKind::Root, false, "x").await.unwrap();
    assert!(authority.activate_key(KeyKind::Root, false, "x").await.is_err(), "it may not know the root");
    let sequence = authority.bundle().sequence;
    let following = authority.follow(&first.id);
    assert!(authority.activate_key(KeyKind::Root, false, "x").await.is_err(), "it follows, and said nothing");
    authority.acknowledge(first.id.as_str(), sequence);
    drop(following);
    assert!(authority.activate_key(KeyKind::Root, false, "x").await.is_err(), "nobody knows what it knows");
    let _following = authority.follow(&first.id);
    authority.acknowledge(first.id.as_str(), sequence);
    authority.activate_key(KeyKind::Root, false, "x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sv_03_who_follows_is_dismissed_at_a_ban_an_eviction_and_the_end_of_its_svid_and_not_before() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let [banned, evicted, expired] =
        [agent(&authority).await, agent(&authority).await, agent(&authority).await];
    let follow = |issued: &Issued| Box::pin(authority.dismissal(issued.id.clone(), issued.not_after));
    let soon = HOUR / 60;
    let (ban, eviction, mut end) = (follow(&banned), follow(&evicted), follow(&expired));
    assert!(tokio::time::timeout(soon * 10, &mut end).await.is_err(), "it is an agent");
    // Before the first poll of the first two.
    authority.ban_agent(&banned.id, "lost", "test", true).await.unwrap();
    authority.evict_agent(&evicted.id, "test").await.unwrap();
    let now = std::time::Duration::from_millis(1);
    let why = tokio::time::timeout(now, ban).await.expect("at once");
    assert!(matches!(why, AuthorityError::AgentBanned(_)), "{why}");
    let why = tokio::time::timeout(now, eviction).await.expect("at once");
    assert!(matches!(why, AuthorityError::NotAnAgent(_)), "{why}");
    assert!(tokio::time::timeout(soon * 10, &mut end).await.is_err(), "the others are agents still");
    bench.clock.advance(DAY + HOUR);
    let why = tokio::time::timeout(soon * 2, end).await.expect("within a minute");
    assert!(matches!(why, AuthorityError::AgentExpired(_)), "{why}");
}
