//! Versions in and out of force, by directory, change and rollback, across restarts, builds and rotations.

use super::*;
use crate::{
    Origin, Refusal, Standing,
    changes::tests::{committed, edit},
    testing::{READ, STOP, Site, TYPO, in_force, numbers, shop_with_group, web_gets},
    verify,
};
use base_store::Store;
use policies_engine::Effect::{Allow, Deny};
use std::sync::atomic::Ordering;

const BOB: &str = "User::\"corp/bob\"";

fn refusal<T: std::fmt::Debug>(result: Result<T, PolicyStoreError>) -> Refusal {
    match result {
        Err(PolicyStoreError::Refusal(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn st5_going_back_is_the_old_content_under_a_new_number_that_says_so() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    for edits in [vec![edit("orders.cedar", READ)], vec![edit("stop.cedar", STOP)]] {
        let version = committed(&store, edits).await;
        store.activate(version.policies, BOB).await.unwrap();
    }
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((3, 3), Deny));
    assert_eq!(refusal(store.activate(2, BOB).await), Refusal::Older { wanted: 2, active: 3 });
    assert_eq!(refusal(store.activate(9, BOB).await), Refusal::NeverCommitted(9));
    assert_eq!(refusal(store.activate(0, BOB).await), Refusal::NeverCommitted(0));
    assert!(matches!(store.rollback(9, BOB, "").await, Err(PolicyStoreError::UnknownVersion(9))));
    assert!(matches!(store.rollback(3, BOB, "").await, Err(PolicyStoreError::Input(_))), "it is in force");
    let would = store.check_version(2).await.unwrap();
    assert!(would.summary.widens && would.summary.passed, "a forbid goes: {would:?}");

    site.activations.take();
    let back = store.rollback(2, BOB, "too strict").await.unwrap();
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((4, 4), Allow));
    assert_eq!((back.rollback_of, back.origin, back.standing), (Some(2), Origin::Rollback, Standing::Active));
    assert_eq!((back.author.as_str(), back.message.as_str()), (BOB, "too strict"));
    assert_eq!(store.files(4).unwrap(), store.files(2).unwrap());
    assert_eq!(site.activations.take(), [(Outcome::RolledBack, 4, Some(BOB.to_owned()))]);
    assert!(matches!(store.rollback(2, BOB, "").await, Err(PolicyStoreError::Input(_))), "the same content");
    let standing: Vec<_> = store.versions().unwrap().iter().map(|v| (v.policies, v.standing)).collect();
    let retired = Standing::Retired;
    assert_eq!(standing, [(4, Standing::Active), (3, retired), (2, retired), (1, retired)]);
    assert!(store.difference(3, 4).unwrap().widens && !store.difference(2, 4).unwrap().widens);
}

#[tokio::test]
async fn st5_a_version_committed_before_the_entities_changed_comes_into_force_with_them() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let first = committed(&store, vec![edit("orders.cedar", READ)]).await;
    let second = committed(&store, vec![edit("stop.cedar", STOP)]).await;
    assert_eq!((first.snapshot, second.snapshot), (2, 3));
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    assert_eq!(numbers(&store), (4, 1), "numbers that were given are not given again");
    let info = store.activate(2, BOB).await.unwrap();
    assert_eq!((numbers(&store), info.snapshot), ((5, 2), 5));
    assert_eq!((info.author.as_str(), info.created), (first.author.as_str(), first.created));
    store.activate(3, BOB).await.unwrap();
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((6, 3), Deny));
    let again = site.disk.commits.load(Ordering::Relaxed);
    assert_eq!(store.activate(3, BOB).await.unwrap().standing, Standing::Active);
    assert_eq!(site.disk.commits.load(Ordering::Relaxed), again, "it is in force already");
}

