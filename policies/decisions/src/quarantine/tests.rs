//! What cannot be read and stands in no tree is set aside, on record, and the rest goes on; what a tree has stays damage.

use std::{sync::Arc, time::Duration};

use base_ports::{MemoryDisk, Survive, SystemClock, SystemRng};
use policies_engine::{Audit, Effect};

use super::*;
use crate::{
    Body, LedgerConfig, LedgerDir, SegmentLimits, StoredRecord,
    frame::{Frames, HEADER},
    ledger::assert_complete,
    proof::{
        Auditor, DirMaterial, Grower, Verified,
        growing::{IN_FILE, grower, key, leaves, opened, run, signing, wal, without_tree},
        verify,
    },
    recover::recover,
    retain::Keep,
    testing::{self, all, allow, at, config, decision, eventually, open, open_with, vouch::Auditing},
};

const DIR: &str = "/ledger";

/// The last byte of the frame of a record in a write-ahead file.
fn end_of(disk: &MemoryDisk, path: &Path, at: usize) -> usize {
    let bytes = disk.read(path).unwrap();
    let mut frames = Frames::of_file(&bytes);
    frames.by_ref().take(at + 1).for_each(|frame| assert!(frame.is_ok()));
    frames.offset() - 1
}

/// Lets the tree grow until something stops it, and tells it a second time.
fn stuck(grower: &mut Grower) {
    while grower.turn(true).is_ok() {}
    assert!(grower.turn(true).is_err());
}

/// All write-ahead files are closed and counted: no start reads them again.
fn settled(disk: &MemoryDisk) {
    let quarantine = testing::quarantine(disk);
    let recovered = recover(Path::new(DIR), disk, &quarantine).unwrap();
    assert_eq!(quarantine.records(), 0);
    let mut state = recovered.state;
    state.through = recovered.next;
    disk.write_atomic(&Path::new(DIR).join("state"), &state.encode(), 0o600).unwrap();
}

/// A ledger without a tree of some 400 records in closed files, of which the record 170 cannot be read.
fn damaged() -> MemoryDisk {
    let disk = without_tree(400);
    settled(&disk);
    let victim = wal(&disk)[1].clone();
    disk.flip(&victim, end_of(&disk, &victim, 20), 3);
    disk
}

fn verified(disk: &MemoryDisk, since: Option<&[u8]>) -> Verified {
    let material = DirMaterial::open(Path::new(DIR), Arc::new(disk.clone())).unwrap();
    let (keys, identities) = (&[key()], &Auditing);
    verify(&material, &Auditor { keys, since, identities, now: None, sample: (0, &SystemRng) }).unwrap()
}

fn told(record: &StoredRecord) -> Option<SetAside> {
    match &record.body {
        Body::Administration { operation, details } if operation == OPERATION => SetAside::told(details),
        _ => None,
    }
}

#[test]
fn fs3_what_the_tree_cannot_read_is_set_aside_and_the_rest_is_signed() {
    let disk = without_tree(400);
    settled(&disk);
    let whole = leaves(&disk);
    // Signed before it was damaged.
    let mut before = grower(&disk).unwrap();
    before.most = 100;
    before.turn(false).unwrap();
    let kept = disk.read(Path::new("/ledger/checkpoint")).unwrap();
    drop(before);
    let victim = wal(&disk)[1].clone();
    let end = end_of(&disk, &victim, 20);
    disk.flip(&victim, end, 3);
    let damaged = disk.read(&victim).unwrap();
    let index = IN_FILE + 20;

    let mut grower = grower(&disk).unwrap();
    assert!(grower.turn(true).is_err() && grower.tree.shelf.quarantine().records() == 0, "not at once");
    assert!(grower.turn(true).is_err() && grower.tree.shelf.quarantine().records() == 1);
    run(&mut grower);
    assert_eq!((grower.tree.covered() as usize, grower.tree.shelf.damaged()), (whole.len(), 0));

    let after = leaves(&disk);
    let changed: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != after[*at]).collect();
    assert_eq!(changed, [index]);
    let record = StoredRecord::decode(index as u64, after[index].clone().into()).unwrap();
    let aside = told(&record).unwrap();
    assert_eq!((aside.first, aside.last, aside.why.as_str()), (170, 170, "frame checksum is wrong"));
    let (offset, bytes) = (aside.offset as usize, aside.bytes as usize);
    assert_eq!((bytes, offset + bytes), (whole[index].len() + HEADER, end + 1));
    let name = format!("/ledger/quarantine/{}-{offset}", aside.file);
    assert_eq!(disk.read(Path::new(&name)).unwrap(), damaged[offset..=end]);
    let decisions = |disk: &MemoryDisk| {
        let dir = LedgerDir::open(Path::new(DIR), Arc::new(disk.clone())).unwrap();
        let every = testing::query(&[("since", "2020-01-01T00:00:00Z")], at(1_000_000_000));
        let walked = dir.walk(&every, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(walked.damaged, []);
        walked.decisions
    };
    assert_eq!(decisions(&disk), 399);
    // What stands in its place is proved like any other record, and what was signed before is the beginning of it.
    let proof = grower.tree.prove(index as u64, &after[index]).unwrap().unwrap();
    assert!(proof.verify(&[key()]).is_ok());
    let found = verified(&disk, Some(&kept));
    assert_eq!((found.faults.as_slice(), found.since), ([].as_slice(), Some(100)));
    assert_eq!((found.quarantined.as_slice(), found.is_complete()), ([aside].as_slice(), false));
    assert_eq!(found.unplaced.len(), 1, "{:?}", found.unplaced);
    assert_eq!(found.unplaced[0].2, found.unplaced[0].3);
}

