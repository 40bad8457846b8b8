//! DL2, DL7: what is changed on disk is found and named.

mod copies;
mod heartbeats;

use std::{path::Path, sync::Arc};

use base_ports::{Disk, MemoryDisk, SystemRng};
use policies_engine::{ActivationRecord, AdministrationRecord, Record};

use super::*;
use crate::{
    frame::{self, Frames, HEADER, MAGIC},
    proof::growing::{
        flatten, forge, grower, key, leaves, opened, run, signing, wal, with_tree, without_tree,
    },
    testing::{NOON, eventually, example, versions, vouch::Auditing},
};

fn verified(disk: &MemoryDisk, since: Option<&[u8]>) -> Result<Verified, Unreadable> {
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk.clone()))?;
    verify(
        &material,
        &Auditor { keys: &[key()], since, identities: &Auditing, now: None, sample: (0, &SystemRng) },
    )
}

/// The first fault of a changed ledger.
#[track_caller]
fn fault(disk: &MemoryDisk, since: Option<&[u8]>) -> Fault {
    let verified = verified(disk, since).unwrap();
    verified.faults.into_iter().next().expect("the change is found")
}

fn checkpoint(disk: &MemoryDisk) -> Vec<u8> {
    disk.read(Path::new("/ledger/checkpoint")).unwrap()
}

/// Writes a file of frames again.
fn rewrite(disk: &MemoryDisk, path: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = disk.read(path).unwrap();
    let mut all: Vec<_> = Frames::of_file(&bytes).map(|leaf| leaf.unwrap().to_vec()).collect();
    change(&mut all);
    let mut out = MAGIC.to_vec();
    all.iter().for_each(|leaf| assert!(frame::append(&mut out, |out| out.extend_from_slice(leaf))));
    disk.write_atomic(path, &out, 0o600).unwrap();
}

#[test]
fn vf6_a_whole_ledger_verifies_with_the_key_and_the_kept_checkpoint() {
    let disk = without_tree(400);
    run(&mut grower(&disk).unwrap());
    let kept = checkpoint(&disk);
    let ledger = opened(&disk, signing()).unwrap();
    let mut lane = ledger.lane(1);
    (0..300).for_each(|_| drop(lane.record(crate::testing::allow())));
    ledger.close();
    let verified = verified(&disk, Some(&kept)).unwrap();
    assert_eq!(verified.faults, []);
    assert_eq!(verified.size as usize, leaves(&disk).len());
    assert_eq!((verified.read, verified.uncovered, verified.first), (verified.size, 0, 0));
    assert!(verified.since.is_some_and(|since| since > 400));
    assert_eq!((verified.enforcers, verified.heartbeats.running.len(), verified.gaps.len()), (1, 0, 0));
    assert!(verified.streams >= 3);

    let other = VerifierKey::new("example.org/decisions/main", [3; 32]);
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk)).unwrap();
    let auditor =
        Auditor { keys: &[other], since: None, identities: &Auditing, now: None, sample: (0, &SystemRng) };
    let refused = verify(&material, &auditor).unwrap();
    assert!(refused.faults[0].what.contains("no signature of the given key"), "{refused:?}");
}

#[test]
fn vf6_a_sample_is_drawn_from_all_decisions() {
    let disk = with_tree(300);
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk)).unwrap();
    let drawn = |most: usize| {
        let rng = base_ports::SeededRng::new(7);
        let auditor =
            Auditor { keys: &[key()], since: None, identities: &Auditing, now: None, sample: (most, &rng) };
        let found = verify(&material, &auditor).unwrap();
        assert_eq!(found.decisions, 300);
        found.sample
    };
    assert_eq!((drawn(0).len(), drawn(1_000).len()), (0, 300));
    let mut indexes: Vec<_> = drawn(30).iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 30, "none twice");
    assert!(indexes[0] < 100 && indexes[29] > 200, "from everywhere: {indexes:?}");
}

#[test]
fn vf6_what_is_not_there_is_unreadable_and_not_tampered() {
    assert!(verified(&MemoryDisk::new(), None).is_err());
    assert!(verified(&without_tree(3), None).unwrap_err().why.contains("no checkpoint"));
    let disk = with_tree(3);
    assert!(verified(&disk, Some(b"no checkpoint")).is_err());
}

#[test]
fn dl2_every_flipped_byte_of_records_tiles_and_checkpoint_is_found() {
    let made = with_tree(300);
    let mut files = wal(&made);
    files.extend(["tile/0/000", "tile/1/000.p/1", "checkpoint"].map(|name| Path::new("/ledger").join(name)));
    files.extend(made.list(Path::new("/ledger/tile/0/001.p")).unwrap());
    for path in files {
        let len = made.len(&path).unwrap() as usize;
        // Every byte where they are few; of the rest a share that no structure of theirs divides.
        for at in (0..len).step_by(if len < 1_400 { 1 } else { 397 }) {
            let disk = made.copy();
            disk.flip(&path, at, (at % 8) as u8);
            match verified(&disk, None) {
                Ok(verified) => assert!(!verified.is_intact(), "{} at {at}", path.display()),
                // The magic of another version is not read at all.
                Err(error) => assert!(at < MAGIC.len() && error.what.ends_with(".wal"), "{at}: {error}"),
            }
        }
    }
}

