//! Torn tails, flipped bits, full and failing disks.

use std::path::PathBuf;

use base_ports::Disk;

use super::*;
use crate::Compare;

const HEADER: usize = 52;
const PREFIX: usize = 48;

fn journal(disk: &MemoryDisk, ending: &str) -> Vec<PathBuf> {
    let mut files = disk.list(&Path::new(DIR).join("journal")).unwrap();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files
}

fn segment(disk: &MemoryDisk) -> PathBuf {
    journal(disk, "log").pop().unwrap()
}

/// A disk whose only segment is `bytes`.
fn with_segment(bytes: &[u8]) -> (MemoryDisk, PathBuf) {
    let disk = MemoryDisk::new();
    drop(simulated(&disk).unwrap());
    let path = segment(&disk);
    disk.write_atomic(&path, bytes, 0o600).unwrap();
    (disk, path)
}

async fn three_commits() -> Vec<u8> {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 3).await;
    drop(store);
    disk.read(&segment(&disk)).unwrap()
}

/// Offsets behind the header and behind each record.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![HEADER];
    while let Some(length) = bytes.get(ends.last().unwrap() + 4..).and_then(|rest| rest.first_chunk::<4>()) {
        ends.push(ends.last().unwrap() + PREFIX + usize::try_from(u32::from_be_bytes(*length)).unwrap());
    }
    assert_eq!((ends.len(), *ends.last().unwrap()), (4, bytes.len()));
    ends
}

#[tokio::test]
async fn a_torn_tail_is_cut_at_every_length_and_no_whole_record_goes() {
    let whole = three_commits().await;
    let ends = ends(&whole);
    for cut in HEADER..=whole.len() {
        let (disk, _) = with_segment(&whole[..cut]);
        let complete = ends.iter().filter(|end| **end <= cut).count() - 1;
        let store = simulated(&disk).unwrap();
        assert_eq!(store.range(b"k", None, 10).unwrap().len(), complete, "cut at {cut}");
        store.commit(Transaction::new().put("after", "x")).await.unwrap();
        drop(store);
        assert_eq!(all(&simulated(&disk).unwrap()).len(), complete + 1, "cut at {cut}, opened again");
    }
}

