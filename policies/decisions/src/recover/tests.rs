//! A torn tail is cut, damage is named and left alone, and what a crash took is declared once.

use std::sync::Arc;

use base_ports::{MemoryDisk, SystemClock};
use policies_engine::{Audit, Effect, Receipt};

use super::*;
use crate::{
    Body, Kind, Ledger,
    testing::{NOON, all, config, decision, open, wait},
};

const FIRST: &str = "/ledger/wal/00000000000000000000.wal";

/// A ledger with some acknowledged records in one file, whose process is gone without a close.
fn crashed(disk: &MemoryDisk, records: usize) -> Vec<policies_engine::DecisionId> {
    let ledger = open(disk).unwrap();
    let mut lane = ledger.lane(0);
    let ids = (0..records)
        .map(|_| {
            let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Durable, NOON));
            match receipt {
                Receipt::Pending(pending) => wait(pending).unwrap(),
                other => panic!("{other:?}"),
            }
            id
        })
        .collect();
    std::mem::forget(ledger);
    ids
}

/// As in the directory of another ledger: nothing is set aside.
fn untouched() -> Torn<'static> {
    Torn { quarantine: Box::leak(Box::default()), synced: 0 }
}

fn kinds(ledger: &Ledger) -> Vec<&'static str> {
    all(ledger).iter().map(|record| record.kind.as_str()).collect()
}

#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let disk = MemoryDisk::new();
    crashed(&disk, 3);
    let whole = disk.read(Path::new(FIRST)).unwrap();
    let mut frames = Frames::of_file(&whole);
    frames.by_ref().take(3).for_each(|frame| assert!(frame.is_ok()));
    let last = frames.offset();
    for len in [last + 1, last + 7, last + 8, last + 9, whole.len() - 1] {
        disk.cut(Path::new(FIRST), 0);
        disk.open_append(Path::new(FIRST)).unwrap().append(&whole[..len]).unwrap();
        let mut streams = Streams::default();
        let file = scan(PathBuf::from(FIRST), 0, &disk, &mut streams, &untouched()).unwrap();
        assert_eq!((file.count, file.len), (3, last as u64), "cut at {len}");
        assert_eq!(disk.read(Path::new(FIRST)).unwrap(), whole[..last]);
    }
}

#[test]
fn pc6021_damage_in_the_middle_of_another_ledger_is_named_and_nothing_is_changed() {
    let disk = MemoryDisk::new();
    crashed(&disk, 3);
    disk.flip(Path::new(FIRST), MAGIC_AND_HEADER + 40, 3);
    let before = disk.read(Path::new(FIRST)).unwrap();
    let error = scan(FIRST.into(), 0, &disk, &mut Streams::default(), &untouched()).unwrap_err();
    assert!(error.is_damage());
    assert_eq!(error.to_string(), format!("`{FIRST}` is damaged at byte 8"));
    assert_eq!(disk.read(Path::new(FIRST)).unwrap(), before);
}

const MAGIC_AND_HEADER: usize = 16;

#[test]
fn dl2_a_file_whose_first_sector_never_reached_the_disk_does_not_keep_the_ledger_from_opening() {
    for (records, behind) in [(1, 0), (6, 3)] {
        let disk = MemoryDisk::new();
        crashed(&disk, records);
        let mut bytes = disk.read(Path::new(FIRST)).unwrap();
        let sector = if behind == 0 { bytes.len() } else { bytes.len().min(512) };
        bytes[..sector].fill(0);
        let later = Frames::from(&bytes, MAGIC.len()).any_later();
        assert_eq!(later, behind > 0);
        disk.write_atomic(Path::new(FIRST), &bytes, 0o600).unwrap();
        let ledger = open(&disk).unwrap();
        let found = all(&ledger);
        assert!(found.iter().filter(|record| record.kind == Kind::DECISION).count() >= behind, "{found:?}");
        // What is gone is declared, and the next start reads the same.
        assert!(found.iter().any(|record| record.kind == Kind::GAP), "{found:?}");
        let shown = kinds(&ledger).len();
        ledger.close();
        drop(ledger);
        assert!(all(&open(&disk).unwrap()).len() >= shown);
    }
    // A record that a checkpoint covers was on disk once: then it is damage.
    let disk = MemoryDisk::new();
    crashed(&disk, 3);
    let mut bytes = disk.read(Path::new(FIRST)).unwrap();
    bytes[..512].fill(0);
    disk.write_atomic(Path::new(FIRST), &bytes, 0o600).unwrap();
    let covered = Torn { synced: 2, ..untouched() };
    let refused = scan(FIRST.into(), 0, &disk, &mut Streams::default(), &covered);
    assert!(matches!(refused, Err(LedgerError::Foreign { .. })), "{refused:?}");
    assert_eq!(disk.read(Path::new(FIRST)).unwrap(), bytes);
}

