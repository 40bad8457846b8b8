//! Revocation lists as others read them (RV-06).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ca_identity::pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use crate::keys::{KeyKind, KeyState};
use crate::revocation::{Named, NewRevocation};
use crate::testing::{Bench, HOUR, id, request, web};
use crate::{Authority, Crl, Issued, Requester};

const BY: &str = "local user 0";

async fn sign(authority: &Arc<Authority>, entry: &str) -> Issued {
    authority.sign(Requester::Local, entry, &request().1).await.unwrap()
}

async fn revoke(authority: &Authority, what: Named) {
    let new = NewRevocation { what, reason: "test".to_owned(), author: BY.to_owned(), until: None };
    authority.revoke(new).await.unwrap();
}

fn certificate(issued: &Issued) -> Named {
    Named::Certificate { serial: issued.serial.clone(), issuer: None }
}

fn lists(authority: &Authority) -> Arc<[Crl]> {
    Arc::clone(&authority.watch_crls().borrow())
}

/// The list of the active key of that kind.
fn list(authority: &Authority, kind: KeyKind) -> Crl {
    let is_it = |slot: &crate::KeyInfo| slot.kind == kind && slot.state == KeyState::Active;
    let key = authority.keys().into_iter().find(is_it).unwrap().key_id;
    lists(authority).iter().find(|list| list.issuer == key).unwrap().clone()
}

/// Serial numbers of a list, in its order, each with its reason.
fn named(list: &Crl) -> Vec<(Vec<u8>, Option<u8>)> {
    let (_, read) = CertificateRevocationList::from_der(&list.der).unwrap();
    let of = |item: &RevokedCertificate<'_>| {
        (item.raw_serial().to_vec(), item.reason_code().map(|(_, reason)| reason.0))
    };
    read.iter_revoked_certificates().map(of).collect()
}

#[tokio::test]
async fn rv_06_a_list_names_what_is_revoked_by_its_serial_by_its_identity_and_by_its_authority() {
    let bench = Bench::new();
    let authority = bench.open().await;
    assert!(lists(&authority).is_empty() && authority.crls_are_due());
    let entry = web(&authority).await.id.clone();
    let (one, other) = (sign(&authority, &entry).await, sign(&authority, &entry).await);
    authority.refresh_crls().await.unwrap();
    assert!(!authority.crls_are_due());
    let empty = list(&authority, KeyKind::Signing);
    assert_eq!((empty.entries, named(&empty)), (0, Vec::new()));
    assert_eq!((empty.this_update, empty.next_update), (bench.now() - HOUR / 60, bench.now() + HOUR));

    revoke(&authority, certificate(&one)).await;
    authority.refresh_crls().await.unwrap();
    let first = list(&authority, KeyKind::Signing);
    assert_eq!(named(&first), [(one.serial.as_bytes().to_vec(), None)]);
    assert!(first.number > empty.number);

    // An identity takes with it what it holds and has not ended; what was named before keeps its own word.
    revoke(&authority, Named::Id(id("/web"))).await;
    authority.refresh_crls().await.unwrap();
    let both = named(&list(&authority, KeyKind::Signing));
    let serial = |issued: &Issued| issued.serial.as_bytes().to_vec();
    assert!(both.len() == 2 && both.contains(&(serial(&one), None)), "{both:?}");
    assert!(both.contains(&(serial(&other), Some(9))), "{both:?}");

    // A signing CA that was revoked has no list any more, and stands in that of its root.
    let old = authority.rotate_key(KeyKind::Signing, true, BY).await.unwrap();
    let old = authority.keys().into_iter().find(|slot| slot.kind == old.kind && slot.state == KeyState::Old);
    let old = old.unwrap();
    assert_eq!(list(&authority, KeyKind::Root).entries, 0);
    authority.revoke_key(KeyKind::Signing, None, true, (BY, "leaked")).await.unwrap();
    authority.refresh_crls().await.unwrap();
    let of_root = named(&list(&authority, KeyKind::Root));
    let serial = ca_identity::inspect::certificate(old.certificate().unwrap()).unwrap().serial;
    assert_eq!(of_root, [(serial.as_bytes().to_vec(), None)]);
    assert!(!lists(&authority).iter().any(|list| list.issuer == old.key_id));
    assert_eq!(list(&authority, KeyKind::Signing).entries, 0);

    // The number never moves back, not over a restart either.
    let last = list(&authority, KeyKind::Root).number;
    let reopened = bench.open().await;
    reopened.refresh_crls().await.unwrap();
    assert!(list(&reopened, KeyKind::Root).number > last);
    assert_eq!(named(&list(&reopened, KeyKind::Root)), of_root);
}

