//! The embedded store: what it keeps, what it refuses, how it opens. Faults of the disk: `crash` and `damage`.

mod crash;
mod damage;
mod kill;

use base_ports::{ManualClock, MemoryDisk, SystemClock, SystemDisk, UnixTime};

use super::*;
use crate::Event;

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

async fn fill(store: &Embedded, count: u32) {
    for n in 0..count {
        store.commit(Transaction::new().put(format!("k{n}"), format!("v{n}"))).await.unwrap();
    }
}

fn all(store: &Embedded) -> Vec<Entry> {
    store.range(b"", None, usize::MAX).unwrap()
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
async fn fs6_a_second_store_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = real(dir.path()).unwrap();
    let refused = real(dir.path()).unwrap_err();
    let me = std::process::id().to_string();
    assert!(matches!(&refused, StoreError::Locked { owner, .. } if *owner == me), "{refused}");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_revisions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 10).await;
    let before = all(&store);
    drop(store);
    let store = real(dir.path()).unwrap();
    assert_eq!(all(&store), before);
    assert_eq!(store.commit(Transaction::new().put("x", "y")).await.unwrap().get(), 11);
    assert!(!dir.path().join("index.quarantine-1").exists());
}

#[test]
fn a_store_without_a_commit_opens_again_with_its_index() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        assert_eq!(real(dir.path()).unwrap().revision(), Revision::ZERO);
    }
    assert!(!dir.path().join("index.quarantine-1").exists());
}

#[test]
fn fs4_nobody_else_can_look_into_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    drop(real(dir.path()).unwrap());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn dropping_the_store_writes_what_waits() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    let waiting: Vec<_> =
        (0..50).map(|n| store.commit(Transaction::new().put(format!("k{n}"), "v"))).collect();
    drop(store);
    for commit in waiting {
        commit.await.unwrap();
    }
    assert_eq!(all(&simulated(&disk).unwrap()).len(), 50);
}

#[tokio::test]
async fn a_commit_after_the_end_says_closed() {
    let store = simulated(&MemoryDisk::new()).unwrap();
    let mut watch = store.watch(b"", Revision::ZERO).unwrap();
    store.shared.queue.close();
    assert!(matches!(store.commit(Transaction::new().put("k", "v")).await, Err(StoreError::Closed)));
    drop(store);
    assert_eq!(watch.next().await, None);
}

/// Does what `break_it` says to a store of five commits, and gives how it opens then.
async fn reopened(break_it: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<Arc<Embedded>, StoreError>) {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 5).await;
    drop(store);
    break_it(dir.path());
    let opened = real(dir.path());
    (dir, opened)
}

#[tokio::test]
async fn a_lost_index_is_rebuilt() {
    let (_dir, store) = reopened(|dir| std::fs::remove_dir_all(dir.join("index")).unwrap()).await;
    assert_eq!(all(&store.unwrap()).len(), 5);
}

#[tokio::test]
async fn xt_26_an_index_that_is_no_sled_any_more_is_moved_aside_and_rebuilt() {
    for round in 0..2 {
        let (dir, store) = reopened(|dir| match round {
            0 => std::fs::write(dir.join("index/conf"), "no configuration").unwrap(),
            _ => std::fs::write(dir.join("index/db"), vec![0xa5; 100_000]).unwrap(),
        })
        .await;
        assert_eq!(all(&store.unwrap()).len(), 5, "round {round}");
        assert!(dir.path().join("index.quarantine-1").exists(), "round {round}");
    }
}

#[tokio::test]
async fn an_index_of_another_journal_is_moved_aside() {
    let other = tempfile::tempdir().unwrap();
    let foreign = real(other.path()).unwrap();
    foreign.commit(Transaction::new().put("foreign", "x")).await.unwrap();
    drop(foreign);
    let (dir, store) = reopened(|dir| {
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        std::fs::rename(other.path().join("index"), dir.join("index")).unwrap();
    })
    .await;
    assert_eq!(all(&store.unwrap()).len(), 5);
    assert!(dir.path().join("index.quarantine-1").exists());
}

#[tokio::test]
async fn fs3_a_damaged_entry_in_the_index_is_found_at_the_start() {
    let (dir, store) = reopened(|dir| {
        let index = sled::open(dir.join("index")).unwrap();
        index.insert(b"ek3", "wrong").unwrap();
        index.flush().unwrap();
    })
    .await;
    assert_eq!(store.unwrap().get(b"k3").unwrap().unwrap().value, "v3");
    assert!(dir.path().join("index.quarantine-1").exists());
}

#[tokio::test]
async fn fs8_a_journal_older_than_its_index_is_refused_and_nothing_is_cut() {
    let mut kept = Vec::new();
    let log = "journal/00000000000000000001.log";
    let (dir, store) = reopened(|dir| {
        let bytes = std::fs::read(dir.join(log)).unwrap();
        kept = bytes[..bytes.len() - 1].to_vec();
        std::fs::write(dir.join(log), &kept).unwrap();
    })
    .await;
    let refused = store.unwrap_err();
    assert!(matches!(refused, StoreError::JournalBehind { journal: 4, index: 5, .. }), "{refused}");
    assert_eq!(std::fs::read(dir.path().join(log)).unwrap(), kept);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_eq!(all(&real(dir.path()).unwrap()).len(), 4, "removing the index accepts the loss");
}

