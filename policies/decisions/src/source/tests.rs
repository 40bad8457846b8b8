//! Leaves by index, wherever they stand.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use base_ports::{MemoryDisk, SystemClock};

use super::*;
use crate::{
    LedgerConfig,
    testing::{allow, config, eventually, open_with},
};

#[test]
fn followers_see_synced_leaves_once_and_in_order() {
    let disk = MemoryDisk::default();
    let config = LedgerConfig { file_size: 2_000, ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    // Some of them stand in a segment, some in write-ahead files.
    for turn in 0..700 {
        lane.record(allow());
        if turn % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let shelf = &ledger.inner().shelf;
    eventually("synced", || shelf.synced() >= 700);
    eventually("put away", || shelf.archived() >= 512);
    assert!(!shelf.files().is_empty());
    for range in [7..93, 250..260, 0..700, 500..690] {
        let mut seen = Vec::new();
        let end = each_leaf(shelf, &disk, range.clone(), |index, leaf| {
            assert!(!leaf.is_empty());
            seen.push(index);
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap(), range.end);
        assert_eq!(seen, range.collect::<Vec<_>>());
    }
    let stopped = each_leaf(shelf, &disk, 7..693, |index, _| {
        if index == 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap(), 300);
}

#[test]
fn a_file_that_is_just_going_is_not_taken_for_one_that_cannot_be_read() {
    let disk = MemoryDisk::default();
    let shelf = Shelf::new(Vec::new(), Vec::new());
    let mut file = WalFile::new(Path::new("/wal"), 0);
    let mut bytes = MAGIC.to_vec();
    assert!(crate::frame::append(&mut bytes, |out| out.extend_from_slice(b"a leaf")));
    disk.open_append(&file.path).unwrap().append(&bytes).unwrap();
    (file.len, file.count) = (bytes.len() as u64, 1);
    shelf.publish(&file);
    std::thread::scope(|scope| {
        let leaving = shelf.leaving();
        disk.remove(&file.path).unwrap();
        let reader =
            scope.spawn(|| each_leaf(&shelf, &disk, 0..1, |_, _| ControlFlow::Continue(())).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        shelf.remove(file.first);
        drop(leaving);
        // It stands nowhere, as after retention.
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn a_long_write_ahead_file_is_read_in_parts_and_from_the_middle() {
    let disk = MemoryDisk::default();
    let shelf = Shelf::new(Vec::new(), Vec::new());
    let mut file = WalFile::new(Path::new("/wal"), 100);
    let mut handle = disk.open_append(&file.path).unwrap();
    handle.append(&MAGIC).unwrap();
    file.len = MAGIC.len() as u64;
    shelf.publish(&file);
    for n in 0..100_u64 {
        let mut frames = Vec::new();
        for m in 0..10_u64 {
            // Longer than several parts together.
            let leaf = vec![(n * 10 + m) as u8; 1_000 + (m as usize * 37)];
            assert!(crate::frame::append(&mut frames, |out| out.extend_from_slice(&leaf)));
        }
        handle.append(&frames).unwrap();
        (file.len, file.count) = (file.len + frames.len() as u64, file.count + 10);
        shelf.publish(&file);
    }
    assert!(file.len > 4 * CHUNK as u64);
    let read = |range: Range<u64>| {
        let before = disk.bytes_read(&file.path);
        let mut next = range.start;
        each_leaf(&shelf, &disk, range.clone(), |index, leaf| {
            assert_eq!((index, leaf[0]), (next, (index - 100) as u8));
            next += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(next, range.end);
        disk.bytes_read(&file.path) - before
    };
    read(100..1_100);
    assert!(read(1_050..1_100) < 2 * MARK_GAP, "it begins near what is wanted");
    // A bad frame ends the reading there, and the range is named.
    disk.flip(&file.path, file.len as usize / 2, 0);
    let end = each_leaf(&shelf, &disk, 100..1_100, |_, _| ControlFlow::Continue(())).unwrap();
    assert!((500..700).contains(&end), "{end}");
    assert_eq!(shelf.damaged(), 1);
}

/// Marks are 64 KiB apart, and a batch of records longer.
const MARK_GAP: u64 = 80 << 10;
