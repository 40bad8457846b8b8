//! Strength and loss (decisions.md 6): what is acknowledged is there, what is lost is counted exactly.

mod running;

use std::{collections::BTreeMap, sync::Arc};

use base_ports::{Clock, MemoryDisk, SystemClock};
use policies_engine::{AdministrationRecord, Audit, Effect, Facts, Reason, Receipt, Record};

use super::*;
use crate::{
    Gap, GapCause, Keep, Kind, StoredRecord, Waits,
    ranges::Ranges,
    testing::{
        Held, NOON, all, allow, config, decision, eventually, example, open, open_with, pattern, wait,
    },
};

fn gaps<'a>(records: &'a [StoredRecord]) -> Vec<&'a Gap> {
    let gap = |record: &'a StoredRecord| match &record.body {
        Body::Gap(gap) => Some(gap),
        _ => None,
    };
    records.iter().filter_map(gap).collect()
}

/// SQ4 for every stream: stored numbers and gap ranges cover 1..last, and no number is both.
#[track_caller]
pub(crate) fn assert_complete(records: &[StoredRecord]) {
    let mut streams: BTreeMap<_, (Ranges, u64)> = BTreeMap::new();
    let mut add = |boot: [u8; 8], lane: u16, first: u64, last: u64| {
        let (ranges, end) = streams.entry((boot, lane)).or_default();
        let fresh = ranges.missing(first, last);
        assert_eq!(fresh, [(first, last)], "lane {lane}: {first}..={last} is covered twice");
        ranges.insert(first, last);
        *end = last.max(*end);
    };
    for record in records {
        add(record.stream.boot, record.stream.lane, record.stream.seq, record.stream.seq);
        if let Body::Gap(Gap { boot, lane, range: Some((first, last)), .. }) = &record.body {
            add(*boot, *lane, *first, *last);
        }
    }
    for ((_, lane), (ranges, end)) in streams {
        assert_eq!(ranges.missing(1, end), [], "lane {lane} has numbers without a record");
    }
}

fn outcome(receipt: Receipt) -> Result<(), AuditUnavailable> {
    match receipt {
        Receipt::Pending(pending) => wait(pending),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sq1_the_id_in_the_receipt_leads_to_the_record() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(3);
    let (id, receipt) = lane.record(example());
    assert!(matches!(receipt, Receipt::Taken));
    let (next, _) = lane.record(example());
    assert_eq!((id.seq(), next.seq(), id.stream_tag()), (1, 2, next.stream_tag()));
    assert_eq!(id.millis(), NOON.as_millis().cast_unsigned());
    ledger.close();
    let found = ledger.get(&pattern(&id.to_string())).unwrap();
    assert_eq!((found.id, found.stream.lane, found.stream.boot), (id, 3, ledger.boot()));
    assert_eq!(found.decision().unwrap().action, "grpc");
}

#[test]
fn sq2_every_lane_and_every_boot_is_its_own_stream() {
    let disk = MemoryDisk::new();
    let mut tags = BTreeSet::new();
    for _ in 0..2 {
        let ledger = open(&disk).unwrap();
        for mut lane in [ledger.lane(0), ledger.lane(1), ledger.lane(1)] {
            let (id, _) = lane.record(allow());
            assert_eq!(id.seq(), 1);
            tags.insert(id.stream_tag());
        }
        ledger.close();
        assert_complete(&all(&ledger));
    }
    assert_eq!(tags.len(), 6);
}

#[test]
fn s33_a_required_record_is_written_when_it_resolves() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    for audit in [Audit::Required, Audit::Durable] {
        let (id, receipt) = lane.record(decision(Effect::Allow, audit, NOON));
        outcome(receipt).unwrap();
        let found = all(&ledger).into_iter().find(|record| record.id == id).unwrap();
        assert_eq!(found.decision().unwrap().audit, audit);
    }
}

#[test]
fn ls3_a_durable_record_survives_power_loss_at_once() {
    let disk = MemoryDisk::new();
    let config = LedgerConfig { commit_interval: Duration::from_secs(3600), ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Durable, NOON));
        outcome(receipt).unwrap();
        ids.push(id);
    }
    disk.lose_unsynced(0);
    std::mem::forget(ledger);
    let ledger = open(&disk).unwrap();
    let stored: BTreeSet<_> = all(&ledger).iter().map(|record| record.id).collect();
    assert!(ids.iter().all(|id| stored.contains(id)));
    assert_complete(&all(&ledger));
}