#[tokio::test]
async fn a_tail_of_zeros_or_rubbish_is_cut() {
    let whole = three_commits().await;
    for tail in
        [vec![0; 1], vec![0; 5_000], vec![0xff; 300], b"\x8fPCR".repeat(100), whole[HEADER..].to_vec()]
    {
        let (disk, _) = with_segment(&[whole.as_slice(), &tail].concat());
        assert_eq!(all(&simulated(&disk).unwrap()).len(), 3);
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_or_in_the_cut_tail_and_never_gives_a_wrong_value() {
    let whole = three_commits().await;
    let last = ends(&whole)[2];
    for at in 0..whole.len() {
        for bit in [0, 7] {
            let (disk, path) = with_segment(&whole);
            disk.flip(&path, at, bit);
            match simulated(&disk) {
                Err(StoreError::Corrupt { file, offset, .. }) => {
                    assert_eq!(file, path);
                    let begins = ends(&whole).into_iter().rev().find(|end| *end <= at).unwrap_or(0);
                    assert_eq!(usize::try_from(offset).unwrap(), begins, "byte {at}");
                    assert!(at < last, "byte {at}");
                    let before = disk.read(&path).unwrap();
                    assert_eq!(before.len(), whole.len(), "what is refused is left as it is");
                }
                Err(other) => panic!("byte {at}: {other}"),
                Ok(store) => {
                    assert!(at >= last, "byte {at}: damage before a record that follows is no torn tail");
                    let found: Vec<_> =
                        all(&store).into_iter().map(|entry| (entry.key, entry.value)).collect();
                    assert_eq!(found, [(b"k0".to_vec(), "v0".into()), (b"k1".to_vec(), "v1".into())]);
                }
            }
        }
    }
}

#[tokio::test]
async fn records_that_were_moved_doubled_or_dropped_are_found() {
    let whole = three_commits().await;
    let ends = ends(&whole);
    let record = |n: usize| &whole[ends[n]..ends[n + 1]];
    let header = &whole[..HEADER];
    for forged in [
        [header, record(1), record(2)].concat(),
        [header, record(0), record(2), record(1)].concat(),
        [header, record(0), record(0), record(1), record(2)].concat(),
    ] {
        let (disk, _) = with_segment(&forged);
        match simulated(&disk) {
            Ok(store) => assert!(all(&store).len() <= 1, "nothing out of order was taken"),
            Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn fs7_a_segment_of_a_newer_format_is_refused() {
    let mut whole = three_commits().await;
    whole[7] = 2;
    let crc = crc32c::crc32c(&whole[..HEADER - 4]);
    whole[HEADER - 4..HEADER].copy_from_slice(&crc.to_be_bytes());
    let (disk, _) = with_segment(&whole);
    assert!(matches!(simulated(&disk), Err(StoreError::TooNew { found: 2, known: 1, .. })));
}

#[tokio::test]
async fn a_full_disk_refuses_commits_keeps_reads_and_recovers_by_itself() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 2).await;
    for room in [0, 10, 60] {
        disk.limit_room(room);
        let refused = store.commit(Transaction::new().put("k9", "v9")).await;
        assert!(matches!(refused, Err(StoreError::Write(_))), "{refused:?}");
        assert!(matches!(store.refuses(), Some(StoreError::Write(_))));
        assert_eq!(all(&store).len(), 2);
    }
    disk.free_room();
    assert_eq!(store.commit(Transaction::new().put("k2", "v2")).await.unwrap().get(), 3);
    assert!(store.refuses().is_none());
    drop(store);
    disk.lose_power(base_ports::Survive::Nothing);
    assert_eq!(all(&simulated(&disk).unwrap()).len(), 3);
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
    assert!(matches!(store.refuses(), Some(StoreError::Stopped)));
    assert!(store.get(b"lost").unwrap().is_none(), "what was refused is not shown");
    drop(store);
    let store = simulated(&disk).unwrap();
    assert_eq!(all(&store).len(), 2, "what was refused does not come back");
    assert_eq!(store.commit(Transaction::new().put("k2", "v2")).await.unwrap().get(), 3);
}

#[tokio::test]
async fn no_conflict_is_told_with_a_commit_that_did_not_happen() {
    let disk = MemoryDisk::new();
    let store = simulated(&disk).unwrap();
    fill(&store, 1).await;
    disk.limit_room(0);
    let attempts: Vec<_> = (0..200)
        .map(|_| store.commit(Transaction::new().require("once", Compare::Absent).put("once", "x")))
        .collect();
    for attempt in attempts {
        let told = attempt.await;
        assert!(matches!(told, Err(StoreError::Write(_))), "{told:?}");
    }
    assert!(store.get(b"once").unwrap().is_none());
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_opens_no_store_and_makes_no_new_one() {
    let disk = MemoryDisk::new();
    drop(simulated(&disk).unwrap());
    disk.fail_read(true);
    assert!(matches!(simulated(&disk), Err(StoreError::Io { .. })));
    disk.fail_read(false);
    simulated(&disk).unwrap();
}

async fn rolled() -> MemoryDisk {
    let disk = MemoryDisk::new();
    for round in 0..3 {
        let store = Embedded::open_rolling(Path::new(DIR), Arc::new(disk.clone()), clock(), 2_000).unwrap();
        for n in 0..30 {
            store.commit(Transaction::new().put(format!("k{}", n % 4), vec![round; 100])).await.unwrap();
        }
    }
    disk
}

#[tokio::test]
async fn a_snapshot_carries_the_chain_and_old_segments_go() {
    let disk = rolled().await;
    assert_eq!(journal(&disk, "snap").len(), 2);
    let first = journal(&disk, "log").remove(0);
    assert_ne!(first, Path::new(DIR).join("journal/00000000000000000001.log"));
    let store = simulated(&disk).unwrap();
    assert_eq!((store.revision().get(), all(&store).len()), (90, 4));
}

#[tokio::test]
async fn fs3_an_older_snapshot_stands_in_for_a_damaged_one_and_none_is_an_error() {
    let disk = rolled().await;
    let expected = all(&simulated(&disk).unwrap());
    let [older, newer] = journal(&disk, "snap").try_into().unwrap();
    disk.flip(&newer, 100, 0);
    assert_eq!(all(&simulated(&disk).unwrap()), expected);
    disk.flip(&older, 100, 0);
    assert!(matches!(
        simulated(&disk),
        Err(StoreError::Corrupt { what: "commits before it are missing", .. })
    ));
}

#[tokio::test]
async fn a_missing_segment_is_found() {
    let disk = rolled().await;
    for path in journal(&disk, "snap") {
        disk.remove(&path).unwrap();
    }
    assert!(matches!(simulated(&disk), Err(StoreError::Corrupt { .. })));
}

/// A full disk while a segment is closed: the old one goes on, and what it gets then must be found again.
#[tokio::test]
async fn a_roll_that_fails_half_way_loses_nothing() {
    for room in 0..400 {
        let disk = MemoryDisk::new();
        let open = || Embedded::open_rolling(Path::new(DIR), Arc::new(disk.clone()), clock(), 300);
        let store = open().unwrap();
        let mut acknowledged = 0;
        disk.limit_room(room);
        for n in 0..8 {
            if n == 5 {
                disk.free_room();
            }
            let put = Transaction::new().put(format!("k{acknowledged}"), "v");
            acknowledged += u32::from(store.commit(put).await.is_ok());
        }
        drop(store);
        disk.lose_power(base_ports::Survive::Nothing);
        let store = open().unwrap();
        assert_eq!(all(&store).len(), usize::try_from(acknowledged).unwrap(), "room {room}");
    }
}

/// The next segment is there, and then its directory cannot be synced: left there, it would hide what the old one gets.
#[tokio::test]
async fn a_segment_whose_beginning_failed_at_its_last_step_hides_nothing() {
    for failing in [1, 100] {
        let disk = MemoryDisk::new();
        let open = || Embedded::open_rolling(Path::new(DIR), Arc::new(disk.clone()), clock(), 300);
        let store = open().unwrap();
        disk.fail_dir_syncs(failing);
        let mut acknowledged = 0;
        for n in 0..8 {
            acknowledged +=
                usize::from(store.commit(Transaction::new().put(format!("k{n}"), "v")).await.is_ok());
        }
        assert_eq!(store.refuses().is_some(), failing == 100);
        drop(store);
        disk.fail_dir_syncs(0);
        for survive in [base_ports::Survive::Everything, base_ports::Survive::Nothing] {
            let left = disk.copy();
            left.lose_power(survive);
            assert_eq!(all(&simulated(&left).unwrap()).len(), acknowledged, "{failing} failing, {survive:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_segment_that_was_cut_is_damage_and_no_torn_tail() {
    let disk = rolled().await;
    let snapshots = journal(&disk, "snap");
    let kept = snapshots[0].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let closed = journal(&disk, "log")
        .into_iter()
        .find(|log| log.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap() > kept);
    let closed = closed.unwrap();
    assert_ne!(closed, segment(&disk));
    disk.remove(&snapshots[1]).unwrap();
    let bytes = disk.read(&closed).unwrap();
    disk.cut(&closed, bytes.len() - 1);
    let refused = simulated(&disk).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Corrupt { file, what: "its checksum is wrong", .. } if *file == closed),
        "{refused}"
    );
}

/// Whoever rewrites a record and its checksums, but not those behind it, breaks the chain.
#[tokio::test]
async fn a_record_that_was_rewritten_with_good_checksums_breaks_the_chain() {
    let mut whole = three_commits().await;
    let ends = ends(&whole);
    let (first, second) = (ends[0], ends[1]);
    let value = whole[first..second].windows(2).position(|pair| pair == b"v0").unwrap() + first;
    whole[value] = b'w';
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    hash.update(&[0; 32]);
    hash.update(&whole[first + PREFIX..second]);
    whole[first + 16..first + PREFIX].copy_from_slice(hash.finish().as_ref());
    let body = crc32c::crc32c(&whole[first + 16..second]);
    whole[first + 12..first + 16].copy_from_slice(&body.to_be_bytes());
    let (disk, path) = with_segment(&whole);
    match simulated(&disk).unwrap_err() {
        StoreError::Corrupt { file, offset, what } => {
            assert_eq!((file, what), (path, "it does not continue the chain"));
            assert_eq!(usize::try_from(offset).unwrap(), second);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_empty_segment_of_another_journal_is_found() {
    let disk = rolled().await;
    let path = segment(&disk);
    let mut header = disk.read(&path).unwrap();
    header.truncate(HEADER);
    header[20] ^= 1;
    let crc = crc32c::crc32c(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&crc.to_be_bytes());
    disk.write_atomic(&path, &header, 0o600).unwrap();
    assert!(matches!(
        simulated(&disk),
        Err(StoreError::Corrupt { offset: 0, what: "it does not continue what is before it", .. })
    ));
}
