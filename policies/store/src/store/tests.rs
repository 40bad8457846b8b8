//! What is in force after edits, faults and restarts.

use super::*;
use crate::testing::{READ, STOP, Site, TYPO, in_force, numbers, shop, shop_with_group, web_gets};
use policies_engine::Effect::{Allow, Deny};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn nothing_is_in_force_before_the_entities_are_known() {
    let site = Site::new(&[("a.cedar", READ)]);
    let store = site.open().await;
    assert!(store.subscribe().borrow().is_none() && store.status().numbers.is_none());
    store.set_entities(shop(), [1; 32]).await;
    assert_eq!(numbers(&store), (1, 1));
    assert_eq!(web_gets(&in_force(&store)), Allow);
    assert_eq!(in_force(&store).versions().routes, [1; 32]);
    let status = store.status();
    assert!(status.diagnostics.is_empty() && status.since.is_some() && status.policies > 1);
}

#[tokio::test]
async fn without_a_directory_the_shipped_policies_are_in_force() {
    let store = Site::new(&[]).start_without_dir().await;
    assert_eq!(web_gets(&in_force(&store)), Deny);
    assert!(in_force(&store).policies().all(|policy| policy.is_baseline));
}

#[tokio::test]
async fn st10_a_bad_edit_keeps_the_last_good_snapshot_and_shows_where() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.write("orders.cedar", TYPO);
    store.reload().await;
    assert_eq!(numbers(&store), (1, 1));
    assert_eq!(web_gets(&in_force(&store)), Allow);
    let status = store.status();
    let [found] = &status.diagnostics[..] else { panic!("{status:?}") };
    assert_eq!((&*found.file, found.line, found.column), ("policies/orders.cedar", 7, 3));
    assert!(found.to_string().contains("`connection`"), "{found}");
    assert_eq!(status.reloads.refused, 1);

    site.write("orders.cedar", READ);
    store.reload().await;
    assert!(store.status().diagnostics.is_empty(), "mended");
    assert_eq!(numbers(&store), (1, 1), "nothing was changed in the end");
}

/// Entities that name one service twice.
fn doubled() -> EntitySet {
    let mut twice = shop();
    twice.services.extend(twice.services.clone());
    twice
}

#[tokio::test]
async fn rd_01_entities_that_are_refused_leave_those_before_them_and_later_edits_good() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let found = store.change_entities(doubled(), [9; 32]).await.unwrap_err();
    assert!(!found.is_empty(), "it says why");
    assert!(store.status().diagnostics.is_empty(), "no edit of policies was refused");
    assert_eq!((numbers(&store), in_force(&store).versions().routes), ((1, 1), [1; 32]));
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!(web_gets(&in_force(&store)), Deny, "an edit compiles with the entities in force");
    assert_eq!(in_force(&store).versions().routes, [1; 32]);
    store.change_entities(shop_with_group("front"), [2; 32]).await.unwrap();
    assert_eq!((numbers(&store), in_force(&store).versions().routes), ((3, 2), [2; 32]));
    store.change_entities(shop_with_group("front"), [2; 32]).await.unwrap();
    assert_eq!(numbers(&store), (3, 2), "nothing changed");
}

#[tokio::test]
async fn rd_01_entities_that_come_while_an_edit_is_refused_come_into_force_without_it() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.write("orders.cedar", TYPO);
    store.reload().await;
    store.change_entities(shop_with_group("front"), [2; 32]).await.unwrap();
    assert_eq!((numbers(&store), in_force(&store).versions().routes), ((2, 1), [2; 32]));
    assert_eq!(store.status().diagnostics.len(), 1, "the edit is still shown");
    site.write("orders.cedar", READ);
    store.change_entities(shop(), [3; 32]).await.unwrap();
    assert!(store.status().diagnostics.is_empty(), "the file was looked at again");
    assert_eq!((numbers(&store), in_force(&store).versions().routes), ((3, 1), [3; 32]));
}

#[tokio::test]
async fn a_bad_file_beside_a_good_edit_refuses_both() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.write("stop.cedar", STOP);
    site.write("bad.cedar", b"\xff");
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow));
    site.remove("bad.cedar");
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Deny));
}

#[tokio::test]
async fn mo9_the_number_of_policies_grows_with_what_people_write_and_not_with_what_is_told() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    assert_eq!(numbers(&store), (2, 1));
    store.set_entities(shop_with_group("front"), [2; 32]).await;
    assert_eq!(numbers(&store), (3, 1));
    site.write("entities.json", "[]");
    store.reload().await;
    assert_eq!(numbers(&store), (4, 2));
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!(numbers(&store), (5, 3));
    store.set_entities(shop_with_group("front"), [2; 32]).await;
    assert_eq!(numbers(&store), (5, 3), "the same again is no change");
    site.remove("stop.cedar");
    store.reload().await;
    assert_eq!(numbers(&store), (6, 4), "a deleted file is a change");
    assert_eq!(web_gets(&in_force(&store)), Allow);
}

