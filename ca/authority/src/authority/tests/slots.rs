//! The steps of keys by a person's word (AU-04, AU-05, AU-07, AU-08), and roots over time (AU-06).

use std::sync::Arc;

use base_store::Transaction;
use ca_identity::{BundleMap, IdentitySnapshot, Refusal, Usage, verify_svid};

use crate::attest::Evidence;
use crate::keys::{KeyInfo, KeyKind, KeyState};
use crate::ports::IdentityEvent;
use crate::testing::{Bench, DAY, HOUR, judge, request, web};
use crate::{Authority, Issued, Requester};

const BY: &str = "local user 0";

async fn sign(authority: &Arc<Authority>) -> Issued {
    let entry = match authority.list_entries(&Default::default(), None, 1).pop() {
        Some(entry) => entry,
        None => web(authority).await,
    };
    authority.sign(Requester::Local, &entry.id, &request().1).await.unwrap()
}

fn key(authority: &Authority, kind: KeyKind, state: KeyState) -> Option<KeyInfo> {
    authority.keys().into_iter().find(|slot| slot.kind == kind && slot.state == state)
}

fn code<T: std::fmt::Debug>(answer: Result<T, crate::AuthorityError>) -> &'static str {
    answer.unwrap_err().code()
}

#[tokio::test]
async fn au_04_each_step_has_its_guard_and_says_the_command_that_leads_on() {
    let bench = Bench::new();
    let authority = bench.open().await;
    for kind in [KeyKind::Root, KeyKind::Signing, KeyKind::Jwt] {
        assert_eq!(code(authority.activate_key(kind, false, BY).await), "none_prepared");
        let first = authority.prepare_key(kind, false, BY).await.unwrap();
        assert_eq!(code(authority.prepare_key(kind, false, BY).await), "key_waits");
        let second = authority.prepare_key(kind, true, BY).await.unwrap();
        assert!(!authority.keys().iter().any(|slot| slot.key_id == first.key_id));
        let gone = first.key_id.to_string();
        assert!(!bench.key_files().iter().any(|path| path.to_string_lossy().contains(&gone)));
        for state in [KeyState::Active, KeyState::Prepared] {
            let id = key(&authority, kind, state).unwrap().key_id;
            assert_eq!(code(authority.taint_key(kind, Some(id), BY).await), "key_not_old");
            assert_eq!(code(authority.revoke_key(kind, Some(id), true, (BY, "x")).await), "key_not_old");
        }
        // A root that was replaced has left an old signing CA behind.
        if kind != KeyKind::Signing {
            assert_eq!(code(authority.taint_key(kind, None, BY).await), "which_key");
        }
        // RG-24: a successor at its own end is none.
        let life = second.not_after.saturating_since(bench.now());
        bench.clock.set_wall(second.not_after - HOUR);
        assert_eq!(code(authority.activate_key(kind, true, BY).await), "key_near_end");
        bench.clock.set_wall(second.not_after - life);
        let before = key(&authority, kind, KeyState::Active).unwrap().key_id;
        authority.activate_key(kind, true, BY).await.unwrap();
        assert_eq!(key(&authority, kind, KeyState::Active).unwrap().key_id, second.key_id);
        let fault = authority.revoke_key(kind, Some(before), false, (BY, "x")).await.unwrap_err();
        assert_eq!(fault.code(), "key_not_tainted");
        assert!(fault.to_string().contains("`portcullis ca taint --kind "), "{fault}");
        assert_eq!(code(authority.revoke_key(kind, Some(before), true, (BY, "")).await), "reason_invalid");
        assert!(authority.taint_key(kind, Some(before), BY).await.unwrap().tainted);
        let revoked = authority.revoke_key(kind, Some(before), false, (BY, "leaked")).await.unwrap();
        assert_eq!(revoked.state, KeyState::Revoked);
        assert!(!bench.key_files().iter().any(|path| path.to_string_lossy().contains(&before.to_string())));
        assert_eq!(code(authority.revoke_key(kind, Some(before), true, (BY, "x")).await), "key_not_old");
    }
    let revoked = |event: &IdentityEvent| matches!(event, IdentityEvent::KeyRevoked { by, reason, .. } if by == BY && reason == "leaked");
    assert_eq!(bench.events.count(revoked), 3);
    // All of it is there again after a restart, and the sweep removes the slots once they have ended.
    let reopened = bench.open().await;
    assert_eq!(reopened.keys(), authority.keys());
    bench.clock.advance(DAY * 9);
    reopened.sweep_rotation().await.unwrap();
    assert!(reopened.keys().iter().all(|slot| slot.kind == KeyKind::Root || slot.state != KeyState::Revoked));
}