#[tokio::test]
async fn st10_an_unchanged_directory_does_not_overwrite_what_was_activated() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    assert_eq!((numbers(&store), store.status().differs), ((1, 1), false));
    let version = committed(&store, vec![edit("stop.cedar", STOP)]).await;
    store.activate(version.policies, BOB).await.unwrap();
    let holds = |store: &PolicyStore, expected: (u64, u64)| {
        assert_eq!((numbers(store), web_gets(&in_force(store))), (expected, Deny));
        assert!(store.status().differs, "and status says so");
    };
    holds(&store, (2, 2));
    store.reload().await;
    holds(&store, (2, 2));
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    holds(&store, (3, 2));
    drop(store);
    let store = site.open().await;
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    holds(&store, (3, 2));

    site.write("orders.cedar", TYPO);
    store.reload().await;
    assert_eq!((numbers(&store), store.status().diagnostics.len()), ((3, 2), 1));
    site.write("orders.cedar", READ);
    store.reload().await;
    holds(&store, (3, 2));
    site.write("orders.cedar", format!("// saved again\n{READ}"));
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((4, 3), Allow), "the directory counts again");
    let info = store.version_info(3).unwrap();
    assert!(!store.status().differs && info.origin == Origin::Directory, "{info:?}");
    assert!(
        info.author.starts_with("Portcullis::LocalUser::\"") && info.message.contains("saved in"),
        "{info:?}"
    );
    let files = store.files(2).unwrap();
    files.iter().for_each(|(name, text)| site.write(name, text.as_bytes()));
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((5, 4), Deny));
}

#[tokio::test]
async fn st10_files_of_the_version_in_force_written_back_are_no_new_version() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let version = committed(&store, vec![edit("stop.cedar", STOP)]).await;
    store.activate(version.policies, BOB).await.unwrap();
    for (name, text) in store.files(2).unwrap() {
        site.write(&name, text.as_bytes());
    }
    store.reload().await;
    assert_eq!((numbers(&store), store.status().differs), ((2, 2), false));
    drop(store);
    site.start().await;
    site.write("orders.cedar", format!("{READ}\n"));
    let store = site.start().await;
    assert_eq!(numbers(&store), (3, 3), "an edit while nothing ran is a save too");
}

#[tokio::test]
async fn st4_every_version_is_signed_and_a_rotation_signs_what_is_in_force_with_both_keys() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let old = store.verifiers();
    let noted = |store: &PolicyStore, policies: u64| store.version_info(policies).unwrap().note.unwrap();
    let bytes = |snapshot: u64| store.archive.signed(snapshot).unwrap().bytes;
    verify(&noted(&store, 1), &bytes(1), &old).unwrap();
    store.rotate_signing_key().await.unwrap();
    let (both, note) = (store.verifiers(), noted(&store, 1));
    assert_eq!(both.len(), 2);
    for key in &both {
        verify(&note, &bytes(1), std::slice::from_ref(key)).unwrap();
    }
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    let published = store.published.borrow().clone().unwrap();
    let note = String::from_utf8(published.note.to_vec()).unwrap();
    verify(&note, &published.manifest, &old).unwrap();
    store.rotate_signing_key().await.unwrap();
    let note = noted(&store, 1);
    assert!(verify(&note, &bytes(2), &old).is_err() && verify(&note, &bytes(2), &both).is_ok());
}

#[tokio::test]
async fn st5_a_restored_store_raises_the_epoch_and_goes_on_from_there() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let info = store.raise_epoch(BOB).await.unwrap();
    assert_eq!((info.epoch, info.snapshot, info.policies), (2, 2, 1));
    assert_eq!(in_force(&store).versions().numbers.epoch, 2);
    let published = store.published.borrow().clone().unwrap();
    assert!(published.position.number() > (1, 1_000), "above everything of the epoch before");
    site.write("stop.cedar", STOP);
    store.reload().await;
    let info = store.version_info(2).unwrap();
    assert_eq!((info.epoch, info.snapshot), (2, 3));
    assert!(matches!(site.open().await.raise_epoch(BOB).await, Ok(info) if info.epoch == 3));
    assert!(matches!(Site::new(&[]).open().await.raise_epoch(BOB).await, Err(PolicyStoreError::Input(_))));
}

