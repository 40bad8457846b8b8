//! Changes by people who work at the same time, make mistakes, and are restarted under.

use super::*;
use crate::{
    Origin, Outcome, Refusal, Standing,
    testing::{READ, STOP, Site, TYPO, in_force, numbers, shop, web_gets},
    verify,
};
use policies_engine::{
    Effect::{Allow, Deny},
    ServiceEntity,
};
use std::sync::atomic::Ordering;

pub(crate) fn edit(file: &str, text: &str) -> Edit {
    Edit { file: file.to_owned(), text: Some(text.to_owned()) }
}

fn new(edits: Vec<Edit>) -> NewChange {
    let (author, message) = ("User::\"corp/ann\"".to_owned(), "orders: read only".to_owned());
    NewChange { base: None, author, message, ticket: Some("SEC-12".to_owned()), edits }
}

/// Drafts, checks and commits; the version is not in force.
pub(crate) async fn committed(store: &PolicyStore, edits: Vec<Edit>) -> VersionInfo {
    let change = store.draft(new(edits)).await.unwrap();
    let checks = store.check_change(change.id).await.unwrap();
    assert!(checks.summary.passed, "{checks:?}");
    let change = store.change(change.id).unwrap();
    store.commit(change.id, change.revision, "User::\"corp/bob\"").await.unwrap()
}

#[tokio::test]
async fn st6_a_change_is_drafted_checked_approved_committed_and_activated() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    site.activations.take();
    let change = store.draft(new(vec![edit("orders.cedar", READ)])).await.unwrap();
    assert_eq!((change.id.to_string().as_str(), change.base, change.stage), ("c1", 1, Stage::Draft));
    assert!(
        change.context("x", true).widens && !change.context("x", true).tests_passed,
        "nothing is known yet"
    );

    let checks = store.check_change(change.id).await.unwrap();
    assert!(checks.summary.passed && checks.summary.widens && !checks.summary.touches_baseline, "{checks:?}");
    let change = store.change(change.id).unwrap();
    assert_eq!(change.stage, Stage::Checked);
    let change =
        store.note_impact(change.id, change.revision, Impact { newly_denied: 3, ..Impact::default() });
    let change = change.await.unwrap();
    let change = store.approve(change.id, change.revision, "User::\"corp/carol\"").await.unwrap();
    assert_eq!((change.stage, change.approvals[0].by.as_str()), (Stage::Approved, "User::\"corp/carol\""));
    let context = change.context("User::\"corp/ann\"", true);
    assert!(context.caller_is_author && context.tests_passed && context.two_person);
    assert_eq!((context.approvals, context.replay_newly_denied), (1, 3));

    let version = store.commit(change.id, change.revision, "User::\"corp/bob\"").await.unwrap();
    assert_eq!(
        (version.policies, version.standing, version.origin),
        (2, Standing::Committed, Origin::Change)
    );
    assert_eq!(
        (version.author.as_str(), version.message.as_str()),
        ("User::\"corp/ann\"", "orders: read only")
    );
    assert_eq!(
        (version.approvers, version.ticket),
        (vec!["User::\"corp/carol\"".to_owned()], Some("SEC-12".to_owned()))
    );
    assert_eq!((version.change, version.checks.passed), (Some(change.id), true));
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Deny), "not in force yet");
    let signed = store.archive.signed(version.snapshot).unwrap();
    let told = verify(&version.note.unwrap(), &signed.bytes, &store.verifiers()).unwrap();
    assert_eq!((told.snapshot, told.policies), (2, 2));

    let version = store.activate(2, "User::\"corp/bob\"").await.unwrap();
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Allow));
    assert_eq!(version.activated.unwrap().by, "User::\"corp/bob\"");
    assert_eq!(
        (version.standing, store.change(change.id).unwrap().stage),
        (Standing::Active, Stage::Activated)
    );
    let by = Some("User::\"corp/bob\"".to_owned());
    assert_eq!(site.activations.take(), [(Outcome::Activated, 2, by)]);
    assert_eq!(&*store.files(2).unwrap()[0].1, READ);
    drop(store);

    let store = site.start_without_dir().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Allow), "after a restart too");
    assert_eq!(store.changes().unwrap()[0].stage, Stage::Activated);
}

