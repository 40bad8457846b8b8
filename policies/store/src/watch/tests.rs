//! Edits as editors, scripts and mounts make them, noticed by a running process.

use crate::testing::{READ, STOP, Site, TYPO, in_force, numbers, shop, web_gets};
use crate::watched::QUIET;
use crate::{PolicyStore, Reloads};
use base_ports::Tasks;
use policies_engine::Effect::{Allow, Deny};
use std::{fs, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(15);

struct Running {
    store: Arc<PolicyStore>,
    _tasks: Tasks,
}

impl Running {
    async fn on(site: &Site) -> Running {
        let store = site.open().await;
        store.set_entities(shop(), [1; 32]).await;
        let tasks = Tasks::new("test");
        store.start(&tasks);
        // The watch is set before the first edit.
        sleep(Duration::from_millis(50)).await;
        Running { store, _tasks: tasks }
    }

    async fn until(&self, what: impl Fn(&PolicyStore) -> bool) -> Duration {
        let begun = Instant::now();
        while !what(&self.store) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.store.status());
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

#[tokio::test]
async fn a_save_is_in_force_soon_and_a_typo_is_not() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    site.write("stop.cedar", STOP);
    running.until(|store| numbers(store) == (2, 2)).await;
    assert_eq!(web_gets(&in_force(&running.store)), Deny);
    site.write("orders.cedar", TYPO);
    running.until(|store| !store.status().diagnostics.is_empty()).await;
    assert_eq!(numbers(&running.store), (2, 2));
    site.write("orders.cedar", READ);
    site.remove("stop.cedar");
    running.until(|store| numbers(store) == (3, 3)).await;
    assert_eq!(web_gets(&in_force(&running.store)), Allow);
    assert!(running.store.status().diagnostics.is_empty());
}

#[tokio::test]
async fn a_burst_of_edits_is_one_snapshot() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    for n in 0..40 {
        site.write(&format!("p{}.cedar", n % 10), STOP.replace("stop", &format!("stop-{}", n % 10)));
        sleep(Duration::from_millis(10)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    if longest > QUIET / 2 {
        return; // A machine this busy does not write in bursts.
    }
    running.until(|store| numbers(store).0 > 1).await;
    sleep(Duration::from_millis(600)).await;
    assert_eq!(numbers(&running.store), (2, 2));
    assert_eq!(running.store.status().reloads, Reloads { applied: 2, unchanged: 0, refused: 0 });
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read_halfway() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    // The first half alone would be a permit for everybody.
    let all = "@id(\"all\")\npermit (principal, action == Action::\"grpc\", resource)";
    let whole = format!("{all}\nwhen {{ context.connection.tls == 99 }};\n{}", STOP);
    let mut written = String::new();
    for piece in whole.split_inclusive('\n') {
        written.push_str(piece);
        site.write("orders.cedar", &written);
        sleep(Duration::from_millis(60)).await;
    }
    running.until(|store| numbers(store).0 > 1).await;
    assert_eq!(numbers(&running.store), (2, 2));
    assert_eq!(running.store.status().reloads.refused, 0, "the halves were never tried");
    assert_eq!(web_gets(&in_force(&running.store)), Deny);
}

#[tokio::test]
async fn a_file_left_halfway_keeps_the_last_good_snapshot_until_it_is_whole() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    site.write("orders.cedar", READ.split_at(READ.len() / 2).0);
    running.until(|store| !store.status().diagnostics.is_empty()).await;
    assert_eq!((numbers(&running.store), web_gets(&in_force(&running.store))), ((1, 1), Allow));
    site.write("orders.cedar", format!("{READ}{STOP}"));
    running.until(|store| numbers(store) == (2, 2)).await;
    assert!(running.store.status().diagnostics.is_empty());
}

#[tokio::test]
async fn a_mounted_directory_that_swaps_its_link_is_followed() {
    let site = Site::new(&[]);
    let real = site.dir().parent().unwrap().to_owned();
    for (version, text) in [("v1", READ), ("v2", STOP)] {
        fs::create_dir(real.join(version)).unwrap();
        fs::write(real.join(version).join("orders.cedar"), text).unwrap();
    }
    std::os::unix::fs::symlink(real.join("v1"), site.dir().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/orders.cedar", site.dir().join("orders.cedar")).unwrap();
    let running = Running::on(&site).await;
    assert_eq!(web_gets(&in_force(&running.store)), Allow);
    std::os::unix::fs::symlink(real.join("v2"), site.dir().join("..tmp")).unwrap();
    fs::rename(site.dir().join("..tmp"), site.dir().join("..data")).unwrap();
    running.until(|store| numbers(store) == (2, 2)).await;
    assert_eq!(web_gets(&in_force(&running.store)), Deny);
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed_and_one_that_is_gone_changes_nothing() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    fs::remove_dir_all(site.dir()).unwrap();
    running.until(|store| !store.status().diagnostics.is_empty()).await;
    assert_eq!((numbers(&running.store), web_gets(&in_force(&running.store))), ((1, 1), Allow));
    fs::create_dir(site.dir()).unwrap();
    site.write("stop.cedar", STOP);
    running.until(|store| numbers(store) == (2, 2)).await;
    assert!(running.store.status().diagnostics.is_empty());
    // The events of the new directory go nowhere; looking still finds this edit.
    site.write("orders.cedar", READ);
    running.until(|store| numbers(store) == (3, 3)).await;
}

#[tokio::test]
async fn an_idle_directory_causes_no_work() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let running = Running::on(&site).await;
    let _read = fs::read(site.dir().join("orders.cedar")).unwrap();
    site.write("notes.txt", "x");
    site.write(".orders.cedar.swp", "x");
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(running.store.status().reloads, Reloads { applied: 1, unchanged: 0, refused: 0 });
}