#[tokio::test]
async fn au_04_a_root_is_known_before_it_signs_and_nothing_stops_verifying() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let old = sign(&authority).await;
    let before = authority.bundle();
    let prepared = authority.prepare_key(KeyKind::Root, false, BY).await.unwrap();
    let known = authority.bundle();
    assert!(known.sequence > before.sequence && known.certificates().count() == 2);
    assert_eq!(sign(&authority).await.chain[1], old.chain[1], "it signs nothing yet");
    authority.activate_key(KeyKind::Root, false, BY).await.unwrap();
    assert_eq!(authority.bundle().sequence, known.sequence, "activation adds nothing to the bundle");
    let fresh = sign(&authority).await;
    assert_ne!(fresh.chain[1], old.chain[1]);
    let signing = key(&authority, KeyKind::Signing, KeyState::Active).unwrap();
    assert_eq!(signing.issuer(), Some(prepared.key_id));
    for issued in [&old, &fresh] {
        assert_eq!(judge(&authority, issued, &bench), Ok(()));
    }
    // Those who know the bundle from before activation take both.
    let trust = IdentitySnapshot { bundles: BundleMap::of(known), ..IdentitySnapshot::default() };
    assert!(verify_svid(&fresh.chain, &trust, Usage::Server, bench.now()).is_ok());
}

#[tokio::test]
async fn au_05_a_root_waits_for_the_roles_of_this_process_and_for_agents_elsewhere() {
    let bench = Bench::new();
    let authority = bench.open().await;
    authority.acknowledge("gateway", authority.bundle().sequence);
    authority.prepare_key(KeyKind::Root, false, BY).await.unwrap();
    assert_eq!(code(authority.activate_key(KeyKind::Root, false, BY).await), "bundle_not_taken");
    authority.acknowledge("gateway", authority.bundle().sequence);
    let token = authority.create_join_token(HOUR).await.unwrap();
    authority.attest(Evidence::JoinToken(token.token), &request().1).await.unwrap();
    assert_eq!(code(authority.activate_key(KeyKind::Root, false, BY).await), "key_not_known");
    bench.clock.advance(DAY);
    authority.activate_key(KeyKind::Root, false, BY).await.unwrap();
    // Force is on record.
    authority.prepare_key(KeyKind::Root, false, BY).await.unwrap();
    authority.activate_key(KeyKind::Root, true, BY).await.unwrap();
    let forced = |event: &IdentityEvent| matches!(event, IdentityEvent::KeyActivated { by, .. } if by.ends_with("by force"));
    assert_eq!(bench.events.count(forced), 2, "the root and its signing CA");
}

#[tokio::test]
async fn au_05_a_key_for_tokens_is_not_rotated_before_others_have_seen_it() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let fault = authority.rotate_key(KeyKind::Jwt, false, BY).await.unwrap_err();
    assert_eq!(fault.code(), "key_not_known");
    assert_eq!(authority.bundle().jwt_keys().len(), 2, "it stays prepared, and published");
    bench.clock.advance(crate::rotate::PUBLISHED_BEFORE);
    authority.rotate_key(KeyKind::Jwt, false, BY).await.unwrap();
    authority.taint_key(KeyKind::Jwt, None, BY).await.unwrap();
    authority.revoke_key(KeyKind::Jwt, None, false, (BY, "leaked")).await.unwrap();
    assert_eq!(authority.bundle().jwt_keys().len(), 1);
    assert_eq!(authority.watch_revoked().borrow().len(), 1);
}

#[tokio::test]
async fn s36_tainted_still_verifies_and_revoked_does_not() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let old = sign(&authority).await;
    authority.rotate_key(KeyKind::Signing, false, BY).await.unwrap();
    let fresh = sign(&authority).await;
    authority.taint_key(KeyKind::Signing, None, BY).await.unwrap();
    let id = &old.id;
    let path = |issued: &Issued| {
        let slot = authority.keys().into_iter().find(|slot| slot.certificate() == Some(&issued.chain[1]));
        [ca_identity::PathLink { issuer: slot.unwrap().key_id, serial: issued.serial.clone() }]
    };
    let tainted = authority.tainted();
    assert!(tainted.check_path(id, &path(&old)).is_err() && tainted.check_path(id, &path(&fresh)).is_ok());
    assert_eq!(judge(&authority, &old, &bench), Ok(()));
    let (planned, live) = authority.plan_key_revocation(KeyKind::Signing, None, false).await.unwrap();
    assert_eq!((planned.state, live), (KeyState::Old, 1));
    authority.revoke_key(KeyKind::Signing, None, false, (BY, "leaked")).await.unwrap();
    assert_eq!(judge(&authority, &old, &bench), Err(Refusal::RevokedIssuer));
    assert_eq!(judge(&authority, &fresh, &bench), Ok(()));
    assert!(authority.tainted().is_empty());
    // Nobody brings it back.
    let [revocation] = <[_; 1]>::try_from(authority.revocations(None, 9).unwrap()).unwrap();
    assert_eq!(code(authority.lift(&revocation.what, BY).await), "revoked_for_good");
    let reopened = bench.open().await;
    assert_eq!(judge(&reopened, &old, &bench), Err(Refusal::RevokedIssuer));
}

