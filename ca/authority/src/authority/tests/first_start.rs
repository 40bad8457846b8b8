//! When a root is made, and when a start refuses.

use base_ports::Disk;
use ca_identity::TrustDomain;

use crate::keys::{KeyKind, KeyState};
use crate::ports::IdentityEvent;
use crate::testing::{Bench, request, web};
use crate::{AuthorityError, Requester};

fn roots(bench: &Bench) -> usize {
    bench.events.count(|event| matches!(event, IdentityEvent::RootCreated { .. }))
}

#[tokio::test]
async fn s23_the_first_start_makes_a_root_and_says_so_and_the_second_finds_it() {
    let bench = Bench::new();
    let first = bench.open().await;
    let keys = first.keys();
    let states: Vec<_> = keys.iter().map(|key| (key.kind, key.state)).collect();
    let kinds = [KeyKind::Root, KeyKind::Signing, KeyKind::Jwt];
    assert_eq!(states, kinds.map(|kind| (kind, KeyState::Active)));
    assert_eq!((roots(&bench), bench.key_files().len()), (1, 3));

    let second = bench.open().await;
    assert_eq!(second.keys(), keys);
    assert_eq!(second.bundle().sequence, first.bundle().sequence);
    assert!(second.bundle().certificates().eq(first.bundle().certificates()));
    assert_eq!(roots(&bench), 1);
}

#[tokio::test]
async fn au_02_no_private_key_stands_in_the_store_or_unsealed_in_a_file() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (_, csr) = request();
    authority.sign(Requester::Local, &web(&authority).await.id, &csr).await.unwrap();
    for slot in authority.keys() {
        let key = authority.vault.load(slot.kind, slot.key_id).unwrap();
        // The secret number itself: behind the fixed head of a P-256 key in PKCS#8.
        let secret = key.pkcs8().get(36..68).unwrap();
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(holds(key.pkcs8()));
        assert!(bench.store.all().iter().all(|row| !holds(&row.value)));
        let listed = bench.disk.list(&bench.config.keys_dir).unwrap();
        assert!(listed.iter().all(|path| !holds(&bench.disk.read(path).unwrap())));
    }
}

#[tokio::test]
async fn au_03_records_without_a_key_file_refuse_with_the_way_out() {
    for kind in ["root", "signing"] {
        let mut bench = Bench::new();
        let before = bench.open().await;
        let (_, csr) = request();
        let old = before.sign(Requester::Local, &web(&before).await.id, &csr).await.unwrap();
        let named = |path: &std::path::PathBuf| path.to_string_lossy().contains(kind);
        let lost = bench.key_files().into_iter().find(named).unwrap();
        bench.disk.remove(&lost).unwrap();
        let refused = bench.try_open().await.unwrap_err();
        assert!(matches!(refused, AuthorityError::KeyFileMissing { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&*lost.to_string_lossy()) && text.contains("force_new"), "{text}");
        assert_eq!(roots(&bench), 1);

        bench.config.force_new = true;
        let forced = bench.open().await;
        assert_eq!((roots(&bench), forced.bundle().anchors().len()), (2, 2));
        assert!(forced.bundle().sequence > before.bundle().sequence);
        // What the lost authority issued still verifies: its root stays in the bundle.
        let bundles = ca_identity::BundleMap::of(forced.bundle());
        let trust = ca_identity::IdentitySnapshot { bundles, ..Default::default() };
        assert!(
            ca_identity::verify_svid(&old.chain, &trust, ca_identity::Usage::Client, bench.now()).is_ok()
        );
        assert!(
            forced
                .sign(Requester::Local, &forced.list_entries(&Default::default(), None, 1)[0].id, &csr)
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn s23_a_marked_directory_without_records_refuses() {
    let (mut bench, other) = (Bench::new(), Bench::new());
    bench.open().await;
    bench.store = other.store;
    let refused = bench.try_open().await.unwrap_err();
    assert!(matches!(refused, AuthorityError::RecordsMissing { .. }), "{refused}");
    bench.config.force_new = true;
    assert!(bench.try_open().await.is_ok());
}

#[tokio::test]
async fn au_03_a_lost_sealing_key_refuses_and_a_swapped_file_does_not_open() {
    let bench = Bench::new();
    bench.open().await;
    let of = |kind: &str| {
        let named = |path: &std::path::PathBuf| path.to_string_lossy().contains(kind);
        bench.key_files().into_iter().find(named).unwrap()
    };
    let (one, two) = (of("root-"), of("signing-"));
    let (first, second) = (bench.disk.read(&one).unwrap(), bench.disk.read(&two).unwrap());
    bench.disk.write_atomic(&one, &second, 0o600).unwrap();
    assert!(matches!(bench.try_open().await, Err(AuthorityError::Unseal { .. })));
    bench.disk.write_atomic(&one, &first, 0o600).unwrap();
    assert!(bench.try_open().await.is_ok());
    bench.disk.remove(&bench.config.seal_key_path).unwrap();
    assert!(matches!(bench.try_open().await, Err(AuthorityError::SealKeyMissing { .. })));
    assert!(!bench.disk.exists(&bench.config.seal_key_path));
}

#[tokio::test]
async fn s23_an_interrupted_first_start_is_simply_repeated() {
    let bench = Bench::new();
    bench.store.fail(true);
    assert!(matches!(bench.try_open().await, Err(AuthorityError::Store(_))));
    assert_eq!((bench.key_files().len(), roots(&bench)), (2, 0));
    bench.store.fail(false);
    let authority = bench.open().await;
    assert_eq!((authority.bundle().anchors().len(), roots(&bench)), (1, 1));
}

#[tokio::test]
async fn another_trust_domain_refuses() {
    let mut bench = Bench::new();
    bench.open().await;
    bench.config.trust_domain = TrustDomain::parse("other.example").unwrap();
    assert!(matches!(bench.try_open().await, Err(AuthorityError::OtherTrustDomain { .. })));
}