#[tokio::test]
async fn ps4_versions_are_a_chain_of_hashes() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    committed(&store, vec![edit("orders.cedar", READ)]).await;
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    store.activate(2, BOB).await.unwrap();
    for snapshot in 2..=4 {
        let (before, this) =
            (store.archive.signed(snapshot - 1).unwrap(), store.archive.signed(snapshot).unwrap());
        assert_eq!(this.manifest.parent(), Some(before.hash), "{snapshot}");
    }
}

/// Turns what is stored into what the first build that kept versions stored: no notes, no newest, no authors.
async fn as_the_first_build_wrote_it(site: &Site) {
    let all = site.disk.range(b"policies/", None, 1_000).unwrap();
    let mut transaction = Transaction::new();
    for entry in all {
        let is_new =
            [b"policies/n/".as_slice(), b"policies/t/", b"policies/h/newest", b"policies/h/directory"]
                .iter()
                .any(|prefix| entry.key.starts_with(prefix));
        if is_new {
            transaction = transaction.delete(entry.key.clone());
        }
        if entry.key.starts_with(b"policies/v/") {
            let mut manifest: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(&entry.value).unwrap();
            let kept = ["format", "epoch", "snapshot", "policies", "parent", "created", "routes", "objects"];
            manifest.retain(|name, _| kept.contains(&name.as_str()));
            transaction = transaction.put(entry.key.clone(), serde_json::to_vec(&manifest).unwrap());
        }
    }
    site.disk.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn ps8_versions_of_the_first_build_are_in_force_and_signed_when_they_are_opened() {
    let site = Site::new(&[("orders.cedar", READ)]);
    drop(site.start().await);
    as_the_first_build_wrote_it(&site).await;
    let store = site.start().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow), "no new number");
    let info = store.version_info(1).unwrap();
    assert_eq!((info.author.as_str(), info.origin), ("", Origin::Directory));
    verify(&info.note.unwrap(), &store.archive.signed(1).unwrap().bytes, &store.verifiers()).unwrap();
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Deny));
    let parent = store.archive.signed(1).unwrap().hash;
    assert_eq!(
        store.archive.signed(2).unwrap().manifest.parent(),
        Some(parent),
        "over the bytes that are stored"
    );
}

#[tokio::test]
async fn ps7_objects_written_for_a_version_that_never_came_are_swept_at_the_next_start() {
    let group = |n: usize| {
        format!(r#"{{"uid":{{"type":"Group","id":"g{n}{}"}},"attrs":{{}},"parents":[]}}"#, "x".repeat(9_000))
    };
    let groups: Vec<String> = (0..1_000).map(group).collect();
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let objects = |site: &Site| site.disk.range(b"policies/o/", None, 10_000).unwrap().len();
    let before = objects(&site);
    site.write("entities.json", format!("[{}]", groups.join(",")));
    site.disk.fail_after(1);
    store.reload().await;
    assert_eq!((numbers(&store), store.status().diagnostics[0].code), ((1, 1), "PC2020"));
    assert!(objects(&site) > before, "some are there");
    site.disk.fail_after(usize::MAX);
    site.remove("entities.json");
    drop(store);
    let store = site.start().await;
    assert_eq!((objects(&site), numbers(&store)), (before, (1, 1)));
    assert!(site.disk.get(b"policies/h/pending").unwrap().is_none());
    site.write("entities.json", format!("[{}]", groups.join(",")));
    store.reload().await;
    assert_eq!(
        numbers(&store),
        (2, 2),
        "and a large version is written whole: {:?}",
        store.status().diagnostics
    );
    assert_eq!(store.files(2).unwrap().len(), 2);
}

#[tokio::test]
async fn ps2_a_directory_that_would_lock_operators_out_is_refused() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let all = "@id(\"all\")\n@owner(\"x\")\nforbid (principal, action, resource);";
    site.write("all.cedar", all);
    store.reload().await;
    assert_eq!((numbers(&store), store.status().diagnostics[0].code), ((1, 1), "PC2031"));
}