#[test]
fn fs3_a_file_that_is_restored_later_does_not_undo_what_was_signed() {
    let disk = without_tree(400);
    settled(&disk);
    let victim = wal(&disk)[1].clone();
    let good = disk.read(&victim).unwrap();
    disk.flip(&victim, end_of(&disk, &victim, 20), 3);
    let mut first = grower(&disk).unwrap();
    stuck(&mut first);
    run(&mut first);
    let signed = leaves(&disk);
    for state in [None, Some("/ledger/state")] {
        disk.write_atomic(&victim, &good, 0o600).unwrap();
        // Without it, the start reads the file.
        state.iter().for_each(|state| disk.remove(Path::new(state)).unwrap());
        assert_eq!(leaves(&disk), signed);
        let found = verified(&disk, None);
        assert_eq!((found.faults.as_slice(), found.quarantined.len()), ([].as_slice(), 1));
    }
}

#[test]
fn fs3_verify_names_what_is_lost_beyond_what_was_set_aside() {
    let disk = damaged();
    let mut first = grower(&disk).unwrap();
    stuck(&mut first);
    run(&mut first);
    assert_eq!(verified(&disk, None).faults, []);
    // A list that was changed: what stands in its place is not what was signed.
    let path = Path::new("/ledger/quarantine/list");
    let list = String::from_utf8(disk.read(path).unwrap()).unwrap();
    disk.write_atomic(path, list.replace("\"why\": \"frame", "\"why\": \"Frame").as_bytes(), 0o600).unwrap();
    let found = verified(&disk, None);
    assert!(found.faults.iter().any(|fault| fault.index == Some(170)), "{:?}", found.faults);
    // Without the list it is damage.
    disk.remove(path).unwrap();
    let found = verified(&disk, None);
    assert!(found.faults.iter().any(|fault| fault.index == Some(170)), "{:?}", found.faults);
}

#[test]
fn fs3_a_block_that_no_tree_has_is_set_aside() {
    let disk = MemoryDisk::new();
    let limits = SegmentLimits { size: 1, ..SegmentLimits::default() };
    let ledger = opened(&disk, LedgerConfig { segment: limits, file_size: 20_000, ..config() }).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..700 {
        lane.record(allow());
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eventually("two blocks are put away, and nowhere else", || {
        ledger.stats().archived_index >= 512 && ledger.inner().shelf.files()[0].first >= 256
    });
    ledger.close();
    let segment = disk.list(Path::new("/ledger/seg")).unwrap().remove(0);
    disk.flip(&segment, 5_000, 2);
    let ledger = opened(&disk, signing()).unwrap();
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    eventually("everything is signed", || tree.covered() >= 700);
    let records = all(&ledger);
    assert!(records[..256].iter().all(|record| told(record).is_some_and(|aside| aside.last == 255)));
    assert!(records[256..].iter().all(|record| told(record).is_none()));
    assert_eq!((ledger.stats().quarantined, ledger.stats().damaged), (256, 0));
    ledger.close();
    let found = verified(&disk, None);
    assert_eq!((found.faults.as_slice(), found.quarantined.len()), ([].as_slice(), 1));
}

#[test]
fn fs3_without_a_tree_the_archive_goes_on_behind_it_and_retention_takes_it() {
    let disk = without_tree(400);
    settled(&disk);
    let victim = wal(&disk)[0].clone();
    disk.flip(&victim, end_of(&disk, &victim, 20), 3);
    let limits = SegmentLimits { size: 1, age: Duration::ZERO };
    let ledger = opened(&disk, LedgerConfig { segment: limits, ..config() }).unwrap();
    eventually("the records are put away", || ledger.stats().archived_index >= 256);
    assert_eq!(ledger.stats().quarantined, 1);
    assert_eq!(all(&ledger).iter().filter_map(told).map(|aside| aside.first).collect::<Vec<_>>(), [20]);
    ledger.close();
    let keep = Keep { age: Duration::from_secs(1), size: u64::MAX };
    let ledger = opened(&disk, LedgerConfig { segment: limits, keep, ..config() }).unwrap();
    eventually("it is past its time", || ledger.stats().first_index > 20);
    eventually("nothing is aside", || ledger.stats().quarantined == 0);
    let left = disk.list(Path::new("/ledger/quarantine")).unwrap();
    assert_eq!(left, [Path::new("/ledger/quarantine/list")]);
}

#[test]
fn fs3_damage_that_a_start_finds_is_set_aside_once() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    for _ in 0..5 {
        testing::durable(&mut lane);
    }
    std::mem::forget(ledger);
    let disk = disk.copy();
    let victim = wal(&disk)[0].clone();
    disk.flip(&victim, end_of(&disk, &victim, 3), 3);
    for _ in 0..3 {
        let ledger = open(&disk).unwrap();
        assert_eq!(ledger.stats().quarantined, 1);
        let records = all(&ledger);
        assert_complete(&records);
        assert_eq!(records.iter().filter_map(told).count(), 1);
        std::mem::forget(ledger);
    }
}