#[test]
fn dl2_every_flipped_byte_of_a_segment_is_found() {
    let made = MemoryDisk::new();
    let limits = crate::SegmentLimits { size: 1, ..Default::default() };
    let config = crate::LedgerConfig { segment: limits, ..signing() };
    let ledger = opened(&made, config).unwrap();
    let mut lane = ledger.lane(0);
    (0..700).for_each(|_| drop(lane.record(crate::testing::allow())));
    eventually("two blocks are put away", || ledger.stats().archived_index >= 512);
    ledger.close();
    let whole = verified(&made, None).unwrap();
    assert_eq!((whole.faults.as_slice(), whole.first, whole.read), ([].as_slice(), 0, whole.size));
    let files = made.list(Path::new("/ledger/seg")).unwrap();
    assert!(files.len() > 1, "{files:?}");
    let len = made.len(&files[0]).unwrap() as usize;
    for at in (0..len).step_by(89) {
        let disk = made.copy();
        disk.flip(&files[0], at, (at % 8) as u8);
        match verified(&disk, None) {
            Ok(verified) => assert!(!verified.is_intact(), "byte {at} of {len}"),
            Err(error) => assert!(at < 64, "byte {at}: {error}"),
        }
    }
    let gone = made.copy();
    gone.remove(&files[0]).unwrap();
    assert!(fault(&gone, None).what.contains("no record says that retention took them"));
}

#[test]
fn dl2_a_cut_at_every_record_is_found_with_its_index_and_offset() {
    let made = with_tree(120);
    let path = wal(&made).pop().unwrap();
    let first = crate::shelf::index_in(&path, crate::shelf::WAL).unwrap();
    let bytes = made.read(&path).unwrap();
    let mut frames = Frames::of_file(&bytes);
    let mut cuts = vec![(frames.offset(), first)];
    while let Some(Ok(_)) = frames.next() {
        cuts.push((frames.offset(), first + cuts.len() as u64));
    }
    cuts.pop();
    for (offset, index) in cuts {
        for torn in [0, HEADER + 3] {
            let disk = made.copy();
            disk.cut(&path, offset + torn);
            let fault = fault(&disk, None);
            assert_eq!(fault.index, Some(index), "cut at {offset}: {fault}");
            assert!(fault.what.contains("the records end here"), "{fault}");
        }
    }
}

#[test]
fn dl2_a_removed_middle_is_named() {
    let made = with_tree(900);
    let files = wal(&made);
    assert!(files.len() > 2, "{}", files.len());
    let gone = made.copy();
    gone.remove(&files[1]).unwrap();
    let first = crate::shelf::index_in(&files[1], crate::shelf::WAL).unwrap();
    let found = fault(&gone, None);
    assert_eq!(found.index, Some(first));
    assert!(found.what.contains("expected this record"), "{found}");

    let out = made.copy();
    rewrite(&out, &files[1], |leaves| drop(leaves.remove(5)));
    assert_eq!(fault(&out, None).index, Some(first + 5));

    let swapped = made.copy();
    rewrite(&swapped, &files[1], |leaves| leaves.swap(7, 9));
    assert_eq!(fault(&swapped, None).index, Some(first + 7));
}

#[test]
fn dl2_a_forged_record_is_named_with_file_and_offset() {
    for index in [2, 255, 256, 400] {
        let disk = with_tree(500);
        forge(&disk, index);
        let fault = fault(&disk, None);
        assert_eq!(fault.index, Some(index), "{fault}");
        let file = fault.file.unwrap();
        assert!(file.ends_with(".wal"), "{file}");
        let bytes = disk.read(Path::new(&file)).unwrap();
        let leaf = &leaves(&disk)[index as usize];
        assert!(bytes[fault.offset.unwrap() as usize..].starts_with(leaf));
    }
}

/// The same ledger with one record changed, and tiles and checkpoint made anew with the same key.
fn rewritten(disk: &MemoryDisk, index: u64) -> MemoryDisk {
    let forked = disk.copy();
    forge(&forked, index);
    for name in ["checkpoint", "log"] {
        forked.remove(&Path::new("/ledger").join(name)).unwrap();
    }
    run(&mut grower(&forked).unwrap());
    forked
}

#[test]
fn dl7_a_tree_rewritten_with_a_fresh_signature_fails_against_the_kept_checkpoint() {
    let disk = with_tree(500);
    let kept = checkpoint(&disk);
    let forked = rewritten(&disk, 40);
    assert!(verified(&forked, None).unwrap().is_intact(), "alone, it looks right");
    let fault = fault(&forked, Some(&kept));
    assert!(fault.what.contains("not the one of the kept checkpoint"), "{fault}");
    // Grown since, it is found as well.
    let ledger = opened(&forked, signing()).unwrap();
    ledger.close();
    assert!(!verified(&forked, Some(&kept)).unwrap().is_intact());
}

