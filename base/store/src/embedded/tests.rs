//! The embedded store under crashes, torn writes, flipped bits and full disks.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use base_ports::{ManualClock, MemoryDisk, SystemClock, UnixTime};

use super::*;
use crate::{Compare, Event};

const DIR: &str = "/store";

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(UnixTime::from_secs(1)))
}

fn simulated(disk: &MemoryDisk) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open_simulated(Path::new(DIR), Arc::new(disk.clone()), clock())
}

fn real(dir: &Path) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open(dir, Arc::new(SystemDisk), Arc::new(SystemClock))
}

fn segment(disk: &MemoryDisk) -> PathBuf {
    let files = disk.list(&Path::new(DIR).join("journal")).unwrap();
    files.into_iter().rfind(|file| file.extension().is_some_and(|ending| ending == "log")).unwrap()
}

async fn fill(store: &Embedded, count: u32) {
    for n in 0..count {
        store.commit(Transaction::new().put(format!("k{n}"), format!("v{n}"))).await.unwrap();
    }
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    let make = || {
        n += 1;
        real(&dir.path().join(n.to_string())).unwrap() as Arc<dyn Store>
    };
    crate::conformance::check(make).await.unwrap();
    crate::conformance::check(|| simulated(&MemoryDisk::new()).unwrap() as Arc<dyn Store>).await.unwrap();
}

#[tokio::test]
async fn fs6_a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = real(dir.path()).unwrap();
    let refused = real(dir.path()).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Locked { owner, .. } if *owner == std::process::id().to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_revisions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 10).await;
    let before = store.range(b"", None, 100).unwrap();
    drop(store);
    let store = real(dir.path()).unwrap();
    assert_eq!(store.range(b"", None, 100).unwrap(), before);
    assert_eq!(store.commit(Transaction::new().put("x", "y")).await.unwrap().get(), 11);
}

#[tokio::test]
async fn a_lost_or_foreign_index_is_moved_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 5).await;
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = real(dir.path()).unwrap();
    assert_eq!(store.range(b"k", None, 100).unwrap().len(), 5);
    drop(store);
    let other = tempfile::tempdir().unwrap();
    let foreign = real(other.path()).unwrap();
    foreign.commit(Transaction::new().put("foreign", "x")).await.unwrap();
    drop(foreign);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    std::fs::rename(other.path().join("index"), dir.path().join("index")).unwrap();
    let store = real(dir.path()).unwrap();
    assert_eq!(store.range(b"", None, 100).unwrap().len(), 5);
    assert!(dir.path().join("index.quarantine-1").exists());
}

#[tokio::test]
async fn a_store_whose_journal_is_gone_is_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 1).await;
    drop(store);
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    assert!(matches!(real(dir.path()), Err(StoreError::JournalMissing { .. })));
}

#[tokio::test]
async fn fs7_a_newer_format_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    drop(real(dir.path()).unwrap());
    std::fs::write(dir.path().join("STORE"), "portcullis store, format 2\n").unwrap();
    let refused = real(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("has format 2; this version reads up to 1"), "{refused}");
}

