//! Signing CAs over time (AU-06), on the whole authority.

use std::sync::Arc;

use ca_identity::{BundleMap, IdentitySnapshot, Usage, verify_svid};

use crate::keys::{KeyKind, KeyState};
use crate::testing::{Bench, DAY, HOUR, request, web};
use crate::{Authority, AuthorityError, Issued, Requester};

async fn sign(authority: &Arc<Authority>) -> Result<Issued, AuthorityError> {
    let entry = match authority.list_entries(&Default::default(), None, 1).pop() {
        Some(entry) => entry,
        None => web(authority).await,
    };
    authority.sign(Requester::Local, &entry.id, &request().1).await
}

#[tokio::test]
async fn au_06_a_signing_ca_is_prepared_activated_and_retired_and_nothing_stops_verifying() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = authority.keys()[1].key_id;
    assert_eq!(authority.sweep_rotation().await.unwrap(), crate::Rotation::default());

    bench.clock.advance(DAY * 4);
    let swept = authority.sweep_rotation().await.unwrap();
    let (_, next) = *swept.prepared.iter().find(|(kind, _)| *kind == KeyKind::Signing).unwrap();
    assert_eq!(swept.activated, []);
    assert_eq!(Some(&sign(&authority).await.unwrap().chain[1]), authority.keys()[1].certificate());

    bench.clock.advance(DAY * 2);
    let before = sign(&authority).await.unwrap();
    let reopened = bench.open().await;
    assert_eq!(
        reopened
            .keys()
            .iter()
            .find(|key| key.state == KeyState::Active && key.kind == KeyKind::Signing)
            .unwrap()
            .key_id,
        next
    );
    let after = sign(&reopened).await.unwrap();
    assert_ne!(before.chain[1], after.chain[1]);
    let trust = IdentitySnapshot { bundles: BundleMap::of(reopened.bundle()), ..IdentitySnapshot::default() };
    for issued in [&before, &after] {
        assert!(verify_svid(&issued.chain, &trust, Usage::Server, bench.now()).is_ok());
    }
    assert_eq!(reopened.bundle().sequence, authority.bundle().sequence);

    bench.clock.advance(DAY * 3);
    let swept = reopened.sweep_rotation().await.unwrap();
    assert!(swept.retired.contains(&(KeyKind::Signing, first)));
    assert!(!bench.key_files().iter().any(|path| path.to_string_lossy().contains(&first.to_string())));
}

#[tokio::test]
async fn au_06_a_failed_step_is_resumed_by_the_next_sweep() {
    let bench = Bench::new();
    let authority = bench.open().await;
    bench.clock.advance(DAY * 4);
    bench.store.fail(true);
    assert!(authority.sweep_rotation().await.is_err());
    assert_eq!(authority.keys().len(), 3);
    bench.store.fail(false);
    assert_eq!(authority.sweep_rotation().await.unwrap().prepared.len(), 2);
}

#[tokio::test]
async fn ca8_after_a_month_asleep_the_first_start_issues_again_and_no_leaf_outlives_its_ca() {
    let bench = Bench::new();
    bench.open().await;
    bench.clock.advance(DAY * 30);
    let authority = bench.open().await;
    let issued = sign(&authority).await.unwrap();
    let ca = ca_identity::inspect::certificate(&issued.chain[1]).unwrap();
    assert!(issued.not_after <= ca.not_after && issued.not_before >= ca.not_before);
}

#[tokio::test]
async fn ca8_after_more_than_a_year_asleep_the_root_is_replaced_and_nothing_is_issued_under_the_old_one() {
    let bench = Bench::new();
    let before = bench.open().await.keys();
    bench.clock.advance(DAY * 366);
    let authority = bench.open().await;
    let issued = sign(&authority).await.unwrap();
    assert!(before.iter().all(|slot| slot.certificate() != Some(&issued.chain[1])));
    let trust =
        IdentitySnapshot { bundles: BundleMap::of(authority.bundle()), ..IdentitySnapshot::default() };
    assert!(verify_svid(&issued.chain, &trust, Usage::Server, bench.now()).is_ok());
}

#[tokio::test]
async fn ca8_a_clock_behind_the_last_issue_stops_issuance() {
    let bench = Bench::new();
    let authority = bench.open().await;
    sign(&authority).await.unwrap();
    let now = bench.now();
    bench.clock.set_wall(now - HOUR);
    assert!(matches!(sign(&authority).await, Err(AuthorityError::ClockBehind)));
    bench.clock.set_wall(now);
    assert!(sign(&authority).await.is_ok());
}

#[tokio::test]
async fn s17_records_of_expired_certificates_leave_the_store() {
    let bench = Bench::new();
    let authority = bench.open().await;
    sign(&authority).await.unwrap();
    authority.create_join_token(HOUR).await.unwrap();
    assert_eq!(authority.sweep_rotation().await.unwrap().pruned, 0);
    bench.clock.advance(HOUR * 2);
    sign(&authority).await.unwrap();
    assert_eq!(authority.sweep_rotation().await.unwrap().pruned, 2);
    assert_eq!(authority.issued(None, 10).unwrap().len(), 1);
}
