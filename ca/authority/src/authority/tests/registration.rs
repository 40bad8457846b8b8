//! Entries: compare-and-set, durable, unique, declarative from the configuration.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{ManualClock, SystemDisk};
use base_store::Embedded;
use ca_identity::Selector;

use crate::entry::{EntryFilter, NewEntry};
use crate::ports::{IdentityEvent, Ports};
use crate::testing::{Bench, entry, id, request, web};
use crate::{Authority, AuthorityError, Requester};

#[tokio::test]
async fn en_04_a_write_over_a_stale_revision_is_refused() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let first = web(&authority).await;
    let hinted = NewEntry { hint: Some("main".to_owned()), ..entry("/web") };
    let second = authority.update_entry(&first.id, hinted.clone(), Some(first.revision)).await.unwrap();
    assert!(second.revision > first.revision);
    assert_eq!((second.created_at, second.hint.as_deref()), (first.created_at, Some("main")));

    let stale = authority.update_entry(&first.id, hinted, Some(first.revision)).await;
    assert!(matches!(stale, Err(AuthorityError::Stale { current, .. }) if current == second.revision));
    let stale = authority.delete_entry(&first.id, Some(first.revision)).await;
    assert!(matches!(stale, Err(AuthorityError::Stale { .. })));
    authority.delete_entry(&first.id, Some(second.revision)).await.unwrap();
    let gone = authority.delete_entry(&first.id, None).await;
    assert!(matches!(gone, Err(AuthorityError::UnknownEntry(_))));
    assert!(bench.open().await.entry(&first.id).is_none());
}

#[tokio::test]
async fn en_04_of_many_writers_over_one_revision_one_wins() {
    let authority = Bench::new().open().await;
    let first = web(&authority).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (authority, first) = (Arc::clone(&authority), Arc::clone(&first));
        let new = NewEntry { hint: Some(format!("{n}")), ..entry("/web") };
        writers
            .spawn(async move { authority.update_entry(&first.id, new, Some(first.revision)).await.is_ok() });
    }
    let won = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn en_02_the_same_identity_parent_and_selectors_exist_once() {
    let authority = Bench::new().open().await;
    let first = web(&authority).await;
    let again = authority.create_entry(entry("/web")).await;
    assert!(matches!(again, Err(AuthorityError::AlreadyExists { id }) if id == first.id));
    let other = authority.create_entry(entry("/other")).await.unwrap();
    let renamed = authority.update_entry(&other.id, entry("/web"), None).await;
    assert!(matches!(renamed, Err(AuthorityError::AlreadyExists { .. })));
    // A freed name can be taken.
    authority.update_entry(&first.id, entry("/renamed"), None).await.unwrap();
    assert_ne!(web(&authority).await.id, first.id);
    authority.delete_entry(&other.id, None).await.unwrap();
    assert!(authority.create_entry(entry("/other")).await.is_ok());
}

#[tokio::test]
async fn entries_are_listed_by_agent_and_by_filter_in_pages() {
    let authority = Bench::new().open().await;
    let (a, b) = (id("/portcullis/agent/a"), id("/portcullis/agent/b"));
    let mut changed = authority.watch_entries();
    let everybody = web(&authority).await;
    assert!(changed.has_changed().unwrap());
    assert_eq!(*changed.borrow_and_update(), everybody.revision);
    let of_a = NewEntry { parent_id: Some(a.clone()), ..entry("/web") };
    let of_a = authority.create_entry(of_a).await.unwrap();
    assert_eq!(authority.entries_for(&b), [Arc::clone(&everybody)]);
    let mut both = vec![everybody, of_a.clone()];
    let mut listed = authority.entries_for(&a);
    both.sort_by(|one, two| one.id.cmp(&two.id));
    listed.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(listed, both);

    let first = authority.list_entries(&EntryFilter::default(), None, 1);
    let second = authority.list_entries(&EntryFilter::default(), Some(&first[0].id), 5);
    assert_eq!([first, second].concat(), both);
    let filter = EntryFilter { parent_id: Some(a), ..EntryFilter::default() };
    assert_eq!(authority.list_entries(&filter, None, 5), [of_a]);
}