#[tokio::test]
async fn fs3_a_store_whose_journal_is_gone_is_never_made_anew() {
    let gone: [fn(&Path); 4] = [
        |dir| std::fs::remove_dir_all(dir.join("journal")).unwrap(),
        |dir| std::fs::remove_file(dir.join("journal/00000000000000000001.log")).unwrap(),
        |dir| {
            std::fs::remove_dir_all(dir.join("journal")).unwrap();
            std::fs::remove_file(dir.join("STORE")).unwrap();
        },
        |dir| {
            std::fs::remove_dir_all(dir.join("journal")).unwrap();
            std::fs::remove_dir_all(dir.join("index")).unwrap();
        },
    ];
    for (number, gone) in gone.into_iter().enumerate() {
        let (dir, store) = reopened(gone).await;
        assert!(matches!(store, Err(StoreError::JournalMissing { .. })), "{number}: {store:?}");
        assert!(
            matches!(real(dir.path()), Err(StoreError::JournalMissing { .. })),
            "{number}: the second time"
        );
    }
}

#[tokio::test]
async fn a_lost_mark_is_set_again() {
    let (dir, store) = reopened(|dir| std::fs::remove_file(dir.join("STORE")).unwrap()).await;
    assert_eq!(all(&store.unwrap()).len(), 5);
    assert!(dir.path().join("STORE").exists());
}

#[tokio::test]
async fn fs7_a_newer_format_is_refused_in_words() {
    let (_dir, store) =
        reopened(|dir| std::fs::write(dir.join("STORE"), "portcullis store, format 2\n").unwrap()).await;
    let refused = store.unwrap_err().to_string();
    assert!(refused.contains("has format 2; this version reads up to 1"), "{refused}");
    let (_dir, store) = reopened(|dir| std::fs::write(dir.join("STORE"), "portcullis\n").unwrap()).await;
    assert!(matches!(store, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn a_sled_that_fails_while_running_is_replaced_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 5).await;
    #[derive(Debug)]
    struct Broken;
    impl Index for Broken {
        fn position(&self) -> Result<Option<crate::index::Position>, StoreError> {
            Err(StoreError::Index("broken".into()))
        }
        fn get(&self, _key: &[u8]) -> Result<Option<Entry>, StoreError> {
            Err(StoreError::Index("broken".into()))
        }
        fn range(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<Entry>, StoreError> {
            Err(StoreError::Index("broken".into()))
        }
        fn apply(&self, _: &crate::overlay::Changed, _: crate::index::Position) -> Result<(), StoreError> {
            Err(StoreError::Index("broken".into()))
        }
    }
    *store.shared.index.write() = Some(Arc::new(Broken));
    assert_eq!(store.commit(Transaction::new().put("k5", "v5")).await.unwrap().get(), 6);
    assert_eq!(all(&store).len(), 6, "an acknowledged commit is seen");
    *store.shared.index.write() = Some(Arc::new(Broken));
    assert!(store.get(b"k1").is_err());
    while store.get(b"k1").is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.commit(Transaction::new().put("k6", "v6")).await.unwrap().get(), 7);
    drop(store);
    assert_eq!(all(&real(dir.path()).unwrap()).len(), 7, "the index on disk catches up at the next start");
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
async fn many_commits_share_a_record_and_keep_their_order() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    let before = disk.steps();
    let commits: Vec<_> =
        (0..5_000).map(|n: u32| store.commit(Transaction::new().put("same", n.to_string()))).collect();
    for (n, commit) in commits.into_iter().enumerate() {
        assert_eq!(commit.await.unwrap().get(), u64::try_from(n).unwrap() + 1);
    }
    assert_eq!(store.get(b"same").unwrap().unwrap().value, "4999");
    assert!(disk.steps() - before < 2_500, "{} writes and syncs for 5000 commits", disk.steps() - before);
}

#[tokio::test]
async fn the_largest_transaction_is_read_back_and_a_larger_one_refused() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    let put = |count: u32, last: usize| {
        let value = bytes::Bytes::from(vec![7; 4 << 20]);
        let full = (0..count).fold(Transaction::new(), |all, n| all.put(format!("k{n}"), value.clone()));
        full.put("z", vec![7; last])
    };
    let room = (4 << 20) - 3 * 18 - 17;
    let both = [store.commit(put(3, room)), store.commit(put(3, room))];
    for commit in both {
        commit.await.unwrap();
    }
    assert!(matches!(
        store.commit(put(3, room + 1)).await,
        Err(StoreError::TooLarge { what: "transaction", .. })
    ));
    drop(store);
    let store = simulated(&disk).unwrap();
    assert_eq!((store.revision().get(), all(&store).len()), (2, 4));
}

#[tokio::test]
async fn up_02_a_closed_store_lets_another_process_open_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path()).unwrap();
    fill(&store, 3).await;
    store.close();
    assert!(matches!(store.commit(Transaction::new().put("k", "v")).await, Err(StoreError::Closed)));
    assert!(store.get(b"k0").is_err());
    let next = real(dir.path()).unwrap();
    assert_eq!(all(&next).len(), 3);
    store.close();
    drop(store);
    fill(&next, 4).await;
}
