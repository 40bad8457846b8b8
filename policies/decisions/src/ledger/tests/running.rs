//! Files come and go, a close is an end, an idle writer sleeps.

use std::sync::atomic::Ordering;

use super::*;

#[test]
fn files_are_rotated_by_size_and_old_ones_removed_on_record() {
    let disk = MemoryDisk::new();
    let config =
        LedgerConfig { file_size: 4_096, keep: Keep { size: 16_384, ..Keep::default() }, ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let now = SystemClock.now().wall;
    for _ in 0..120 {
        let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Required, now));
        outcome(receipt).unwrap();
    }
    eventually("retention ran", || ledger.stats().first_index > 0 && ledger.stats().stored_bytes < 32_768);
    ledger.close();
    let records = all(&ledger);
    let files = ledger.0.shelf.files();
    assert!(files.len() > 2 && files.iter().all(|file| file.len <= 4_096 + 2_048));
    assert_eq!(records.first().unwrap().index, ledger.stats().first_index);
    assert!(records.iter().any(|record| {
        matches!(&record.body, Body::Administration { operation, details }
            if operation == "retention" && details.iter().any(|(name, _)| name == "first"))
    }));
    assert!(records.windows(2).all(|pair| pair[0].index + 1 == pair[1].index));

    let reopened = open(&disk).unwrap();
    assert!(all(&reopened).len() > records.len());
}

#[test]
fn a_closed_ledger_opens_without_a_recovery_and_goes_on_with_the_next_index() {
    let disk = MemoryDisk::new();
    let mut next = 0;
    for _ in 0..3 {
        let ledger = open(&disk).unwrap();
        assert_eq!(all(&ledger).last().unwrap().index, next, "one record, `stream_open`, and nothing else");
        ledger.lane(0).record(allow());
        ledger.close();
        let records = all(&ledger);
        assert_complete(&records);
        assert!(records.iter().all(|record| record.kind != Kind::RECOVERY && record.kind != Kind::GAP));
        assert_eq!(records.last().unwrap().kind, Kind::STREAM_CLOSE);
        next = records.last().unwrap().index + 1;
    }
}

#[test]
fn a_push_after_the_close_is_refused_not_hung() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(0);
    ledger.close();
    let (_, receipt) = lane.record(decision(Effect::Allow, Audit::Required, NOON));
    outcome(receipt).unwrap_err();
    ledger.close();
}

#[test]
fn ls2_an_idle_writer_sleeps_and_one_best_effort_record_wakes_it() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(0);
    let turns = || ledger.0.writer.counts.turns.load(Ordering::Relaxed);
    let mut spent = Duration::ZERO;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(150));
        let before = turns();
        std::thread::sleep(Duration::from_millis(150));
        assert!(turns() - before < 10, "{} turns while idle", turns() - before);
        let (id, _) = lane.record(allow());
        let start = SystemClock.mono();
        eventually("written", || all(&ledger).iter().any(|record| record.id == id));
        spent += SystemClock.mono().saturating_since(start);
    }
    // Asleep it would look again after a second each time.
    assert!(spent < Duration::from_secs(2), "{spent:?}");
}

/// Not a test of speed: prints what a push costs here. `cargo test -p policies-decisions push_cost -- --nocapture`.
#[test]
fn push_cost_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let config = LedgerConfig { dir: dir.path().to_owned(), ..config() };
    let ledger = open_with(config, Arc::new(base_ports::SystemDisk), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let template = example();
    const RUN: u32 = 64;
    const ROUNDS: u32 = 400;
    let (mut push, mut clone, mut lost) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..ROUNDS {
        if round == ROUNDS * 3 / 4 {
            // Until here the ring was touched for the first time.
            (push, clone) = (Duration::ZERO, Duration::ZERO);
        }
        let start = SystemClock.mono();
        let copies: Vec<_> = (0..RUN).map(|_| template.clone()).collect();
        let middle = SystemClock.mono();
        for record in copies {
            lost += u32::from(matches!(lane.record(record).1, Receipt::Lost));
        }
        push += SystemClock.mono().saturating_since(middle);
        clone += middle.saturating_since(start);
        std::thread::sleep(Duration::from_millis(1));
    }
    eventually("the backlog is written", || {
        ledger.stats().records + ledger.stats().lost > u64::from(ROUNDS * RUN)
    });
    let mut required: Vec<_> = (0..200)
        .map(|_| {
            let start = SystemClock.mono();
            // A disk too slow for the limit is not this test's concern.
            outcome(lane.record(decision(Effect::Allow, Audit::Required, NOON)).1).unwrap_or_default();
            SystemClock.mono().saturating_since(start)
        })
        .collect();
    required.sort_unstable();
    ledger.close();
    let per = |spent: Duration| spent.as_nanos() / u128::from(ROUNDS / 4 * RUN);
    let ranges: Vec<_> = gaps(&all(&ledger)).iter().map(|gap| gap.range).collect();
    println!(
        "{ranges:?} push {} ns, cloning the record {} ns, slot {} bytes, {lost} lost, required p50 {:?} p99 {:?}, {:?}",
        per(push),
        per(clone),
        size_of::<lane::Slot>(),
        required[99],
        required[197],
        ledger.stats(),
    );
}
