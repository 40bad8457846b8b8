//! Revocations (RV-03, RV-05, RV-08), on the whole authority.

use std::time::Duration;

use base_store::{Store, Transaction};
use ca_identity::{Refusal, Revoked, Serial};

use crate::ports::IdentityEvent;
use crate::revocation::{self, Named, NewRevocation};
use crate::testing::{Bench, DAY, HOUR, id, judge, request, web};
use crate::{Authority, AuthorityError, Issued, Requester};

fn new(what: Named) -> NewRevocation {
    NewRevocation { what, reason: "lost".to_owned(), author: "local user 0".to_owned(), until: None }
}

fn certificate(serial: &Serial) -> NewRevocation {
    new(Named::Certificate { serial: serial.clone(), issuer: None })
}

async fn issued(authority: &Authority) -> Issued {
    let entry = web(authority).await;
    authority.sign(Requester::Local, &entry.id, &request().1).await.unwrap()
}

#[tokio::test]
async fn rv_03_a_serial_is_denied_under_its_issuer_until_its_end_with_reason_and_author() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let issued = issued(&authority).await;
    let told = authority.watch_revoked();
    let made = authority.revoke(certificate(&issued.serial)).await.unwrap();
    assert!(told.has_changed().unwrap());
    let signing = authority.keys()[1].key_id;
    assert_eq!(made.what, Revoked::certificate(signing, issued.serial.clone()));
    assert_eq!(
        (made.until, made.reason.as_str(), made.author.as_str()),
        (Some(issued.not_after), "lost", "local user 0")
    );
    assert_eq!(judge(&authority, &issued, &bench), Err(Refusal::RevokedCertificate));
    assert_eq!(authority.live_svids(&made.what).await.unwrap(), 1);
    assert!(authority.is_revoked(&authority.issued(None, 1).unwrap()[0]));
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::Revoked(told) if *told == made)), 1);
    let again = authority.revoke(certificate(&issued.serial)).await;
    assert!(matches!(again, Err(AuthorityError::AlreadyRevoked(_))));

    // It comes back, on record; then nothing of that name is denied.
    assert_eq!(authority.lift(&made.what, "local user 1").await.unwrap(), made);
    assert_eq!(judge(&authority, &issued, &bench), Ok(()));
    assert_eq!(authority.revocations(None, 9).unwrap(), []);
    assert_eq!(
        bench.events.count(
            |event| matches!(event, IdentityEvent::RevocationLifted { by, .. } if by == "local user 1")
        ),
        1
    );
    assert!(matches!(authority.lift(&made.what, "x").await, Err(AuthorityError::NotRevoked(_))));
}

#[tokio::test]
async fn rv_03_what_cannot_be_denied_is_refused_and_says_why() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let refused = async |new| authority.revoke(new).await.unwrap_err().code();
    let unknown = Serial::from_bytes(&[7]);
    assert_eq!(refused(certificate(&unknown)).await, "unknown_certificate");
    let foreign = ca_identity::KeyId::from_bytes([9; 20]);
    let named = || new(Named::Certificate { serial: unknown.clone(), issuer: Some(foreign) });
    assert_eq!(refused(named()).await, "no_end");
    let until = Some(bench.now() + HOUR);
    let made = authority.revoke(NewRevocation { until, ..named() }).await.unwrap();
    assert_eq!(made.until, until);
    for reason in ["", "two\nlines", &"x".repeat(201)] {
        let reason = reason.to_owned();
        assert_eq!(refused(NewRevocation { reason, ..new(Named::Id(id("/web"))) }).await, "reason_invalid");
    }
    // Roles of this process, the authority itself, and the key that signs tokens.
    authority.issue_own(&id("/gateway"), &[], &request().1).await.unwrap();
    for own in [id("/gateway"), authority.local_agent().clone(), authority.config().trust_domain.id()] {
        assert_eq!(refused(new(Named::Id(own))).await, "own_role");
    }
    let domain = || authority.config().trust_domain.clone();
    let kid = authority.keys().last().unwrap().key_id.to_string();
    assert_eq!(refused(new(Named::JwtKey { domain: domain(), kid })).await, "key_in_use");
    assert_eq!(refused(new(Named::JwtKey { domain: domain(), kid: "other".into() })).await, "no_end");
    assert_eq!(refused(new(Named::Token { domain: domain(), jti: "a\nb".into() })).await, "name_invalid");
    bench.store.fail(true);
    assert_eq!(refused(new(Named::Id(id("/web")))).await, "store_unavailable");
    assert!(
        !authority.watch_revoked().borrow().has_id(&id("/web")),
        "nothing is denied before it is durable"
    );
}

