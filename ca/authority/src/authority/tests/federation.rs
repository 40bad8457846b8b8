//! Relationships with other trust domains: made, kept over a restart, fetched, refused and ended.

use std::time::Duration;

use ca_identity::testing::TestCa;
use ca_identity::{Bundle, BundleMap, IdentitySnapshot, Refusal, SpiffeId, Usage, verify_svid};
use serde_json::{Value, json};

use crate::testing::{Bench, HOUR};
use crate::{Authority, EndpointPeer, FetchError, IdentityEvent, NewRelationship, Profile, Relationship};

const URL: &str = "https://bundle.partner.org/";

fn web(ca: &TestCa) -> NewRelationship {
    NewRelationship { trust_domain: ca.trust_domain().clone(), url: URL.to_owned(), profile: Profile::Web }
}

fn spiffe(ca: &TestCa, id: &str) -> NewRelationship {
    NewRelationship { profile: Profile::Spiffe(SpiffeId::parse(id).unwrap()), ..web(ca) }
}

/// The bundle of `ca` as it publishes it.
fn published(ca: &TestCa, sequence: u64, hint: u64) -> String {
    let mut document: Value = serde_json::from_str(&ca.bundle().to_jwks()).unwrap();
    document["spiffe_sequence"] = json!(sequence);
    document["spiffe_refresh_hint"] = json!(hint);
    document.to_string()
}

fn judge(authority: &Authority, ca: &TestCa, bench: &Bench) -> Result<(), Refusal> {
    let mut bundles = BundleMap::of(authority.bundle());
    for foreign in authority.federated_bundles() {
        bundles.insert(foreign).unwrap();
    }
    let trust = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
    let svid = ca.svid_with("/web", &[], Duration::from_secs(86_400));
    verify_svid(&svid.chain, &trust, Usage::Client, bench.now()).map(drop)
}

fn sequence(relation: &Relationship) -> u64 {
    relation.held.as_ref().unwrap().bundle.sequence
}

#[tokio::test]
async fn fe_09_bundles_are_fetched_ordered_and_kept_over_a_restart() {
    let (bench, ca) = (Bench::new(), TestCa::new("partner.org", ca_identity::testing::now()));
    let authority = bench.open().await;
    let domain = ca.trust_domain().clone();
    assert_eq!(judge(&authority, &ca, &bench), Err(Refusal::UnknownTrustDomain(domain.clone())));
    authority.create_federation(web(&ca), None, "test").await.unwrap();
    let again = authority.create_federation(web(&ca), None, "test").await.unwrap_err();
    assert_eq!(again.code(), "federation_exists");

    bench.endpoints.answer(URL, Ok(&published(&ca, 7, 60)));
    let (relation, fetched) = authority.refresh_federation(&domain).await.unwrap();
    assert_eq!((sequence(&relation), fetched.result), (7, Ok(URL.to_owned())));
    assert_eq!(judge(&authority, &ca, &bench), Ok(()));
    assert_eq!(relation.interval(), Duration::from_secs(60));

    bench.endpoints.answer(URL, Ok(&published(&ca, 6, 60)));
    let (relation, fetched) = authority.refresh_federation(&domain).await.unwrap();
    assert_eq!((sequence(&relation), fetched.result.unwrap_err().code), (7, "bundle_rollback"));
    let alarms =
        |event: &IdentityEvent| matches!(event, IdentityEvent::Alarm { code: "bundle_rollback", .. });
    authority.refresh_federation(&domain).await.unwrap();
    assert_eq!(bench.events.count(alarms), 1, "once, however often it is offered");

    drop(authority);
    let authority = bench.open().await;
    let relation = authority.federation(&domain).unwrap();
    assert_eq!((sequence(&relation), relation.with.clone()), (7, web(&ca)));
    assert_eq!(judge(&authority, &ca, &bench), Ok(()));
    let by_hand = published(&ca, 3, 60);
    let relation = authority.set_federated_bundle(&domain, &by_hand, "somebody").await.unwrap();
    assert_eq!(sequence(&relation), 3, "a person may go back; it stands until the next fetch");
    bench.endpoints.answer(URL, Ok(&published(&ca, 8, 60)));
    assert_eq!(sequence(&authority.refresh_federation(&domain).await.unwrap().0), 8);
    let foreign = TestCa::new("other.org", ca_identity::testing::now());
    let wrong = authority.set_federated_bundle(&domain, &published(&foreign, 9, 60), "somebody").await;
    assert_eq!(wrong.unwrap_err().code(), "wrong_trust_domain");
}

