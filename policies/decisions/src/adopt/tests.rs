//! Two ledgers on one disk: the one of the process that goes, and the one of the process that comes.

use std::{collections::BTreeSet, sync::Arc};

use base_ports::{MemoryDisk, SystemClock};
use policies_engine::{Audit, DecisionId, Effect, Receipt};

use super::*;
use crate::{
    Kind, LedgerConfig,
    ledger::assert_complete,
    testing::{NOON, all, config, decision, open, open_with, wait},
};

const ASIDE: &str = "/aside";

fn aside(disk: &MemoryDisk) -> Ledger {
    // Small files, so that there are several.
    let config = LedgerConfig { dir: ASIDE.into(), file_size: 4 * 1024, ..config() };
    open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap()
}

fn record(ledger: &Ledger, count: usize) -> BTreeSet<DecisionId> {
    let mut lane = ledger.lane(0);
    let ids = (0..count).map(|_| {
        let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
        if let Receipt::Pending(pending) = receipt {
            wait(pending).unwrap();
        }
        id
    });
    ids.collect()
}

fn ids(ledger: &Ledger) -> BTreeSet<DecisionId> {
    let records = all(ledger);
    assert_complete(&records);
    let decisions = records.iter().filter(|record| record.decision().is_some());
    let ids: Vec<_> = decisions.map(|record| record.id).collect();
    let set: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(set.len(), ids.len(), "a record stands twice");
    set
}

#[test]
fn up_02_what_was_recorded_beside_the_ledger_joins_it_once_and_without_a_hole() {
    let disk = MemoryDisk::new();
    let other = aside(&disk);
    let mut expected = record(&other, 100);
    other.close();
    let ledger = open(&disk).unwrap();
    expected.extend(record(&ledger, 10));
    assert!(ledger.adopt(Path::new(ASIDE)).unwrap() > 100);
    assert_eq!(ids(&ledger), expected);
    assert_eq!(ledger.adopt(Path::new(ASIDE)).unwrap(), 0, "all of it is known");
    ledger.close();
    let ledger = open(&disk).unwrap();
    assert_eq!(ledger.adopt(Path::new(ASIDE)).unwrap(), 0, "also after a restart");
    assert_eq!(ids(&ledger), expected);
}

#[test]
fn up_02_what_stands_in_segments_there_joins_as_well() {
    let disk = MemoryDisk::new();
    let other = aside(&disk);
    let expected = record(&other, 700);
    other.close();
    assert_eq!(disk.list(&Path::new(ASIDE).join("seg")).unwrap().len(), 1);
    let ledger = open(&disk).unwrap();
    assert!(ledger.adopt(Path::new(ASIDE)).unwrap() > 700);
    assert_eq!(ids(&ledger), expected);
    assert_eq!(ledger.adopt(Path::new(ASIDE)).unwrap(), 0, "all of it is known");
}

#[test]
fn up_02_what_a_killed_process_left_out_beside_the_ledger_is_declared_once() {
    let disk = MemoryDisk::new();
    let other = aside(&disk);
    let expected = record(&other, 50);
    std::mem::forget(other);
    let ledger = open(&disk).unwrap();
    for _ in 0..2 {
        ledger.adopt(Path::new(ASIDE)).unwrap();
        assert_eq!(ids(&ledger), expected);
        let recoveries = all(&ledger).iter().filter(|record| record.kind == Kind::RECOVERY).count();
        assert_eq!(recoveries, 1);
    }
}

#[test]
fn up_02_a_try_that_was_cut_is_finished_by_the_next() {
    let disk = MemoryDisk::new();
    let other = aside(&disk);
    let expected = record(&other, 60);
    other.close();
    let ledger = open(&disk).unwrap();
    let (first, path) = files(&Path::new(ASIDE).join("wal"), &disk).unwrap().swap_remove(0);
    let damage = Torn { quarantine: &Quarantine::default(), synced: 0 };
    let file = scan(path, first, &disk, &mut Streams::default(), &damage).unwrap();
    let there = Shelf::new(Vec::new(), vec![file]);
    let part = &there.volumes()[0];
    assert!(ledger.take(&there, part, &Streams::default(), &disk).unwrap() < 60);
    std::mem::forget(ledger);
    let ledger = open(&disk).unwrap();
    ledger.adopt(Path::new(ASIDE)).unwrap();
    assert_eq!(ids(&ledger), expected);
}

#[test]
fn up_02_a_ledger_that_was_closed_adopts_nothing_and_says_so() {
    let disk = MemoryDisk::new();
    let other = aside(&disk);
    let expected = record(&other, 20);
    other.close();
    let ledger = open(&disk).unwrap();
    ledger.close();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(ledger.adopt(Path::new(ASIDE))));
    let adopted = told.recv_timeout(std::time::Duration::from_secs(10)).expect("it does not wait for ever");
    assert!(matches!(adopted, Err(LedgerError::NotAdopted(_))), "{adopted:?}");
    let ledger = open(&disk).unwrap();
    ledger.adopt(Path::new(ASIDE)).unwrap();
    assert_eq!(ids(&ledger), expected);
}

#[test]
fn a_directory_without_a_ledger_has_nothing() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    assert_eq!(ledger.adopt(Path::new("/nowhere")).unwrap(), 0);
}