#[tokio::test]
async fn st6_an_edit_drops_checks_and_approvals_and_what_is_not_checked_is_not_committed() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let change = store.draft(new(vec![edit("orders.cedar", TYPO)])).await.unwrap();
    let commit = store.commit(change.id, change.revision, "bob").await;
    assert!(matches!(commit, Err(PolicyStoreError::Refusal(Refusal::NotChecked))), "{commit:?}");
    let checks = store.check_change(change.id).await.unwrap();
    assert_eq!((checks.summary.passed, &*checks.diagnostics[0].file), (false, "policies/orders.cedar"));
    let change = store.change(change.id).unwrap();
    let commit = store.commit(change.id, change.revision, "bob").await;
    assert!(matches!(commit, Err(PolicyStoreError::Refusal(Refusal::ChecksFailed))), "{commit:?}");
    assert!(store.approve(change.id, change.revision, "carol").await.is_err());

    let change =
        store.edit_change(change.id, change.revision, vec![edit("orders.cedar", READ)]).await.unwrap();
    assert_eq!((change.stage, &change.checked), (Stage::Draft, &None));
    store.check_change(change.id).await.unwrap();
    let change = store.change(change.id).unwrap();
    let change = store.approve(change.id, change.revision, "carol").await.unwrap();
    let again =
        store.edit_change(change.id, change.revision, vec![edit("orders.cedar", READ)]).await.unwrap();
    assert_eq!((again.stage, again.approvals.len()), (Stage::Approved, 1), "the same content");
    let edited = store.edit_change(change.id, again.revision, vec![edit("stop.cedar", STOP)]).await.unwrap();
    assert_eq!((edited.stage, edited.approvals.len(), edited.checked), (Stage::Draft, 0, None));
    assert_eq!(site.disk.range(b"policies/a/", None, 9).unwrap().len(), 0);
    let ended = store.abandon(change.id).await.unwrap();
    assert_eq!((ended.stage, ended.edits.len()), (Stage::Abandoned, 0));
    assert_eq!(site.disk.range(b"policies/e/", None, 9).unwrap().len(), 0, "its texts go");
    let late = store.edit_change(change.id, ended.revision, vec![edit("stop.cedar", STOP)]).await;
    assert!(matches!(late, Err(PolicyStoreError::Refusal(Refusal::Stage { .. }))), "{late:?}");
}

#[tokio::test]
async fn ps6_who_has_not_seen_the_last_write_is_told_so() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let seen = store.draft(new(vec![edit("orders.cedar", READ)])).await.unwrap();
    let other = store.edit_change(seen.id, seen.revision, vec![edit("stop.cedar", STOP)]).await.unwrap();
    let stale = |result: Result<Change, PolicyStoreError>| match result {
        Err(PolicyStoreError::Stale { id, revision }) => (id, revision),
        other => panic!("{other:?}"),
    };
    let late = store.edit_change(seen.id, seen.revision, vec![edit("stop.cedar", READ)]).await;
    assert_eq!(stale(late), (seen.id, other.revision));
    assert_eq!(stale(store.approve(seen.id, seen.revision, "carol").await), (seen.id, other.revision));
    assert!(matches!(store.commit(seen.id, seen.revision, "bob").await, Err(PolicyStoreError::Stale { .. })));
    assert_eq!(store.change(seen.id).unwrap(), other);
}

