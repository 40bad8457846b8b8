//! Snapshot files: restarts without publisher, damage, a full disk, SIGKILL (ST9).

use super::*;
use base_ports::SystemDisk;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

fn listed(disk: &MemoryDisk) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = disk.list(Path::new("/follow")).unwrap().into_iter().map(name);
    files.filter(|name| name.contains("snap") || name.contains("bad")).collect()
}

fn file(snapshot: u64) -> String {
    format!("{:020}.{snapshot:020}.pcsnap", 1)
}

/// Two snapshots in force one after the other, on that disk.
async fn two(disk: &Arc<MemoryDisk>) -> Publisher {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = begun(publisher.config(disk)).await;
    assert_eq!(take(&follower, publisher.whole(&publisher.newest())).await, Taken::InForce);
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&second)).await, Taken::InForce);
    publisher
}

#[tokio::test]
async fn st9_the_last_good_snapshot_is_in_force_after_a_restart_without_publisher() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = two(&disk).await;
    assert_eq!(listed(&disk), [file(1), file(2)]);
    let follower = begun(publisher.config(&disk)).await;
    assert_eq!(verdict(&follower), (2, Effect::Deny));
    assert_eq!(follower.follow_status().alarm, None);
    assert_eq!(
        web_gets(&follower.version(1).unwrap()),
        Effect::Allow,
        "what a retired snapshot judged is explained"
    );
    assert!(matches!(follower.version(7), Err(PolicyStoreError::Unknown(7))));
    let first = publisher.resigned(&[("\"snapshot\":2", "\"snapshot\":1")]);
    assert_eq!(
        code(&take(&follower, publisher.whole(&first)).await),
        "PC2024",
        "numbers survive the restart"
    );
    let third = publisher.publish("b.cedar", "").await;
    assert_eq!(take(&follower, publisher.whole(&third)).await, Taken::InForce, "and it goes on from there");
}

#[tokio::test(start_paused = true)]
async fn st9_a_snapshot_is_enforced_and_told_before_its_file_is_written_and_explained_in_between() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = begun(publisher.config(&disk)).await;
    let (tasks, nothing) = (Tasks::new("test"), async |_: Vec<Hash>| Err(held::damaged(String::new())));
    tasks.spawn("policy files", Arc::clone(&follower).keep_files());
    let tell = async || assert_eq!((verdict(&follower), listed(&disk)), ((1, Effect::Allow), Vec::new()));
    assert_eq!(follower.take(publisher.whole(&publisher.newest()), nothing, tell).await, Taken::InForce);
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(follower.take(publisher.whole(&second), nothing, async || {}).await, Taken::InForce);
    assert_eq!(listed(&disk), Vec::<String>::new());
    assert_eq!(web_gets(&follower.version(1).unwrap()), Effect::Allow, "retired before it had a file");
    tokio::time::timeout(Duration::from_secs(30), async {
        while listed(&disk) != [file(1), file(2)] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("each of them gets its file");
}

#[tokio::test]
async fn st9_a_disk_that_is_too_slow_is_waited_for() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = begun(publisher.config(&disk)).await;
    let nothing = async |_: Vec<Hash>| Err(held::damaged(String::new()));
    let mut newest = publisher.newest();
    for round in 0..17 {
        assert_eq!(listed(&disk).len(), 0, "nobody writes yet");
        assert_eq!(follower.take(publisher.whole(&newest), nothing, async || {}).await, Taken::InForce);
        newest = publisher.publish("b.cedar", &format!("{STOP}// {round}\n")).await;
    }
    assert_eq!(listed(&disk).len(), 17, "no more than sixteen wait");
}

#[tokio::test]
async fn st9_fs3_a_damaged_file_is_put_aside_with_an_alarm_and_the_one_before_it_used() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = two(&disk).await;
    let newest = Path::new("/follow").join(file(2));
    let mut bytes = disk.read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.write_atomic(&newest, &bytes, 0o600).unwrap();

    let follower = begun(publisher.config(&disk)).await;
    assert_eq!(verdict(&follower), (1, Effect::Allow));
    assert_eq!(listed(&disk), [file(1), file(2).replace("pcsnap", "bad")]);
    let alarm = follower.follow_status().alarm.unwrap();
    assert!(alarm.contains(&file(2)) && alarm.contains("checksum"), "{alarm}");
    assert_eq!(
        take(&follower, publisher.whole(&publisher.newest())).await,
        Taken::InForce,
        "the publisher mends it"
    );
    assert_eq!(follower.follow_status().alarm, None);
}

#[tokio::test]
async fn st9_a_file_that_another_key_signed_is_not_believed_and_not_destroyed() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = two(&disk).await;
    let stranger = Signer::ephemeral("example.org", Arc::new(SeededRng::new(8))).unwrap();
    let config = FollowConfig { signers: stranger.verifiers(), ..publisher.config(&disk) };
    let follower = begun(config).await;
    assert!(follower.subscribe().borrow().is_none());
    assert!(follower.follow_status().alarm.unwrap().contains("trusted key"));
    assert_eq!(listed(&disk), [file(1), file(2)]);
}