#[test]
fn fs3_a_start_opens_whatever_the_power_left_of_what_was_not_synced() {
    let made = MemoryDisk::new();
    let slow = LedgerConfig { commit_interval: Duration::from_secs(3_600), ..config() };
    let ledger = open_with(slow, Arc::new(made.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    testing::durable(&mut lane);
    for n in 0..200 {
        lane.record(decision(Effect::Allow, Audit::BestEffort, at(n)));
    }
    eventually("all is written", || ledger.stats().records > 200);
    let mut aside = 0;
    for seed in 0..60 {
        let disk = made.copy();
        disk.lose_power(Survive::Sectors(seed));
        let ledger = open(&disk).unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert_complete(&all(&ledger));
        aside += ledger.stats().quarantined;
        ledger.close();
    }
    assert!(aside > 0, "nothing was torn in the middle");
}

#[test]
fn fs3_what_a_checkpoint_covers_is_never_replaced() {
    let disk = without_tree(400);
    let signed = {
        let mut grower = grower(&disk).unwrap();
        run(&mut grower);
        grower.tree.covered()
    };
    let victim = wal(&disk)[1].clone();
    disk.flip(&victim, end_of(&disk, &victim, 20), 3);
    // The start reads these files: it names the damage and changes nothing.
    let before = disk.read(&victim).unwrap();
    let refused = opened(&disk, signing()).map(drop).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
    assert_eq!(disk.read(&victim).unwrap(), before);
    // What it covered is not known while it is away.
    let away = disk.copy();
    away.remove(Path::new("/ledger/checkpoint")).unwrap();
    assert!(opened(&away, signing()).map(drop).unwrap_err().is_damage());
    // Closed files are not read again; the tree asks only for what it has not.
    disk.flip(&victim, end_of_damaged(&before), 3);
    settled(&disk);
    disk.flip(&victim, end_of_damaged(&before), 3);
    let mut grower = grower(&disk).unwrap();
    assert!(grower.turn(true).is_ok() && grower.tree.covered() == signed);
    assert_eq!(grower.tree.shelf.quarantine().records(), 0);
}

/// The last byte of the first bad frame.
fn end_of_damaged(bytes: &[u8]) -> usize {
    let mut frames = Frames::of_file(bytes);
    while frames.next().is_some_and(|frame| frame.is_ok()) {}
    next_frame(bytes, frames.offset()) - 1
}

#[test]
fn fs3_a_disk_that_gives_nothing_out_and_a_list_that_is_none_set_nothing_aside() {
    let disk = damaged();
    let mut unread = grower(&disk).unwrap();
    disk.fail_read(true);
    (0..3).for_each(|_| assert!(unread.turn(true).is_err()));
    disk.fail_read(false);
    assert_eq!(unread.tree.shelf.quarantine().records(), 0);
    let path = Path::new("/ledger/quarantine/list");
    for bytes in [&b"{\"version\":2,\"stretches\":[]}"[..], b"", b"{\"version\":1,\"stretches\":[{"] {
        disk.write_atomic(path, bytes, 0o600).unwrap();
        let mut grower = grower(&disk).unwrap();
        stuck(&mut grower);
        assert!(grower.turn(true).is_err());
        assert_eq!((grower.tree.shelf.quarantine().records(), disk.read(path).unwrap()), (0, bytes.to_vec()));
    }
}

#[test]
fn fs3_the_power_may_go_at_any_step_of_setting_aside() {
    let made = damaged();
    ["/ledger", "/ledger/wal", "/ledger/seg"].iter().for_each(|dir| made.sync_dir(Path::new(dir)).unwrap());
    for step in 0.. {
        let disk = made.copy();
        disk.die_after(step);
        let mut kept = 0;
        if let Ok(mut before) = grower(&disk) {
            (0..5).for_each(|_| drop(before.turn(true)));
            kept = before.tree.signed().map_or(0, |signed| signed.checkpoint.size);
        }
        let is_done = disk.steps() <= step;
        disk.lose_power(if step % 2 == 0 { Survive::Nothing } else { Survive::Sectors(step) });
        let mut after = grower(&disk).unwrap();
        (0..5).for_each(|_| drop(after.turn(true)));
        run(&mut after);
        assert_eq!(after.tree.covered(), after.tree.shelf.next_index(), "step {step}");
        assert!(after.tree.consistency(kept).unwrap().is_some(), "step {step}");
        assert_eq!(verified(&disk, None).faults, [], "step {step}");
        if is_done {
            break;
        }
    }
}