#[tokio::test]
async fn ps6_a_base_that_is_not_the_newest_conflicts_naming_what_both_changed() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    committed(&store, vec![edit("orders.cedar", READ), edit("stop.cedar", STOP)]).await;
    let checked = |edits: Vec<Edit>| async {
        let change = store.draft(NewChange { base: Some(2), ..new(edits) }).await.unwrap();
        store.check_change(change.id).await.unwrap();
        store.change(change.id).unwrap()
    };
    let same = checked(vec![edit("orders.cedar", &READ.replace("Get", "Refund"))]).await;
    let other = checked(vec![edit("stop.cedar", &format!("// every call\n{STOP}"))]).await;
    let version = committed(&store, vec![edit("orders.cedar", &format!("// reads\n{READ}"))]).await;
    assert_eq!(version.policies, 3);

    let conflict = |result: Result<VersionInfo, PolicyStoreError>| match result {
        Err(PolicyStoreError::Conflict { head, conflicting }) => (head, conflicting),
        other => panic!("{other:?}"),
    };
    let refused = store.commit(same.id, same.revision, "bob").await;
    assert_eq!(conflict(refused), (3, vec!["orders-read".to_owned()]));
    let rebased = store.rebase_change(same.id, same.revision).await;
    assert!(matches!(rebased, Err(PolicyStoreError::Conflict { head: 3, .. })), "{rebased:?}");
    let refused = store.commit(other.id, other.revision, "bob").await;
    assert_eq!(conflict(refused), (3, vec![]));
    let rebased = store.rebase_change(other.id, other.revision).await.unwrap();
    assert_eq!((rebased.base, rebased.stage, rebased.edits.len()), (3, Stage::Draft, 1));
    store.check_change(other.id).await.unwrap();
    let rebased = store.change(other.id).unwrap();
    assert_eq!(store.commit(other.id, rebased.revision, "bob").await.unwrap().policies, 4);
    let files = store.files(4).unwrap();
    assert!(files.iter().all(|(_, text)| text.starts_with("//")), "no edit was lost: {files:?}");
}

/// Clients that draft, check, rebase and commit in any order; each appends its own line to its own file.
#[tokio::test]
async fn ps6_no_committed_edit_of_concurrent_clients_is_ever_lost() {
    use base_ports::{Rng, SeededRng};
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let rng = SeededRng::new(11);
    let mut open: Vec<(usize, ChangeId)> = Vec::new();
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    let mut drafted: BTreeMap<ChangeId, (String, String)> = BTreeMap::new();
    for step in 0..48_usize {
        let client = usize::try_from(rng.u64() % 3).unwrap();
        let Some((at, (_, id))) = open.iter().copied().enumerate().find(|(_, (owner, _))| *owner == client)
        else {
            let file = format!("f{client}.cedar");
            let text = format!("{}// step {step}\n", expected.get(&file).cloned().unwrap_or_default());
            let change = store.draft(new(vec![edit(&file, &text)])).await.unwrap();
            drafted.insert(change.id, (file, text));
            open.push((client, change.id));
            continue;
        };
        let seen = store.change(id).unwrap();
        match rng.u64() % 3 {
            0 => drop(store.check_change(id).await.unwrap()),
            1 => drop(store.rebase_change(id, seen.revision).await.unwrap()),
            _ => match store.commit(id, seen.revision, "bob").await {
                Ok(version) => {
                    let (file, text) = drafted.remove(&id).unwrap();
                    expected.insert(file, text);
                    open.remove(at);
                    let files = store.files(version.policies).unwrap();
                    let files: BTreeMap<String, String> =
                        files.into_iter().map(|(name, text)| (name, text.to_string())).collect();
                    assert_eq!(files, expected, "step {step}: version {}", version.policies);
                }
                Err(PolicyStoreError::Conflict { conflicting, .. }) => assert!(conflicting.is_empty()),
                Err(PolicyStoreError::Refusal(Refusal::NotChecked)) => {}
                Err(other) => panic!("step {step}: {other}"),
            },
        }
    }
    let versions = store.versions().unwrap();
    assert!(versions.len() > 2, "something was committed: {}", versions.len());
    assert!(versions.windows(2).all(|pair| pair[0].policies == pair[1].policies + 1), "numbers have no gaps");
}