#[tokio::test]
async fn a_torn_tail_is_cut_at_every_length_and_nothing_acknowledged_goes() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 3).await;
    drop(store);
    let path = segment(&disk);
    let whole = disk.read(&path).unwrap();
    let mut lengths = vec![44];
    while let Some(rest) = whole.get(*lengths.last().unwrap()..).filter(|rest| !rest.is_empty()) {
        let size = usize::try_from(u32::from_be_bytes(rest[..4].try_into().unwrap())).unwrap();
        lengths.push(lengths.last().unwrap() + 40 + size);
    }
    for cut in 44..whole.len() {
        let disk = MemoryDisk::new();
        drop(simulated(&disk).unwrap());
        let path = segment(&disk);
        disk.open_append(&path).unwrap().append(&whole[44..cut]).unwrap();
        let complete = lengths.iter().filter(|length| **length <= cut).count() - 1;
        let store = simulated(&disk).unwrap();
        assert_eq!(store.range(b"k", None, 10).unwrap().len(), complete, "cut at {cut}");
        store.commit(Transaction::new().put("after", "x")).await.unwrap();
        drop(store);
        assert_eq!(simulated(&disk).unwrap().range(b"", None, 10).unwrap().len(), complete + 1);
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_and_never_gives_a_wrong_value() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 3).await;
    drop(store);
    let whole = disk.read(&segment(&disk)).unwrap();
    let last_frame = whole.len() - 73;
    for at in 0..whole.len() {
        let disk = MemoryDisk::new();
        drop(simulated(&disk).unwrap());
        let path = segment(&disk);
        disk.cut(&path, 0);
        disk.open_append(&path).unwrap().append(&whole).unwrap();
        disk.flip(&path, at, 3);
        match simulated(&disk) {
            Err(StoreError::Corrupt { .. } | StoreError::TooNew { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
            Ok(store) => {
                let found = store.range(b"", None, 10).unwrap();
                assert_eq!(found.len(), 2, "byte {at}");
                assert!(
                    found
                        .iter()
                        .all(|entry| entry.value == String::from_utf8_lossy(&entry.key).replace('k', "v"))
                );
                let is_length = (last_frame..last_frame + 4).contains(&at);
                assert!(is_length, "byte {at}: only the length of the last frame can look like a torn tail");
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_commits_keeps_reads_and_recovers() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 2).await;
    disk.limit_room(10);
    let refused = store.commit(Transaction::new().put("k9", "v9")).await;
    assert!(matches!(refused, Err(StoreError::Write(_))), "{refused:?}");
    assert_eq!(store.range(b"k", None, 10).unwrap().len(), 2);
    disk.free_room();
    assert_eq!(store.commit(Transaction::new().put("k2", "v2")).await.unwrap().get(), 3);
    drop(store);
    assert_eq!(simulated(&disk).unwrap().range(b"k", None, 10).unwrap().len(), 3);
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_until_it_is_opened_again() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 2).await;
    disk.fail_sync(true);
    assert!(matches!(store.commit(Transaction::new().put("lost", "x")).await, Err(StoreError::Write(_))));
    disk.fail_sync(false);
    assert!(matches!(store.commit(Transaction::new().put("k2", "v2")).await, Err(StoreError::Stopped)));
    assert!(store.get(b"lost").unwrap().is_none(), "what was refused is not shown");
    drop(store);
    disk.lose_unsynced(0);
    let store = simulated(&disk).unwrap();
    assert_eq!(store.range(b"", None, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn a_snapshot_carries_the_chain_and_old_segments_go() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    let value = vec![b'x'; 3 << 20];
    for n in 0..40 {
        store.commit(Transaction::new().put(format!("k{}", n % 4), value.clone())).await.unwrap();
    }
    drop(store);
    let files = disk.list(&Path::new(DIR).join("journal")).unwrap();
    let count = |ending: &str| {
        files.iter().filter(|file| file.extension().is_some_and(|found| found == ending)).count()
    };
    assert_eq!(count("snap"), 2, "{files:?}");
    assert!(count("log") <= 3, "{files:?}");
    let store = simulated(&disk).unwrap();
    assert_eq!((store.revision().get(), store.range(b"", None, 10).unwrap().len()), (40, 4));
    drop(store);
    let newest = files.iter().rfind(|file| file.extension().is_some_and(|ending| ending == "snap")).unwrap();
    disk.flip(newest, 100, 0);
    let store = simulated(&disk).unwrap();
    assert_eq!(
        (store.revision().get(), store.range(b"", None, 10).unwrap().len()),
        (40, 4),
        "the older snapshot stands in"
    );
}

#[tokio::test]
async fn a_watch_from_before_the_start_must_resync() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 2).await;
    drop(store);
    let store = simulated(&disk).unwrap();
    let mut watch = store.watch(b"", 1.into()).unwrap();
    assert_eq!(watch.next().await, Some(Event::Resync));
}

#[tokio::test]
async fn many_commits_share_a_sync_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    let commits: Vec<_> =
        (0..500).map(|n: u32| store.commit(Transaction::new().put("same", n.to_string()))).collect();
    for (n, commit) in commits.into_iter().enumerate() {
        assert_eq!(commit.await.unwrap().get(), u64::try_from(n).unwrap() + 1);
    }
    assert_eq!(store.get(b"same").unwrap().unwrap().value, "499");
}

const CHILD: &str = "BASE_STORE_KILL_CHILD";

/// The child of the test below: commits for ever and says each revision once it is acknowledged.
#[test]
fn kill_child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = real(Path::new(&dir)).unwrap();
        loop {
            let next = store.revision().next().get();
            let transaction = Transaction::new().require(format!("k{next}"), Compare::Absent);
            let revision = store.commit(transaction.put(format!("k{next}"), vec![b'v'; 100])).await.unwrap();
            println!("ack {revision}");
        }
    });
}

#[test]
fn ps7_nothing_acknowledged_is_lost_to_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::tests::kill_child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .filter_map(|line| line.split_once("ack ")?.1.trim().parse::<u64>().ok())
                .max()
        });
        std::thread::sleep(Duration::from_millis(80 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        newest = reader.join().unwrap().unwrap_or(newest).max(newest);
        let store = real(dir.path()).unwrap();
        let held = store.revision().get();
        assert!(held >= newest, "round {round}: {newest} was acknowledged, {held} is there");
        let entries = store.range(b"k", None, usize::MAX).unwrap();
        assert_eq!(u64::try_from(entries.len()).unwrap(), held, "round {round}");
    }
    assert!(newest > 10, "the child committed {newest} only");
}