#[tokio::test]
async fn entities_change_while_a_policy_file_is_broken() {
    let front =
        READ.replace("principal == Workload::\"spiffe://example.org/web\"", "principal in Group::\"front\"");
    let site = Site::new(&[("orders.cedar", &front)]);
    let store = site.start().await;
    assert_eq!(web_gets(&in_force(&store)), Deny);
    site.write("orders.cedar", TYPO);
    store.reload().await;
    store.set_entities(shop_with_group("front"), [1; 32]).await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 1), Allow));
    assert_eq!(store.status().diagnostics.len(), 1, "the broken file is still told");
}

#[tokio::test]
async fn st7_a_uid_from_two_sources_refuses_the_entities_and_keeps_the_last_good() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let mut twice = shop();
    twice.services.extend(shop().services);
    store.set_entities(twice, [1; 32]).await;
    assert_eq!((numbers(&store), store.status().diagnostics[0].code), ((1, 1), "PC2012"));
}

#[tokio::test]
async fn numbers_continue_after_a_restart_and_the_same_content_keeps_its_number() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!(numbers(&store), (2, 2));
    drop(store);

    let commits = site.disk.commits.load(Ordering::Relaxed);
    let store = site.start().await;
    assert_eq!(numbers(&store), (2, 2));
    assert_eq!(site.disk.commits.load(Ordering::Relaxed), commits, "nothing was written for it");
    drop(store);

    site.remove("stop.cedar");
    assert_eq!(numbers(&*site.start().await), (3, 3));
}

#[tokio::test]
async fn the_last_good_policies_are_in_force_after_a_restart_on_a_broken_directory() {
    let site = Site::new(&[("orders.cedar", READ)]);
    drop(site.start().await);
    site.write("orders.cedar", TYPO);
    let store = site.start().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow));
    assert_eq!(store.status().diagnostics.len(), 1);
    std::fs::remove_dir_all(site.dir()).unwrap();
    let store = site.start().await;
    assert_eq!((numbers(&store), store.status().diagnostics[0].code), ((1, 1), "PC2013"));
}

#[tokio::test]
async fn a_directory_that_was_never_valid_puts_nothing_into_force() {
    let site = Site::new(&[("orders.cedar", TYPO)]);
    let store = site.start().await;
    assert!(store.subscribe().borrow().is_none());
    assert_eq!((store.status().diagnostics.len(), store.status().numbers), (1, None));
    site.write("orders.cedar", READ);
    store.reload().await;
    assert_eq!(numbers(&store), (1, 1));
}

#[tokio::test]
async fn a_retired_version_judges_as_it_did() {
    let site = Site::new(&[("orders.cedar", READ), ("entities.json", "[]")]);
    let store = site.start().await;
    let first = in_force(&store);
    store.set_entities(shop_with_group("front"), [2; 32]).await;
    site.write("stop.cedar", STOP);
    store.reload().await;
    site.write(
        "site.cedarschema",
        "type SiteHeaders = {};\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n",
    );
    store.reload().await;
    assert_eq!(numbers(&store), (4, 3));
    drop(store);

    let store = site.start().await;
    let old = store.version(1).unwrap();
    assert_eq!(old.versions(), first.versions(), "numbers and all digests");
    assert_eq!((web_gets(&old), web_gets(&in_force(&store))), (Allow, Deny));
    assert!(Arc::ptr_eq(&old, &store.version(1).unwrap()), "compiled once");
    assert_eq!(store.version(2).unwrap().versions().routes, [2; 32]);
    assert_eq!(store.policies(1).unwrap().versions().numbers.snapshot, 2, "the newest with those policies");
    let active = in_force(&store);
    assert!(Arc::ptr_eq(&store.version(active.versions().numbers.snapshot).unwrap(), &active));
    assert!(matches!(store.version(99), Err(PolicyStoreError::Unknown(99))));
    assert!(matches!(store.policies(99), Err(PolicyStoreError::UnknownVersion(99))));
}

#[tokio::test]
async fn st5_what_cannot_be_stored_is_not_put_into_force() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.disk.is_full.store(true, Ordering::Relaxed);
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow));
    assert_eq!(store.status().diagnostics[0].code, "PC2020");
    site.disk.is_full.store(false, Ordering::Relaxed);
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Deny));
}

#[tokio::test]
async fn a_head_that_somebody_else_moved_is_followed_not_overwritten() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let (store, other) = (site.start().await, site.start().await);
    site.write("stop.cedar", STOP);
    other.reload().await;
    store.reload().await;
    assert_eq!(store.status().diagnostics[0].code, "PC2020", "a conflict is told");
    assert_eq!(
        (numbers(&store), numbers(&other)),
        ((2, 2), (2, 2)),
        "and what the other one wrote is in force"
    );
    assert_eq!(web_gets(&in_force(&store)), Deny);
    store.reload().await;
    assert_eq!((numbers(&store), store.status().diagnostics.len()), ((2, 2), 0));
}