#[tokio::test]
async fn applying_the_configuration_is_idempotent_and_leaves_other_entries_alone() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let by_hand = web(&authority).await;
    let list = || vec![entry("/a"), entry("/b"), entry("/a")];
    let applied = authority.apply_entries(list()).await.unwrap();
    assert_eq!((applied.created, applied.updated, applied.deleted), (2, 0, 0));
    let revision = *authority.watch_entries().borrow();
    let again = authority.apply_entries(list()).await.unwrap();
    assert_eq!((again.created, again.unchanged), (0, 2));
    assert_eq!(*authority.watch_entries().borrow(), revision);

    let authority = bench.open().await;
    let hinted = NewEntry { hint: Some("x".to_owned()), ..entry("/a") };
    let changed = authority.apply_entries(vec![hinted, entry("/web")]).await.unwrap();
    assert_eq!((changed.updated, changed.deleted, changed.unchanged), (1, 1, 1));
    assert_eq!(authority.entry(&by_hand.id), Some(by_hand));
    assert_eq!(authority.count_entries(), 2);

    let bad = vec![entry("/c"), NewEntry { selectors: Vec::new(), ..entry("/d") }];
    assert!(matches!(authority.apply_entries(bad).await, Err(AuthorityError::Entry(_))));
    assert_eq!(authority.count_entries(), 2);
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::EntryDeleted(_))), 1);
}

#[tokio::test]
async fn a_failed_commit_changes_nothing_that_anybody_sees() {
    let bench = Bench::new();
    let authority = bench.open().await;
    bench.store.fail(true);
    assert!(matches!(authority.create_entry(entry("/web")).await, Err(AuthorityError::Store(_))));
    assert_eq!(authority.count_entries(), 0);
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::EntryCreated(_))), 0);
}

/// On a real disk and the real journal: what was acknowledged before the process went is there after it.
#[tokio::test]
async fn is_08_reopening_keeps_entries_serials_keys_and_the_bundle_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let open = || async {
        let clock = Arc::<ManualClock>::clone(&bench.clock);
        let store = Embedded::open(&dir.path().join("store"), Arc::new(SystemDisk), clock).unwrap();
        let ports = Ports { store, disk: Arc::new(SystemDisk), ..bench.ports() };
        let config = crate::Config::new(bench.config.trust_domain.clone(), dir.path());
        Authority::open(config, ports).await.unwrap()
    };
    let first = open().await;
    let registered = web(&first).await;
    let (_, csr) = request();
    let issued = first.sign(Requester::Local, &registered.id, &csr).await.unwrap();
    let (keys, sequence, records) = (first.keys(), first.bundle().sequence, first.issued(None, 10).unwrap());
    assert_eq!(records.len(), 1);
    drop(first);

    let second = open().await;
    assert_eq!(second.entry(&registered.id), Some(registered));
    assert_eq!((second.keys(), second.bundle().sequence), (keys, sequence));
    let found = second.issued(None, 10).unwrap();
    assert_eq!(found, records);
    assert_eq!(found[0].serial, issued.serial);
    let mode = |name: &str| {
        let metadata = std::fs::metadata(dir.path().join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!((mode("seal.key"), mode("keys")), (0o600, 0o700));
    for file in std::fs::read_dir(dir.path().join("keys")).unwrap() {
        assert_eq!(mode(&format!("keys/{}", file.unwrap().file_name().to_string_lossy())), 0o600);
    }
}

#[tokio::test]
async fn selectors_are_kept_sorted_without_repetition() {
    let authority = Bench::new().open().await;
    let selectors = ["unix:uid:2", "unix:gid:1", "unix:uid:2"].map(|text| Selector::parse(text).unwrap());
    let new =
        NewEntry { selectors: selectors.to_vec(), x509_ttl: Some(Duration::from_secs(600)), ..entry("/web") };
    let stored = authority.create_entry(new).await.unwrap();
    let texts: Vec<_> = stored.selectors.iter().map(Selector::as_str).collect();
    assert_eq!(texts, ["unix:gid:1", "unix:uid:2"]);
}