#[test]
fn dl7_an_older_copy_is_found_against_the_kept_checkpoint() {
    let disk = with_tree(300);
    let (old, before) = (disk.copy(), checkpoint(&disk));
    let ledger = opened(&disk, signing()).unwrap();
    let tree = ledger.inner().tree.clone().unwrap();
    eventually("it has grown", || tree.covered() > 303);
    ledger.close();
    let kept = checkpoint(&disk);
    assert!(verified(&old, None).unwrap().is_intact(), "alone, it looks right");
    assert!(fault(&old, Some(&kept)).what.contains("is older than the kept one"));
    // The old checkpoint over the newer records: what follows it is not proved, and the kept one is not reached.
    disk.write_atomic(Path::new("/ledger/checkpoint"), &before, 0o600).unwrap();
    assert!(verified(&disk, None).unwrap().uncovered > 0);
    assert!(fault(&disk, Some(&kept)).what.contains("is older than the kept one"));
}

/// Signs whatever stands in the files.
fn sign_again(disk: &MemoryDisk) {
    for name in ["checkpoint", "log"] {
        disk.remove(&Path::new("/ledger").join(name)).unwrap_or_default();
    }
    run(&mut grower(disk).unwrap());
}

#[test]
fn sq4_dl7_a_dropped_record_is_missed_even_where_everything_is_signed_anew() {
    let disk = without_tree(100);
    let path = wal(&disk).remove(0);
    rewrite(&disk, &path, |leaves| drop(leaves.remove(50)));
    sign_again(&disk);
    let found = fault(&disk, None);
    assert!(found.what.contains("neither records nor in a gap"), "{found}");

    let disk = without_tree(100);
    rewrite(&disk, &path, |leaves| leaves.insert(50, leaves[49].clone()));
    sign_again(&disk);
    let found = fault(&disk, None);
    assert!(found.index == Some(50) && found.what.contains("stands twice"), "{found}");
}

#[test]
fn sq4_a_dropped_end_is_missed_by_what_the_close_tells() {
    let disk = without_tree(100);
    let path = wal(&disk).remove(0);
    // The close stays and the ten records before it go.
    rewrite(&disk, &path, |leaves| drop(leaves.drain(leaves.len() - 11..leaves.len() - 1)));
    sign_again(&disk);
    let found = fault(&disk, None);
    assert!(found.what.contains("neither records nor in a gap"), "{found}");
}

#[test]
fn vf4_vf6_a_version_that_no_record_activates_is_named() {
    for is_activated in [true, false] {
        let disk = MemoryDisk::new();
        let ledger = opened(&disk, signing()).unwrap();
        if is_activated {
            let record = Record::Activation(ActivationRecord {
                versions: versions().into(),
                outcome: "activated".to_owned(),
                principal: None,
                detail: None,
                time: base_ports::Now { wall: NOON, mono: base_ports::Mono::from_nanos(1) },
            });
            drop(ledger.append(record).unwrap());
        }
        drop(ledger.lane(0).record(example()));
        ledger.close();
        let verified = verified(&disk, None).unwrap();
        assert_eq!(verified.versions, Some((41, 41)));
        assert_eq!(verified.is_intact(), is_activated, "{verified:?}");
        assert!(is_activated || verified.faults[0].what.contains("version 41"));
    }
}

#[test]
fn vf6_declared_gaps_are_told() {
    let disk = MemoryDisk::new();
    let config = crate::LedgerConfig { ring: 4, ..signing() };
    let ledger = opened(&disk, config).unwrap();
    let mut lane = ledger.lane(0);
    (0..5_000).for_each(|_| drop(lane.record(crate::testing::allow())));
    ledger.close();
    let verified = verified(&disk, None).unwrap();
    assert_eq!(verified.faults, []);
    assert!(!verified.gaps.is_empty());
    let shown = verified.gaps[0].to_string();
    assert!(shown.starts_with("gw-1 lane 0 seq ") && shown.contains(" queue_full exact "), "{shown}");
}

#[test]
fn vf6_lg4_what_retention_took_is_not_expected_and_what_nobody_took_is() {
    for is_told in [true, false] {
        let disk = without_tree(900);
        if is_told {
            let ledger = opened(&disk, crate::testing::config()).unwrap();
            let details = [("first", 0), ("last", 149)].map(|(name, at)| (name.to_owned(), at.to_string()));
            drop(ledger.append(Record::Administration(AdministrationRecord {
                operation: "retention".to_owned(),
                principal: None,
                details: details.to_vec(),
                time: base_ports::Clock::now(&base_ports::SystemClock),
            })));
            ledger.close();
            flatten(&disk);
        }
        run(&mut grower(&disk).unwrap());
        let kept = checkpoint(&disk);
        disk.remove(&wal(&disk)[0]).unwrap();
        let verified = verified(&disk, Some(&kept)).unwrap();
        assert_eq!((verified.first, verified.since), (150, Some(verified.size)));
        assert_eq!(verified.is_intact(), is_told, "{:?}", verified.faults);
        assert!(is_told || verified.faults[0].what.contains("no record says that retention took them"));
    }
}