#[test]
fn ls3_what_is_written_is_synced_within_the_commit_interval() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    let (id, _) = lane.record(allow());
    eventually("written", || all(&ledger).iter().any(|record| record.id == id));
    let syncs = ledger.stats().syncs;
    eventually("synced", || ledger.stats().syncs > syncs);
}

#[test]
fn ls6_control_records_are_durable_and_numbered() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let record = Record::Administration(AdministrationRecord {
        operation: "hold".to_owned(),
        principal: None,
        details: Vec::new(),
        time: SystemClock.now(),
    });
    let (first, pending) = ledger.append(record.clone()).unwrap();
    wait(pending).unwrap();
    let (second, pending) = ledger.append(record).unwrap();
    wait(pending).unwrap();
    assert_eq!((first.seq(), second.seq()), (1, 2));
    disk.lose_unsynced(0);
    std::mem::forget(ledger);
    let ledger = open(&disk).unwrap();
    let found = ledger.get(&pattern(&second.to_string())).unwrap();
    assert_eq!((found.kind, found.stream.lane), (Kind::ADMINISTRATION, CONTROL_LANE));
}

#[test]
fn ls7_a_full_ring_gives_exact_gaps_and_loses_allows_first() {
    let held = Held::default();
    let config = LedgerConfig { ring: 64, ..config() };
    let ledger = open_with(config, Arc::new(held.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    held.hold();
    // The writer takes what is there and is held in its write; the ring fills behind it.
    let (mut pushed, mut lost, mut lost_denials) = (0_u64, 0_u64, 0_u64);
    let mut push = |effect| {
        let (_, receipt) = lane.record(decision(effect, Audit::BestEffort, NOON));
        pushed += 1;
        if matches!(receipt, Receipt::Lost) {
            lost += 1;
            lost_denials += u64::from(effect == Effect::Deny);
        }
        matches!(receipt, Receipt::Lost)
    };
    while !push(Effect::Allow) {
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(!push(Effect::Deny), "a denial still has room where an allow has none");
    while !push(Effect::Deny) {}
    for _ in 0..10 {
        assert!(push(Effect::Allow));
    }
    let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    pushed += 1;
    assert!(matches!(receipt, Receipt::Pending(_)), "required records have the last slots");
    held.release();
    outcome(receipt).unwrap();
    ledger.close();

    let records = all(&ledger);
    assert_complete(&records);
    let gaps = gaps(&records);
    assert!(gaps.iter().all(|gap| gap.exact && gap.cause == GapCause::QueueFull && gap.lane == 0));
    assert_eq!(gaps.iter().map(|gap| gap.count).sum::<u64>(), lost);
    let sum = |counts: fn(&Gap) -> &BTreeMap<String, u64>, word: &str| {
        gaps.iter().filter_map(|gap| counts(gap).get(word)).sum::<u64>()
    };
    assert_eq!(sum(|gap| &gap.effects, "deny"), lost_denials);
    assert_eq!(sum(|gap| &gap.effects, "allow"), lost - lost_denials);
    assert_eq!(sum(|gap| &gap.reasons, "no_permit"), lost_denials);
    assert!(gaps.iter().all(|gap| gap.from == Some(NOON) && gap.to == Some(NOON)));
    let stored = records.iter().filter(|record| record.stream.lane == 0).count() as u64;
    assert_eq!(stored + lost, pushed);
    assert_eq!(ledger.stats().lost, lost);
    // The record that came after a loss says so itself.
    let after = records.iter().find(|record| record.id == id).unwrap();
    assert!(
        after.lost > 0 && gaps.iter().any(|gap| gap.range == Some((id.seq() - after.lost, id.seq() - 1)))
    );
}

#[test]
fn ls7_a_loss_is_declared_even_when_nothing_follows_it() {
    let held = Held::default();
    let config = LedgerConfig { ring: 16, ..config() };
    let ledger = open_with(config, Arc::new(held.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    held.hold();
    let mut lost = 0;
    while lost < 7 {
        lost += u64::from(matches!(lane.record(allow()).1, Receipt::Lost));
        std::thread::sleep(Duration::from_micros(100));
    }
    held.release();
    eventually("the gap is on record", || {
        gaps(&all(&ledger)).iter().map(|gap| gap.count).sum::<u64>() == lost
    });
}

#[test]
fn a_slow_disk_holds_up_no_lane() {
    let held = Held::default();
    let ledger = open_with(config(), Arc::new(held.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    held.hold();
    let start = SystemClock.mono();
    let mut taken = 0;
    for _ in 0..4_000 {
        taken += u32::from(matches!(lane.record(allow()).1, Receipt::Taken));
    }
    let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    let refusal = outcome(receipt).unwrap_err();
    let spent = SystemClock.mono().saturating_since(start);
    assert_eq!(refusal, AuditUnavailable("it was not written within 50 ms".to_owned()));
    assert!(taken > 3_000 && spent < Duration::from_secs(5), "{taken} taken in {spent:?}");
    held.release();
    ledger.close();
    assert_complete(&all(&ledger));
}

#[test]
fn sq3_a_lane_without_reserved_numbers_refuses_and_counts() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    // No state file can be written any more, so no number is reserved beyond the first block.
    disk.limit_room(0);
    let mut unnumbered = 0;
    let reserved = RESERVATION * WORKER_BLOCKS;
    for _ in 0..reserved + 100 {
        let (id, receipt) = lane.record(allow());
        if id.seq() == 0 {
            assert!(matches!(receipt, Receipt::Lost));
            unnumbered += 1;
        }
    }
    assert_eq!(unnumbered, 100);
    let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    assert_eq!((id.seq(), outcome(receipt).is_err()), (0, true));
    disk.free_room();
    eventually("numbers are reserved again", || lane_has_numbers(&ledger));
    ledger.close();
    let records = all(&ledger);
    assert_complete(&records);
    let declared: u64 = gaps(&records).iter().map(|gap| gap.count).sum();
    let stored = records.iter().filter(|record| record.stream.lane == 0).count() as u64;
    assert_eq!(stored + declared, reserved + 101);
}

fn lane_has_numbers(ledger: &Ledger) -> bool {
    let (id, _) = ledger.lane(0).record(allow());
    id.seq() > 0
}

#[test]
fn ls8_a_full_disk_refuses_required_records_and_heals_with_an_exact_gap() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    let (first, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    outcome(receipt).unwrap();
    disk.limit_room(0);
    let (second, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    outcome(receipt).unwrap_err();
    assert!(ledger.stats().write_failures > 0 && !ledger.stats().is_writable);
    disk.free_room();
    eventually("records are taken again", || {
        let (_, receipt) = ledger.lane(9).record(decision(Effect::Deny, Audit::Required, NOON));
        outcome(receipt).is_ok()
    });
    assert!(ledger.stats().is_writable);
    ledger.close();
    let records = all(&ledger);
    assert_complete(&records);
    assert!(records.iter().any(|record| record.id == first));
    let gaps = gaps(&records);
    let gap = gaps.iter().find(|gap| gap.lane == 0).unwrap();
    assert_eq!(
        (gap.range, gap.exact, gap.cause),
        (Some((second.seq(), second.seq())), true, GapCause::SpoolFull)
    );
    assert_eq!(gap.reasons, BTreeMap::from([("permit".to_owned(), 1)]));
}

#[test]
fn a_failed_sync_refuses_who_waited_and_moves_to_a_new_file() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    disk.fail_sync(true);
    let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Durable, NOON));
    outcome(receipt).unwrap_err();
    disk.fail_sync(false);
    let before = ledger.0.shelf.files().len();
    eventually("a durable record is kept again", || {
        let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Durable, NOON));
        outcome(receipt).is_ok()
    });
    assert!(ledger.0.shelf.files().len() > before, "the file that failed to sync is not written any more");
    assert!(ledger.stats().sync_failures > 0);
    ledger.close();
    assert_complete(&all(&ledger));
}

#[test]
fn ls8_a_full_disk_takes_gap_records_from_the_reserve_and_is_normal_once_there_is_room() {
    let disk = MemoryDisk::new();
    let ledger = open_with(
        LedgerConfig { reserve: 64 << 10, ..config() },
        Arc::new(disk.clone()),
        Arc::new(SystemClock),
    )
    .unwrap();
    let reserve = std::path::Path::new("/ledger/reserve");
    assert_eq!(disk.len(reserve).unwrap(), 64 << 10);
    let mut lane = ledger.lane(0);
    disk.limit_room(300);
    let lost: Vec<_> = (0..50)
        .filter_map(|_| {
            let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
            outcome(receipt).is_err().then_some(id)
        })
        .collect();
    assert!(lost.len() > 40, "{}", lost.len());
    assert!(!disk.exists(reserve), "it was given up");
    eventually("what was lost is on record while the disk is full", || {
        let records = all(&ledger);
        let known: u64 = gaps(&records).iter().filter(|gap| gap.lane == 0).map(|gap| gap.count).sum();
        known == lost.len() as u64
    });
    assert!(!ledger.stats().is_writable);
    disk.limit_room(1 << 20);
    let start = SystemClock.mono();
    eventually("normal again", || {
        let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
        outcome(receipt).is_ok()
    });
    assert!(SystemClock.mono().saturating_since(start) < Duration::from_secs(10));
    assert!(ledger.stats().is_writable);
    assert_eq!(disk.len(reserve).unwrap(), 64 << 10, "it is there for the next time");
    ledger.close();
    assert_complete(&all(&ledger));
}

#[test]
fn a_file_whose_sync_failed_is_copied_and_counts_as_synced_again() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let mut lane = ledger.lane(0);
    let mut record = |audit| outcome(lane.record(decision(Effect::Allow, audit, NOON)).1);
    record(Audit::Durable).unwrap();
    disk.fail_sync(true);
    record(Audit::Durable).unwrap_err();
    let stored = ledger.0.shelf.next_index();
    let (doubtful, synced) = (ledger.0.shelf.files()[0].path.clone(), ledger.0.shelf.synced());
    assert!(synced < stored);
    disk.fail_sync(false);
    eventually("all is certain", || {
        drop(record(Audit::Required));
        ledger.0.shelf.synced() >= stored
    });
    assert!(ledger.0.shelf.files()[0].path == doubtful && ledger.0.shelf.files().len() > 1);
    disk.lose_power(base_ports::Survive::Nothing);
    std::mem::forget(ledger);
    let ledger = open(&disk).unwrap();
    let records = all(&ledger);
    assert!(records.len() as u64 > stored, "what could be read was kept");
    assert_complete(&records);
}

/// Facts that cannot be read.
#[derive(Debug)]
struct Broken;

impl Facts for Broken {
    fn connection(&self) -> &policies_engine::ConnectionFacts {
        panic!("a bug in somebody's facts")
    }
    fn request(&self) -> Option<policies_engine::RequestView<'_>> {
        None
    }
    fn rpc(&self) -> Option<(&str, &str)> {
        None
    }
    fn header(&self, _: &str, _: &mut dyn FnMut(&str)) {}
}