#[test]
fn a_newer_a_foreign_and_an_unreadable_file_are_told_apart() {
    let open_with_file = |content: &[u8]| {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("/ledger/wal")).unwrap();
        disk.open_append(Path::new(FIRST)).unwrap().append(content).unwrap();
        open(&disk).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        open_with_file(b"PCWAL002"),
        format!("`{FIRST}` was written by a newer version of this program")
    );
    assert_eq!(
        open_with_file(b"SQLite format 3"),
        format!("`{FIRST}` is not a write-ahead file of the ledger")
    );
    let mut unreadable = MAGIC.to_vec();
    crate::frame::append(&mut unreadable, |out| out.extend([0xa1, 0, 2]));
    assert_eq!(open_with_file(&unreadable), format!("`{FIRST}` holds an unreadable record at byte 8"));
}

#[test]
fn fs7_a_damaged_state_file_is_named() {
    let disk = MemoryDisk::new();
    crashed(&disk, 1);
    disk.flip(Path::new("/ledger/state"), 3, 1);
    assert_eq!(open(&disk).unwrap_err().to_string(), "`/ledger/state` is damaged");
}

#[test]
fn a_file_that_was_only_just_made_is_no_obstacle() {
    for content in [&b""[..], b"PCWA", b"PCWAL001"] {
        let disk = MemoryDisk::new();
        let ledger = open(&disk).unwrap();
        ledger.close();
        let next = ledger.stats().next_index;
        let path = PathBuf::from(format!("/ledger/wal/{next:020}.wal"));
        disk.open_append(&path).unwrap().append(content).unwrap();
        let ledger = open(&disk).unwrap();
        assert_eq!(all(&ledger).last().unwrap().index, next);
    }
}

#[test]
fn sq3_a_crash_is_declared_with_an_upper_bound_and_only_once() {
    let disk = MemoryDisk::new();
    let ids = crashed(&disk, 5);
    let ledger = open(&disk).unwrap();
    let records = all(&ledger);
    let boot = records[0].stream.boot;
    let after = &records[ids.len() + 1..];
    let Body::Recovery { boot: recovered, lanes } = &after[0].body else { panic!("{:?}", after[0].body) };
    assert_eq!(*recovered, boot);
    let lane = lanes.iter().find(|(lane, ..)| *lane == 0).unwrap();
    assert_eq!((lane.1, lane.2 > lane.1), (5, true));
    let gap = after
        .iter()
        .find_map(|record| match &record.body {
            Body::Gap(gap) if gap.lane == 0 => Some(gap.clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!((gap.range, gap.exact), (Some((6, lane.2)), false));
    assert_eq!((gap.count, gap.cause, gap.boot), (lane.2 - 5, GapCause::Crash, boot));

    // The next crash is about the next boot only, even when it comes before the first was settled.
    std::mem::forget(ledger);
    let again = open(&disk).unwrap();
    let records = all(&again);
    let recoveries = records.iter().filter(|record| record.kind == Kind::RECOVERY).count();
    assert!((2..=3).contains(&recoveries));
    crate::ledger::assert_complete(&records);
}

#[test]
fn without_a_state_file_the_bound_is_wider_but_there_is_one() {
    let disk = MemoryDisk::new();
    crashed(&disk, 2);
    disk.remove(Path::new("/ledger/state")).unwrap();
    let ledger = open(&disk).unwrap();
    let records = all(&ledger);
    crate::ledger::assert_complete(&records);
    let bound = records.iter().find_map(|record| match &record.body {
        Body::Gap(gap) if gap.lane == 0 => gap.range,
        _ => None,
    });
    assert_eq!(bound, Some((3, 2 + MAX_RESERVATION)));
}

#[test]
fn power_loss_in_an_earlier_file_is_an_exact_gap() {
    let disk = MemoryDisk::new();
    let config = crate::LedgerConfig { file_size: 2_048, ..config() };
    let ledger = crate::testing::open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    for _ in 0..40 {
        match lane.record(decision(Effect::Allow, Audit::Required, NOON)).1 {
            Receipt::Pending(pending) => wait(pending).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    std::mem::forget(ledger);
    // As if nothing had been settled: all files are read again, and one of them lost its end.
    disk.remove(Path::new("/ledger/state")).unwrap();
    let files = disk.list(Path::new("/ledger/wal")).unwrap();
    assert!(files.len() > 2);
    let victim = &files[1];
    let bytes = disk.read(victim).unwrap();
    let mut frames = Frames::of_file(&bytes);
    let whole: Vec<_> = frames.by_ref().map(|frame| frame.unwrap().len()).collect();
    disk.cut(victim, bytes.len() - whole.last().unwrap() - 3);
    let ledger = open(&disk).unwrap();
    let records = all(&ledger);
    crate::ledger::assert_complete(&records);
    assert!(records.iter().any(|record| matches!(
        &record.body,
        Body::Gap(gap) if gap.lane == 0 && gap.exact && gap.count == 1 && gap.cause == GapCause::Crash
    )));
}

#[test]
fn files_that_are_closed_are_not_read_at_the_next_start() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    ledger.close();
    let opened = open(&disk).unwrap();
    opened.close();
    // The first file is closed and counted; damage in it is found by whoever reads it, not by the start.
    disk.flip(Path::new(FIRST), MAGIC_AND_HEADER + 40, 3);
    let ledger = open(&disk).unwrap();
    assert!(kinds(&ledger).len() < 6);
}