#[tokio::test]
async fn va4_what_is_too_much_is_refused_naming_the_cap_and_nothing_is_stored() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let before = site.disk.commits.load(Ordering::Relaxed);
    let refused = |edits: Vec<Edit>| async { store.draft(new(edits)).await.unwrap_err().to_string() };
    let big = "/".repeat(FILE_BYTES + 1);
    assert_eq!(refused(vec![edit("a.cedar", &big)]).await, "bytes of a file: 262145; at most 262144");
    let full = "/".repeat(FILE_BYTES);
    let many = (0..49).map(|n| edit(&format!("{n}.cedar"), &full)).collect();
    assert!(refused(many).await.starts_with("bytes of a change: "));
    for name in ["../a.cedar", "a/b.cedar", "a.txt", ".a.cedar", "baseline/x_test.json", ""] {
        assert!(refused(vec![edit(name, "")]).await.contains("is no policy file"), "{name}");
    }
    let gone = Edit { file: "a.cedar".to_owned(), text: None };
    assert_eq!(refused(vec![gone]).await, "there is no `a.cedar` to delete");
    let old = store.draft(NewChange { base: Some(9), ..new(vec![]) }).await;
    assert!(matches!(old, Err(PolicyStoreError::UnknownVersion(9))));
    assert_eq!(site.disk.commits.load(Ordering::Relaxed), before);
    for _ in 0..OPEN {
        store.draft(new(vec![edit("a.cedar", READ)])).await.unwrap();
    }
    assert_eq!(refused(vec![]).await, "open changes: 257; at most 256");
    store.abandon(ChangeId(1)).await.unwrap();
    assert_eq!(store.draft(new(vec![])).await.unwrap().id, ChangeId(257));
    assert!(matches!(store.change(ChangeId(999)), Err(PolicyStoreError::UnknownChange(_))));
    assert!("c0x".parse::<ChangeId>().is_err() && "c01".parse::<ChangeId>().is_err());
    assert_eq!("c257".parse::<ChangeId>().unwrap(), ChangeId(257));
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_version_and_an_edit_back_takes_the_file_out() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    committed(&store, vec![edit("orders.cedar", READ)]).await;
    let change = store.draft(new(vec![edit("orders.cedar", STOP)])).await.unwrap();
    let change =
        store.edit_change(change.id, change.revision, vec![edit("orders.cedar", READ)]).await.unwrap();
    assert!(change.edits.is_empty());
    store.check_change(change.id).await.unwrap();
    let change = store.change(change.id).unwrap();
    let nothing = store.commit(change.id, change.revision, "bob").await;
    assert!(matches!(nothing, Err(PolicyStoreError::Input(_))), "{nothing:?}");
}

#[tokio::test]
async fn what_no_longer_fits_the_entities_is_not_committed() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let later = r#"[{"uid":{"type":"Service","id":"later"},"attrs":{"name":"later"},"parents":[]}]"#;
    let change = store.draft(new(vec![edit("entities.json", later)])).await.unwrap();
    let checks = store.check_change(change.id).await.unwrap();
    assert!(checks.summary.passed, "{checks:?}");
    let mut told = shop();
    told.services.push(ServiceEntity { name: "later".to_owned(), ..ServiceEntity::default() });
    store.set_entities(told, [1; 32]).await;
    let change = store.change(change.id).unwrap();
    let refused = store.commit(change.id, change.revision, "bob").await;
    let Err(PolicyStoreError::Invalid(found)) = refused else { panic!("{refused:?}") };
    assert_eq!(found[0].code, "PC2012");
    assert!(store.change(change.id).unwrap().stage.is_open());
}

#[tokio::test]
async fn ps7_a_full_disk_is_told_and_nothing_is_half_done() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let change = store.draft(new(vec![edit("orders.cedar", READ)])).await.unwrap();
    store.check_change(change.id).await.unwrap();
    let change = store.change(change.id).unwrap();
    site.disk.is_full.store(true, Ordering::Relaxed);
    let full = store.commit(change.id, change.revision, "bob").await;
    assert!(matches!(full, Err(PolicyStoreError::Store(StoreError::Write(_)))), "{full:?}");
    assert!(store.approve(change.id, change.revision, "carol").await.is_err());
    assert_eq!((store.versions().unwrap().len(), numbers(&store)), (1, (1, 1)));
    site.disk.is_full.store(false, Ordering::Relaxed);
    assert_eq!(store.change(change.id).unwrap(), change);
    let version = store.commit(change.id, change.revision, "bob").await.unwrap();
    site.disk.is_full.store(true, Ordering::Relaxed);
    assert!(store.activate(version.policies, "bob").await.is_err());
    assert_eq!(numbers(&store), (1, 1), "the last good one stays in force");
    site.disk.is_full.store(false, Ordering::Relaxed);
    store.activate(version.policies, "bob").await.unwrap();
    assert_eq!(numbers(&store), (2, 2));
}