#[test]
fn an_operator_waits_for_a_disk_that_calls_do_not_wait_for() {
    let held = Held::default();
    let ledger = open_with(config(), Arc::new(held.clone()), Arc::new(SystemClock)).unwrap();
    let (mut lane, mut patient) = (ledger.lane(0), ledger.patient_lane(1));
    held.hold();
    let (_, call) = lane.record(decision(Effect::Allow, Audit::Durable, NOON));
    let (_, change) = patient.record(decision(Effect::Allow, Audit::Durable, NOON));
    assert!(outcome(call).is_err());
    held.release();
    assert_eq!(outcome(change), Ok(()));
    ledger.close();
}

#[test]
fn a_record_that_cannot_be_encoded_costs_itself_only() {
    let patient = Waits { required: Duration::from_secs(10), ..Waits::default() };
    let config = LedgerConfig { waits: patient, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let mut bad = decision(Effect::Deny, Audit::Required, NOON);
    bad.reason = Reason::Forbid;
    bad.facts = Some(Arc::new(Broken));
    let (_, receipt) = lane.record(bad);
    assert_eq!(outcome(receipt), Err(AuditUnavailable("the record cannot be encoded".to_owned())));
    let (good, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    outcome(receipt).unwrap();
    ledger.close();
    let records = all(&ledger);
    assert_complete(&records);
    assert!(records.iter().any(|record| record.id == good));
    let gap = gaps(&records)[0].clone();
    assert_eq!((gap.range, gap.cause, gap.count), (Some((1, 1)), GapCause::Refused, 1));
    assert_eq!(gap.reasons, BTreeMap::from([("forbid".to_owned(), 1)]));
}