#[tokio::test]
async fn au_07_a_revoked_root_takes_everything_below_it_along() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let old = sign(&authority).await;
    authority.rotate_key(KeyKind::Root, false, BY).await.unwrap();
    let fresh = sign(&authority).await;
    let (_, live) = authority.plan_key_revocation(KeyKind::Root, None, true).await.unwrap();
    assert_eq!(live, 1);
    let sequence = authority.bundle().sequence;
    authority.revoke_key(KeyKind::Root, None, true, (BY, "leaked")).await.unwrap();
    assert!(authority.bundle().sequence > sequence && authority.bundle().certificates().count() == 1);
    assert!(judge(&authority, &old, &bench).is_err());
    assert_eq!(judge(&authority, &fresh, &bench), Ok(()));
    let shown: Vec<_> = authority.issued(None, 9).unwrap();
    assert_eq!(shown.iter().filter(|record| authority.is_revoked(record)).count(), 1);
    // There is always an active root, and only old ones are revoked.
    let active = key(&authority, KeyKind::Root, KeyState::Active).unwrap().key_id;
    assert_eq!(code(authority.revoke_key(KeyKind::Root, Some(active), true, (BY, "x")).await), "key_not_old");
}

#[tokio::test]
async fn au_06_a_root_is_replaced_in_time_by_itself_and_after_years_asleep() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = key(&authority, KeyKind::Root, KeyState::Active).unwrap();
    let mut alarms = 0;
    for _ in 0..366 {
        bench.clock.advance(DAY);
        authority.sweep_rotation().await.unwrap();
        assert_eq!(judge(&authority, &sign(&authority).await, &bench), Ok(()));
        alarms += bench.events.count(|event| matches!(event, IdentityEvent::Alarm { .. }));
    }
    let second = key(&authority, KeyKind::Root, KeyState::Active).unwrap();
    assert!(second.key_id != first.key_id && alarms == 0, "{alarms} alarms");
    assert_eq!(key(&authority, KeyKind::Root, KeyState::Old).unwrap().key_id, first.key_id);

    bench.clock.advance(DAY * 800);
    let late = bench.open().await;
    assert_eq!(judge(&late, &sign(&late).await, &bench), Ok(()));
    assert_eq!(late.bundle().certificates().count(), 1);
}

#[tokio::test]
async fn au_06_a_step_that_failed_left_everything_as_it_was() {
    let bench = Bench::new();
    let authority = bench.open().await;
    authority.rotate_key(KeyKind::Signing, false, BY).await.unwrap();
    let (keys, sequence) = (authority.keys(), authority.bundle().sequence);
    bench.store.fail(true);
    assert_eq!(code(authority.prepare_key(KeyKind::Root, false, BY).await), "store_unavailable");
    assert_eq!(code(authority.rotate_key(KeyKind::Signing, false, BY).await), "store_unavailable");
    assert_eq!(code(authority.taint_key(KeyKind::Signing, None, BY).await), "store_unavailable");
    assert_eq!(
        code(authority.revoke_key(KeyKind::Signing, None, true, (BY, "x")).await),
        "store_unavailable"
    );
    bench.store.fail(false);
    assert_eq!((authority.keys(), authority.bundle().sequence), (keys, sequence));
    assert!(authority.watch_revoked().borrow().is_empty());
    assert_eq!(bench.open().await.keys(), authority.keys());
}

#[tokio::test]
async fn au_08_the_bundle_never_becomes_empty() {
    let bench = Bench::new();
    let authority = bench.open().await;
    // No step leads there; the last line of defence is where every step is committed.
    let mut table = authority.table.lock().await;
    let root = table.find(KeyKind::Root, KeyState::Active).unwrap().clone();
    let next = table.with(KeyInfo { state: KeyState::Revoked, ..root });
    assert_eq!(code(authority.commit_table(&mut table, next, Transaction::new()).await), "last_root");
    drop(table);
    assert_eq!(authority.bundle().certificates().count(), 1);
}
