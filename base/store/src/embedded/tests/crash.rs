//! TM-05: the process dies, or the power goes, at every single change of a scripted history. After each, the store opens,
//! holds all that was acknowledged, at most one commit more, nothing else, and goes on.

use base_ports::Survive;

use super::*;

/// Small, so that the history closes segments, makes snapshots and removes files.
const ROLL: u64 = 700;
const COMMITS: u64 = 16;

fn open(disk: &MemoryDisk) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open_rolling(Path::new(DIR), Arc::new(disk.clone()), clock(), ROLL)
}

/// The commit with that revision; the last of a key is the one that stands.
fn transaction(revision: u64) -> Transaction {
    let value = vec![u8::try_from(revision).unwrap(); 150];
    Transaction::new().put(format!("k{}", revision % 5), value).put("newest", revision.to_string())
}

/// Runs the history until it ends or the disk is dead; gives the last acknowledged revision.
async fn history(disk: &MemoryDisk) -> u64 {
    let Ok(store) = open(disk) else { return 0 };
    let mut acknowledged = 0;
    for revision in 1..=COMMITS {
        match store.commit(transaction(revision)).await {
            Ok(told) => acknowledged = told.get(),
            Err(_) => break,
        }
    }
    acknowledged
}

/// What a store holds at `revision`, as key and value.
async fn expected(revision: u64) -> Vec<(Vec<u8>, bytes::Bytes)> {
    let store = crate::Memory::new();
    for revision in 1..=revision {
        store.commit(transaction(revision)).await.unwrap();
    }
    store.range(b"", None, 100).unwrap().into_iter().map(|entry| (entry.key, entry.value)).collect()
}

async fn check(disk: &MemoryDisk, acknowledged: u64, what: &str) {
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let revision = store.revision().get();
    assert!((acknowledged..=acknowledged + 1).contains(&revision), "{what}: {revision} after {acknowledged}");
    let found: Vec<_> = all(&store).into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(found, expected(revision).await, "{what}");
    let next = store.commit(Transaction::new().put("after", what.to_owned())).await;
    assert_eq!(next.unwrap_or_else(|error| panic!("{what}: {error}")).get(), revision + 1, "{what}");
    drop(store);
    disk.lose_power(Survive::Nothing);
    let store = open(disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(
        store.get(b"after").unwrap().map(|entry| entry.value),
        Some(what.to_owned().into()),
        "{what}, again"
    );
}

#[tokio::test]
async fn tm_05_a_crash_at_every_change_loses_nothing_acknowledged() {
    let disk = MemoryDisk::new();
    assert_eq!(history(&disk).await, COMMITS);
    let changes = disk.steps();
    let files = disk.list(&Path::new(DIR).join("journal")).unwrap();
    let is_snapshot = |file: &std::path::PathBuf| file.extension().is_some_and(|ending| ending == "snap");
    assert!(files.iter().any(is_snapshot), "the history makes a snapshot: {files:?}");
    // A snapshot is made beside the writer, so that a history has a few changes more or less each time.
    for step in 0..changes + 10 {
        let disk = MemoryDisk::new();
        disk.die_after(step);
        let acknowledged = history(&disk).await;
        let sectors = (0..6).map(|seed| Survive::Sectors(step * 6 + seed));
        for survive in [Survive::Nothing, Survive::Everything].into_iter().chain(sectors) {
            let left = disk.copy();
            left.lose_power(survive);
            check(&left, acknowledged, &format!("change {step} of {changes}, {survive:?}")).await;
        }
    }
}

/// As a kernel kills: the second process may serve what the first never acknowledged. Then it must be durable.
#[tokio::test]
async fn what_a_restart_found_in_the_kernels_memory_is_durable_before_it_is_shown() {
    for step in 0..60 {
        let disk = MemoryDisk::new();
        disk.die_after(step);
        let acknowledged = history(&disk).await;
        disk.revive();
        let Ok(store) = open(&disk) else { continue };
        let shown = store.revision().get();
        assert!(shown >= acknowledged);
        drop(store);
        disk.lose_power(Survive::Nothing);
        let store = open(&disk).unwrap();
        assert!(store.revision().get() >= shown, "change {step}: {shown} was shown and is gone");
    }
}