#[tokio::test]
async fn damaged_versions_are_told_and_never_used() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    site.write("stop.cedar", STOP);
    store.reload().await;
    let objects = site.disk.range(b"policies/o/", None, 1000).unwrap();
    let text = objects.iter().find(|entry| entry.value.starts_with(b"@id(\"orders-read\")")).unwrap();
    let forged = READ.replace("shop.Orders/Get", "shop.Orders/Refund");
    let forge = base_store::Transaction::new().put(text.key.clone(), forged.into_bytes());
    site.disk.commit(forge).await.unwrap();
    assert!(matches!(store.version(1), Err(PolicyStoreError::Damaged { .. })));
    let lose = base_store::Transaction::new().delete(text.key.clone());
    site.disk.commit(lose).await.unwrap();
    assert!(matches!(store.version(1), Err(PolicyStoreError::Damaged { .. })));
    let newer = base_store::Transaction::new().put(b"policies/h/site".to_vec(), b"x".to_vec());
    site.disk.commit(newer).await.unwrap();
    assert!(matches!(PolicyStore::open(site.config()).await, Err(PolicyStoreError::Damaged { .. })));
}

#[tokio::test]
async fn st7_entities_told_at_the_same_time_are_few_snapshots() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    let tell = |n: u8| store.set_entities(shop_with_group(&n.to_string()), [1; 32]);
    tokio::join!(tell(1), tell(2), tell(3), tell(4), tell(5), tell(6), tell(7), tell(8));
    let (snapshot, _) = numbers(&store);
    assert!((2..=3).contains(&snapshot), "{snapshot}");
    let rules = store.status().reloads;
    assert_eq!(rules.applied, snapshot, "one reload for each");
}

#[tokio::test]
async fn a_large_set_of_entities_is_stored_in_pieces() {
    let groups: Vec<String> = (0..1_000)
        .map(|n| {
            format!(
                r#"{{"uid":{{"type":"Group","id":"group-{n}-{}"}},"attrs":{{}},"parents":[]}}"#,
                "x".repeat(1_500)
            )
        })
        .collect();
    let site = Site::new(&[("orders.cedar", READ), ("entities.json", &format!("[{}]", groups.join(",")))]);
    let store = site.start().await;
    assert_eq!(numbers(&store), (1, 1), "{:?}", store.status().diagnostics);
    site.write("entities.json", "[]");
    store.reload().await;
    let old = store.version(1).unwrap();
    assert_ne!(old.versions().entities, in_force(&store).versions().entities);
}

#[tokio::test]
async fn fs4_a_policy_that_others_can_write_is_not_obeyed_and_the_last_good_one_stays() {
    let site = Site::new(&[("a.cedar", READ)]);
    let store = site.start().await;
    site.write("b.cedar", STOP);
    site.chmod("b.cedar", 0o666);
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow));
    assert_eq!(store.status().diagnostics[0].code, "PC0108");
    site.chmod("b.cedar", 0o644);
    assert!(store.is_outdated(&site.dir()), "a mended mode is noticed");
    store.reload().await;
    assert_eq!((store.status().diagnostics.len(), web_gets(&in_force(&store))), (0, Deny));
}

/// Refuses what widens.
#[derive(Debug)]
struct Careful;

impl Saves for Careful {
    fn refusal(&self, author: &str, found: &crate::Checked) -> Option<Diagnostic> {
        assert!(author.starts_with("Portcullis::LocalUser::"), "{author}");
        let refused = || Diagnostic::about("PC2043", &Arc::from("policies"), "not alone");
        found.widens.then(refused)
    }
}

#[tokio::test]
async fn st10_what_may_not_be_saved_alone_is_left_out_and_what_closes_is_taken() {
    let mut site = Site::new(&[("orders.cedar", READ)]);
    site.saves = Arc::new(Careful);
    let store = site.start().await;
    assert_eq!(numbers(&store), (1, 1), "the first version is taken as it is");
    site.write("more.cedar", READ.replace("orders-read", "more").replace("/web", "/batch"));
    store.reload().await;
    assert_eq!(numbers(&store), (1, 1));
    assert_eq!(store.status().diagnostics[0].code, "PC2043");
    // Still so after a restart, where what is in force comes first and is compared with.
    drop(store);
    let store = site.start().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((1, 1), Allow));
    assert_eq!(store.status().diagnostics[0].code, "PC2043");
    site.remove("more.cedar");
    site.write("stop.cedar", STOP);
    store.reload().await;
    assert_eq!((numbers(&store), web_gets(&in_force(&store))), ((2, 2), Deny));
    assert!(store.status().diagnostics.is_empty());
    // What closes is taken at a start as well.
    drop(store);
    site.write("stop.cedar", STOP.replace("@id(\"", "// again\n@id(\""));
    let store = site.start().await;
    assert_eq!(
        (numbers(&store).0, store.status().diagnostics.len()),
        (3, 0),
        "{:?}",
        store.status().diagnostics
    );
}