#[tokio::test]
async fn rv_06_lists_are_due_at_half_of_their_time_and_every_key_that_signs_has_one() {
    let bench = Bench::new();
    let authority = bench.open().await;
    authority.prepare_key(KeyKind::Signing, false, BY).await.unwrap();
    authority.refresh_crls().await.unwrap();
    let known = lists(&authority);
    for slot in authority.keys().iter().filter(|slot| slot.kind != KeyKind::Jwt) {
        assert!(known.iter().any(|list| (list.issuer, list.kind) == (slot.key_id, slot.kind)), "{slot:?}");
    }
    assert_eq!(known.len(), 3);
    bench.clock.advance(HOUR / 2 - Duration::from_secs(1));
    assert!(!authority.crls_are_due());
    bench.clock.advance(Duration::from_secs(1));
    assert!(authority.crls_are_due());
    // A list that cannot be numbered is not published; the former stays.
    bench.store.fail(true);
    assert!(authority.refresh_crls().await.is_err());
    assert!(Arc::ptr_eq(&lists(&authority), &known));
    bench.store.fail(false);
    // What has ended leaves.
    let issued = sign(&authority, &web(&authority).await.id).await;
    revoke(&authority, certificate(&issued)).await;
    authority.refresh_crls().await.unwrap();
    assert_eq!(list(&authority, KeyKind::Signing).entries, 1);
    bench.clock.advance(HOUR * 2);
    authority.sweep_rotation().await.unwrap();
    authority.refresh_crls().await.unwrap();
    assert_eq!(list(&authority, KeyKind::Signing).entries, 0);
}

/// What openssl says; whether it was content.
fn openssl(dir: &Path, words: &str) -> (bool, String) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(dir).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn ig3_openssl_reads_the_lists_and_refuses_what_stands_in_them() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl on this machine");
        return;
    }
    let bench = Bench::new();
    bench.clock.set_wall(base_ports::Clock::now(&base_ports::SystemClock).wall);
    let authority = bench.open().await;
    let entry = web(&authority).await.id.clone();
    let (good, bad) = (sign(&authority, &entry).await, sign(&authority, &entry).await);
    revoke(&authority, certificate(&bad)).await;
    authority.refresh_crls().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("good.pem", pem::write_certificates(&good.chain[..1]));
    write("bad.pem", pem::write_certificates(&bad.chain[..1]));
    write("signing.pem", pem::write_certificates(&good.chain[1..]));
    write("root.pem", pem::write_certificates(authority.bundle().certificates()));
    write("crls.pem", lists(&authority).iter().map(|list| pem::write_crl(&list.der)).collect());
    for (kind, ca) in [(KeyKind::Root, "root.pem"), (KeyKind::Signing, "signing.pem")] {
        let list = list(&authority, kind);
        std::fs::write(dir.path().join("list.der"), &list.der).unwrap();
        let (_, said) =
            openssl(dir.path(), &format!("crl -inform DER -in list.der -noout -text -CAfile {ca}"));
        assert!(said.contains("verify OK"), "{kind}: {said}");
        assert!(said.contains(&format!("X509v3 CRL Number: \n                {}", list.number)), "{said}");
        assert!(said.contains("X509v3 Authority Key Identifier"), "{said}");
    }
    for check in ["-crl_check", "-crl_check_all"] {
        let verify =
            format!("verify -x509_strict {check} -CRLfile crls.pem -CAfile root.pem -untrusted signing.pem");
        let (taken, said) = openssl(dir.path(), &format!("{verify} good.pem"));
        assert!(taken, "{check}: {said}");
        let (taken, said) = openssl(dir.path(), &format!("{verify} bad.pem"));
        assert!(!taken && said.contains("certificate revoked"), "{check}: {said}");
    }
}