#[tokio::test]
async fn rv_03_nothing_is_issued_for_a_revoked_identity_until_that_is_lifted() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let local = authority.local_agent().clone();
    assert_eq!(authority.entries_for(&local).len(), 1);
    let made = authority.revoke(new(Named::Id(id("/web")))).await.unwrap();
    assert_eq!(made.until, None);
    assert_eq!(authority.entries_for(&local).len(), 0, "agents do not see the entry, so they withdraw it");
    let sign = async || authority.sign(Requester::Local, &entry.id, &request().1).await.map(drop);
    let token = async || authority.sign_token(Requester::Local, &entry.id, vec!["a".into()]).await.map(drop);
    for refused in [sign().await, token().await] {
        assert_eq!(refused.unwrap_err().code(), "revoked");
    }
    // It stays so for good: no end is known.
    bench.clock.advance(DAY * 2);
    authority.sweep_rotation().await.unwrap();
    assert_eq!(sign().await.unwrap_err().code(), "revoked");
    authority.lift(&made.what, "x").await.unwrap();
    assert!(sign().await.is_ok() && token().await.is_ok());
}

#[tokio::test]
async fn rv_03_a_signature_under_way_is_not_released_once_its_identity_is_revoked() {
    let bench = Bench::new();
    let authority = bench.open().await;
    authority.revoke(new(Named::Id(id("/web")))).await.unwrap();
    // What passed the look at the set meets the record in the same transaction as its own.
    let transaction = revocation::unless_revoked(Transaction::new().put("x", "y"), &id("/web"));
    let fault = bench.store.commit(transaction).await.unwrap_err();
    assert_eq!(revocation::lost(fault, &id("/web")).code(), "revoked");
    let transaction = revocation::unless_revoked(Transaction::new().put("x", "y"), &id("/other"));
    bench.store.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn rv_05_an_item_leaves_ten_minutes_after_what_it_denies_has_ended() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let issued = issued(&authority).await;
    authority.revoke(certificate(&issued.serial)).await.unwrap();
    authority.revoke(new(Named::Id(id("/other")))).await.unwrap();
    let held = async || {
        authority.sweep_rotation().await.unwrap();
        authority.watch_revoked().borrow().len()
    };
    bench.clock.advance(HOUR + Duration::from_secs(600));
    assert_eq!(held().await, 2);
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(held().await, 1);
    let left = authority.revocations(None, 9).unwrap();
    assert_eq!(left.iter().map(|left| left.what.clone()).collect::<Vec<_>>(), [Revoked::Id(id("/other"))]);
    let rows = bench.store.all();
    assert_eq!(rows.iter().filter(|row| row.key.starts_with(b"ca/revoked")).count(), 1);
}

#[tokio::test]
async fn rv_08_the_set_survives_a_restart() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let issued = issued(&authority).await;
    authority.revoke(certificate(&issued.serial)).await.unwrap();
    let reopened = bench.open().await;
    assert_eq!(judge(&reopened, &issued, &bench), Err(Refusal::RevokedCertificate));
    assert_eq!(reopened.revocations(None, 9).unwrap(), authority.revocations(None, 9).unwrap());
}