#[tokio::test]
async fn fe_07_a_bundle_that_is_not_seen_is_relied_on_for_ten_hints() {
    let (bench, ca) = (Bench::new(), TestCa::new("partner.org", ca_identity::testing::now()));
    let authority = bench.open().await;
    let domain = ca.trust_domain().clone();
    authority.create_federation(web(&ca), None, "test").await.unwrap();
    // A hint below the floor is one of ten seconds.
    bench.endpoints.answer(URL, Ok(&published(&ca, 1, 1)));
    authority.refresh_federation(&domain).await.unwrap();
    bench.clock.advance(Duration::from_secs(90));
    // The same again, seen again: the end moves, also for the next start.
    authority.refresh_federation(&domain).await.unwrap();
    bench.endpoints.answer(URL, Err(FetchError::Timeout));
    bench.clock.advance(Duration::from_secs(100));
    let (relation, fetched) = authority.refresh_federation(&domain).await.unwrap();
    assert_eq!((relation.state(bench.now()), fetched.result.unwrap_err().code), ("current", "timeout"));
    drop(authority);
    let authority = bench.open().await;
    assert_eq!(judge(&authority, &ca, &bench), Ok(()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(judge(&authority, &ca, &bench), Err(Refusal::BundleStale));
    // It recovers by itself.
    bench.endpoints.answer(URL, Ok(&published(&ca, 1, 1)));
    authority.refresh_federation(&domain).await.unwrap();
    assert_eq!(judge(&authority, &ca, &bench), Ok(()));
    // A hint of centuries is no word for ever.
    bench.endpoints.answer(URL, Ok(&published(&ca, 2, u64::MAX)));
    let (relation, _) = authority.refresh_federation(&domain).await.unwrap();
    let end = relation.held.as_ref().unwrap().bundle.stale_after.unwrap();
    assert!(end <= bench.now() + HOUR * 24 * 70, "{end}");
}

#[tokio::test]
async fn fe_05_the_server_is_verified_with_the_newest_bundle_of_its_own_domain() {
    let now = ca_identity::testing::now();
    let (bench, ca, host) = (Bench::new(), TestCa::new("partner.org", now), TestCa::new("host.org", now));
    let authority = bench.open().await;
    let own = spiffe(&ca, "spiffe://partner.org/bundle");
    let bare = authority.create_federation(own.clone(), None, "test").await.unwrap_err();
    assert_eq!(bare.code(), "bundle_needed");
    let first = published(&ca, 1, 60);
    authority.create_federation(own, Some(&first), "test").await.unwrap();
    let asked = |n: usize| match bench.endpoints.asked.lock()[n].peer.clone() {
        EndpointPeer::Spiffe { id, bundle } => {
            (id.to_string(), bundle.trust_domain.to_string(), bundle.sequence)
        }
        EndpointPeer::Web => panic!("not by name"),
    };
    bench.endpoints.answer(URL, Ok(&published(&ca, 2, 60)));
    authority.refresh_federation(ca.trust_domain()).await.unwrap();
    authority.refresh_federation(ca.trust_domain()).await.unwrap();
    let partner = |sequence| ("spiffe://partner.org/bundle".to_owned(), "partner.org".to_owned(), sequence);
    assert_eq!((asked(0), asked(1)), (partner(1), partner(2)));

    // Another domain serves it: its own relationship says how it is known.
    let hosted = spiffe(&ca, "spiffe://host.org/bundle");
    authority.update_federation(hosted, "test").await.unwrap();
    let (_, fetched) = authority.refresh_federation(ca.trust_domain()).await.unwrap();
    assert_eq!(fetched.result.unwrap_err().code, "no_bundle");
    let host_url = "https://host.org/";
    let of_host = NewRelationship { url: host_url.to_owned(), ..web(&host) };
    authority.create_federation(of_host, Some(&published(&host, 5, 60)), "test").await.unwrap();
    authority.refresh_federation(ca.trust_domain()).await.unwrap();
    assert_eq!(asked(2), ("spiffe://host.org/bundle".to_owned(), "host.org".to_owned(), 5));
}

#[tokio::test]
async fn fe_10_an_ended_relationship_takes_its_bundle_and_its_fetches_with_it() {
    let (bench, ca) = (Bench::new(), TestCa::new("partner.org", ca_identity::testing::now()));
    let authority = bench.open().await;
    let domain = ca.trust_domain().clone();
    authority.create_federation(web(&ca), Some(&published(&ca, 1, 60)), "test").await.unwrap();
    let mut told = authority.watch_federation();
    told.mark_unchanged();
    authority.delete_federation(&domain, "test").await.unwrap();
    assert!(told.has_changed().unwrap() && authority.last_fetch(&domain).is_none());
    assert_eq!(judge(&authority, &ca, &bench), Err(Refusal::UnknownTrustDomain(domain.clone())));
    assert_eq!(authority.refresh_federation(&domain).await.unwrap_err().code(), "unknown_federation");
    let rows = bench.store.all();
    assert!(!rows.iter().any(|row| row.key.starts_with(b"ca/federat")), "something is left");
    // What was under way when it ended is not taken.
    authority.create_federation(web(&ca), None, "test").await.unwrap();
    let fetching = authority.refresh_federation(&domain);
    let ending = async {
        tokio::task::yield_now().await;
        authority.delete_federation(&domain, "test").await.unwrap();
        bench.endpoints.answer(URL, Ok(&published(&ca, 2, 60)));
    };
    let (fetched, ()) = tokio::join!(tokio::time::timeout(Duration::from_millis(50), fetching), ending);
    assert!(fetched.is_err(), "the endpoint was silent");
    assert_eq!(authority.federations().len(), 0);
}

#[tokio::test]
async fn tb_10_a_root_of_our_own_or_of_another_domain_is_not_taken() {
    let (bench, now) = (Bench::new(), ca_identity::testing::now());
    let authority = bench.open().await;
    let shared = ca_identity::testing::nameless_root(now);
    let document = |domain: &str| {
        let domain = ca_identity::TrustDomain::parse(domain).unwrap();
        (domain.clone(), Bundle::new(domain, vec![shared.clone()], 1).unwrap().to_jwks())
    };
    for (name, taken) in [("first.org", true), ("second.org", false)] {
        let (trust_domain, text) = document(name);
        let url = format!("https://{name}/");
        let new =
            NewRelationship { trust_domain: trust_domain.clone(), url: url.clone(), profile: Profile::Web };
        authority.create_federation(new, None, "test").await.unwrap();
        bench.endpoints.answer(&url, Ok(&text));
        let (relation, fetched) = authority.refresh_federation(&trust_domain).await.unwrap();
        assert_eq!((relation.held.is_some(), fetched.result.is_ok()), (taken, taken), "{name}");
        if let Err(fault) = fetched.result {
            assert_eq!(fault.code, "shared_root");
        }
    }
}

#[tokio::test]
async fn fe_03_the_configuration_owns_what_it_names_and_leaves_alone_what_people_made() {
    let now = ca_identity::testing::now();
    let (bench, ca, other) = (Bench::new(), TestCa::new("partner.org", now), TestCa::new("other.org", now));
    let authority = bench.open().await;
    authority.create_federation(web(&other), None, "somebody").await.unwrap();
    authority.apply_federation(vec![(web(&ca), Some(published(&ca, 4, 60)))]).await.unwrap();
    let domain = ca.trust_domain();
    assert_eq!(sequence(&authority.federation(domain).unwrap()), 4);
    bench.endpoints.answer(URL, Ok(&published(&ca, 5, 60)));
    authority.refresh_federation(domain).await.unwrap();
    let moved = NewRelationship { url: "https://new.partner.org/".to_owned(), ..web(&ca) };
    authority.apply_federation(vec![(moved.clone(), Some(published(&ca, 4, 60)))]).await.unwrap();
    let relation = authority.federation(domain).unwrap();
    assert_eq!(
        (relation.with.clone(), sequence(&relation)),
        (moved, 5),
        "the first bundle was for the first time"
    );
    authority.apply_federation(Vec::new()).await.unwrap();
    let left: Vec<_> =
        authority.federations().iter().map(|left| left.with.trust_domain.to_string()).collect();
    assert_eq!(left, ["other.org"]);
}

#[tokio::test]
async fn au_05_a_root_waits_five_hints_when_others_fetch_the_bundle() {
    let bench = Bench::new();
    let mut config = bench.config.clone();
    config.outside_hint = Some(Duration::from_secs(60));
    let authority = Authority::open(config, bench.ports()).await.unwrap();
    authority.prepare_key(crate::KeyKind::Root, false, "test").await.unwrap();
    bench.clock.advance(Duration::from_secs(299));
    let early = authority.activate_key(crate::KeyKind::Root, false, "test").await.unwrap_err();
    assert!(early.to_string().contains("others know it by"), "{early}");
    bench.clock.advance(Duration::from_secs(1));
    authority.activate_key(crate::KeyKind::Root, false, "test").await.unwrap();
}

#[tokio::test]
async fn fe_07_bundles_are_fetched_when_their_hint_says_so_and_after_a_fault_no_sooner() {
    let (bench, ca) = (Bench::new(), TestCa::new("partner.org", ca_identity::testing::now()));
    let authority = bench.open().await;
    let domain = ca.trust_domain();
    let due = || authority.due_fetches().len();
    assert_eq!(due(), 0);
    authority.create_federation(web(&ca), Some(&published(&ca, 1, 60)), "test").await.unwrap();
    assert_eq!(due(), 1, "at once");
    bench.endpoints.answer(URL, Err(FetchError::Timeout));
    authority.refresh_federation(domain).await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(due(), 0, "a fault waits for the next interval");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(due(), 1);
    bench.endpoints.answer(URL, Ok(&published(&ca, 2, 5)));
    authority.refresh_federation(domain).await.unwrap();
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(due(), 0, "the floor is ten seconds");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(due(), 1);
    authority
        .update_federation(NewRelationship { url: "https://new.org/".to_owned(), ..web(&ca) }, "test")
        .await
        .unwrap();
    bench.endpoints.answer("https://new.org/", Err(FetchError::Timeout));
    authority.refresh_federation(domain).await.unwrap();
    authority.update_federation(web(&ca), "test").await.unwrap();
    assert_eq!(due(), 1, "another place is asked at once");
}