#[tokio::test]
async fn st9_a_signed_file_is_a_beginning_and_a_newer_one_on_the_shelf_wins() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let exported = publisher.feed.snapshot_file().unwrap().unwrap();
    let disk = Arc::new(MemoryDisk::new());
    disk.create_dir_all(Path::new("/given")).unwrap();
    disk.write_atomic(Path::new("/given/first.pcsnap"), &exported, 0o600).unwrap();
    let config = || FollowConfig { bootstrap: Some("/given/first.pcsnap".into()), ..publisher.config(&disk) };
    let follower = begun(config()).await;
    assert_eq!(verdict(&follower), (1, Effect::Allow));
    assert_eq!(follower.snapshot_file().await.unwrap(), exported);
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&second)).await, Taken::InForce);
    assert_eq!(verdict(&*begun(config()).await), (2, Effect::Deny));

    disk.write_atomic(Path::new("/given/first.pcsnap"), b"PCSNAP01", 0o600).unwrap();
    let empty = FollowConfig { dir: "/empty".into(), ..config() };
    let follower = begun(empty).await;
    assert!(follower.subscribe().borrow().is_none());
    assert!(follower.follow_status().alarm.unwrap().contains("/given/first.pcsnap"));
    assert!(disk.exists(Path::new("/given/first.pcsnap")), "what somebody gave us stays where it is");
}

#[tokio::test]
async fn st9_a_full_disk_is_an_alarm_and_the_snapshot_is_enforced_from_memory() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = two(&disk).await;
    let follower = begun(publisher.config(&disk)).await;
    disk.limit_room(100);
    let third = publisher.publish("b.cedar", "").await;
    assert_eq!(take(&follower, publisher.whole(&third)).await, Taken::InForce);
    assert_eq!(verdict(&follower), (3, Effect::Allow));
    assert!(follower.follow_status().alarm.unwrap().contains("cannot be written"));
    disk.free_room();
    assert_eq!(
        verdict(&*begun(publisher.config(&disk)).await),
        (2, Effect::Deny),
        "the last one that fitted"
    );
    let fourth = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&fourth)).await, Taken::InForce);
    assert_eq!(follower.follow_status().alarm, None);
}

#[tokio::test]
async fn st9_only_the_newest_hundred_files_are_kept() {
    let disk = Arc::new(MemoryDisk::new());
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let offered = publisher.newest();
    let offer = |snapshot: u64| {
        let mut offer =
            Offer::verified(offered.manifest.clone(), offered.note.clone(), &publisher.signer.verifiers())
                .unwrap();
        offer.numbers.snapshot = snapshot;
        offer
    };
    let shelf = Shelf::open("/follow".into(), Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    for snapshot in 1..=103 {
        shelf.put(&Held { offer: offer(snapshot), objects: HashMap::new() }).unwrap();
    }
    let names = listed(&disk);
    assert_eq!((names.len(), names.first(), names.last()), (100, Some(&file(4)), Some(&file(103))));
}

const CHILD: &str = "POLICIES_STORE_KILL_CHILD";

/// The child of the test below: writes snapshot files for ever and says each one that is written.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let publisher = runtime.block_on(Publisher::start(&[("a.cedar", READ)]));
    let shelf = Shelf::open(dir.into(), Arc::new(SystemDisk)).unwrap();
    let base = String::from_utf8(publisher.newest().manifest.to_vec()).unwrap();
    let keys = publisher.signer.verifiers();
    let after = shelf.newest(&keys).0.map_or(0, |held| held.offer.numbers.snapshot);
    for snapshot in after + 1.. {
        let text = base.replacen("\"snapshot\":1", &format!("\"snapshot\":{snapshot}"), 1);
        let published = publisher.signed(text.into());
        let offer = Offer::verified(published.manifest.clone(), published.note.clone(), &keys).unwrap();
        let came = received(publisher.whole(&published).objects).unwrap();
        shelf.put(&offer.complete(came, None).unwrap()).unwrap();
        println!("ack {snapshot} end");
    }
}

#[tokio::test]
async fn st9_sigkill_while_a_file_is_written_leaves_the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    // The child makes the same key from the same seed.
    let keys = Publisher::start(&[]).await.signer.verifiers();
    let mut newest = 0;
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["follow::tests::files::child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = |count: u64| {
            let said = lines.by_ref().map_while(Result::ok);
            let said = said.filter_map(|line| line.split_once("ack ")?.1.strip_suffix(" end")?.parse().ok());
            said.take(usize::try_from(count).unwrap()).max().unwrap_or(0_u64)
        };
        newest = acknowledged(3 + round).max(newest);
        std::thread::sleep(Duration::from_micros(round * 900));
        child.kill().unwrap();
        child.wait().unwrap();
        newest = acknowledged(u64::MAX >> 1).max(newest);
        let shelf = Shelf::open(dir.path().to_owned(), Arc::new(SystemDisk)).unwrap();
        let (held, told) = shelf.newest(&keys);
        let held = held.expect("a good file").offer.numbers.snapshot;
        assert!(held >= newest && newest > 0, "round {round}: {newest} was acknowledged, {held} is there");
        assert_eq!(told, Vec::<String>::new(), "round {round}: no file is damaged");
    }
}
