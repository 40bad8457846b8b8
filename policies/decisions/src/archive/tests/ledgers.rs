//! Whole ledgers over segments: answers, damage, retention.

use policies_engine::{Action, DecisionRecord, Lane, Principal, Resource, Trace};

use super::*;
use crate::{
    Ledger, LedgerConfig, StoredRecord,
    testing::{all, eventually, query, wait},
};

/// A decision that differs from others in everything that is asked for.
fn varied(n: u64) -> DecisionRecord {
    let effect = if n.is_multiple_of(50) { Effect::Deny } else { Effect::Allow };
    let mut record = decision(effect, Audit::BestEffort, at(n as i64));
    // Runs of equal principals, so that some blocks lack some of them.
    record.principal = Principal::workload(&format!("spiffe://example.org/client-{}", n / 97));
    record.resource = Resource::route(&format!("orders-{}/{}", n / 300, n % 3)).within("orders", None);
    if n > 2_000 {
        record.action = Action::HttpDelete;
    }
    record.determining = [format!("policy-{}", n / 500).into()].into();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    record.trace = Some(Trace { trace_id: id, span_id: [0; 8] });
    record
}

fn filled(disk: &MemoryDisk, limits: SegmentLimits) -> Ledger {
    let config = LedgerConfig { file_size: 64 << 10, segment: limits, ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let mut lane: Box<dyn Lane> = ledger.lane(0);
    for n in 0..3_000 {
        lane.record(varied(n));
        if n % 500 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eventually("put away", || ledger.stats().archived_index >= 2_816);
    ledger
}

#[test]
fn qy4_the_index_rules_out_blocks_and_no_answer() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, SegmentLimits::default());
    let everything = all(&ledger);
    let check = |ledger: &Ledger, state: &str| {
        for (name, value) in [
            ("principal", "spiffe://example.org/client-7"),
            ("principal", "prefix:spiffe://example.org/client-2"),
            ("principal", "nobody"),
            ("resource", "orders-4/"),
            ("effect", "deny"),
            ("action", "http:delete"),
            ("policy", "policy-3"),
            ("service", "orders"),
            ("kind", "stream_open"),
            ("trace", "00000000000004d20000000000000000"),
        ] {
            let since = at(-10).to_string();
            let asked = query(&[(name, value), ("limit", "1000"), ("since", &since)], at(4_000));
            let page = ledger.query(&asked).unwrap();
            assert!(page.damaged.is_empty() && page.partial.is_none());
            let mut expected = Vec::new();
            each_leaf(&ledger.inner().shelf, &disk, 0..u64::MAX, |index, leaf| {
                let view = crate::leaf::View::of(leaf).unwrap();
                if asked.filter.matches(&view) && view.time >= at(-10).as_nanos() {
                    expected.push((view.time, index));
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            expected.sort_unstable();
            expected.reverse();
            expected.truncate(1_000);
            let found: Vec<_> = page.rows.iter().map(|row| (row.time.as_nanos(), row.index)).collect();
            assert_eq!(found, expected, "{state}: {name}={value}");
        }
    };
    check(&ledger, "a growing segment");
    ledger.close();
    check(&ledger, "a closed segment");
    assert_eq!(all(&ledger)[..everything.len()], everything[..]);

    // A rare principal costs a fraction of the blocks.
    let segment = ledger.inner().shelf.segments()[0].clone();
    let before = disk.bytes_read(&segment.path);
    let asked = query(&[("principal", "spiffe://example.org/client-7"), ("since", "30d")], at(4_000));
    assert_eq!(ledger.query(&asked).unwrap().rows.len(), 97);
    let blocks = walk(&segment.path, 0, segment.len, &disk).unwrap();
    let cost = disk.bytes_read(&segment.path) - before;
    let footer = segment.len - blocks.iter().map(|block| block.len).sum::<u64>() - 4_096;
    assert!(cost < footer + segment.len / 4, "{cost} of {}", segment.len);
}

#[test]
fn records_are_the_same_wherever_they_stand() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, SegmentLimits { size: 30 << 10, age: Duration::MAX });
    assert!(ledger.stats().segments > 1);
    let one = all(&ledger).into_iter().find(|record| record.decision().is_some()).unwrap();
    assert_eq!(ledger.get(&testing::pattern(&one.id.to_string())).unwrap(), one);
    let asked = query(&[("since", "30d"), ("kind", "decision")], at(4_000));
    let mut walked = 0;
    ledger
        .walk(&asked, |_| {
            walked += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(walked, 3_000);
    let mut tail = ledger.tail(Some(0), None);
    let expected = all(&ledger);
    let tailed = wait(async {
        let mut tailed = Vec::new();
        while tailed.len() < expected.len() {
            match tail.next().await.unwrap() {
                Some(crate::TailItem::Record(record)) => tailed.push(*record),
                other => panic!("{other:?}"),
            }
        }
        tailed
    });
    assert_eq!(tailed, expected);
    ledger.close();
    // Read without opening it, and opened again.
    let dir = crate::LedgerDir::open(Path::new(DIR), Arc::new(disk.clone())).unwrap();
    let mut seen = 0;
    let walked = dir
        .walk(&asked, |_| {
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((seen, walked.damaged), (3_000, vec![]));
    let again = open_with(config(), Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    crate::ledger::assert_complete(&all(&again));
    let decisions = all(&again).iter().filter(|record| record.decision().is_some()).count();
    assert_eq!(decisions, 3_000);
}

#[test]
fn without_a_state_file_a_crash_is_bounded_by_what_stands_in_segments() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, SegmentLimits::default());
    std::mem::forget(ledger);
    let disk = disk.copy();
    disk.remove(&Path::new(DIR).join("state")).unwrap();
    let again = open_with(config(), Arc::new(disk), Arc::new(SystemClock)).unwrap();
    crate::ledger::assert_complete(&all(&again));
}

#[test]
fn pc6021_a_bad_block_is_told_by_queries_walks_and_tails_and_the_rest_goes_on() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, SegmentLimits::default());
    ledger.close();
    let segment = ledger.inner().shelf.segments()[0].clone();
    let blocks = walk(&segment.path, 0, segment.len, &disk).unwrap();
    disk.flip(&segment.path, blocks[3].offset as usize + 60, 1);
    let asked = query(&[("since", "30d"), ("limit", "1000"), ("until", &at(1_500).to_string())], at(4_000));
    let page = ledger.query(&asked).unwrap();
    let named: Vec<_> =
        page.damaged.iter().map(|damage| (damage.file.clone(), damage.first, damage.last)).collect();
    assert_eq!(named, [(segment.path.clone(), 768, 1_023)]);
    let walked = ledger.walk(&asked, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(walked.damaged, page.damaged);
    assert_eq!(ledger.stats().damaged, 1, "counted once");
    let mut tail = ledger.tail(Some(760), None);
    let first = wait(tail.next()).unwrap();
    assert!(matches!(&first, Some(crate::TailItem::Record(record)) if record.index == 760));
    let mut resync = None;
    while resync.is_none() {
        if let Some(crate::TailItem::Resync { next }) = wait(tail.next()).unwrap() {
            resync = Some(next);
        }
    }
    assert_eq!(resync, Some(1_024));
}

#[test]
fn lg4_old_segments_go_on_record_and_the_minimum_index_rises() {
    let disk = MemoryDisk::new();
    let limits = SegmentLimits { size: 20 << 10, age: Duration::MAX };
    let keep = Keep { age: Duration::MAX, size: 90 << 10 };
    let config = LedgerConfig { file_size: 16 << 10, segment: limits, keep, ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let auditor = Principal::workload("spiffe://example.org/auditor");
    let new = crate::NewHold {
        name: "case 7".to_owned(),
        reason: "inquiry".to_owned(),
        range: crate::HoldRange::Indexes { first: 0, last: 20 },
        filter: Vec::new(),
    };
    ledger.hold(new, &auditor).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..9_000 {
        lane.record(varied(n));
        if n % 200 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // Retention takes write-ahead files as well: what is put on record from now on stands behind all of them.
    eventually("all is written", || ledger.stats().next_index >= 9_002);
    eventually("retention ran", || {
        ledger.inner().shelf.segments().get(1).is_some_and(|second| second.first > 1_000)
    });
    assert_eq!(ledger.stats().first_index, 0, "the held segment stays");
    wait(ledger.release("case 7", &auditor)).unwrap();
    eventually("on record", || {
        let (kept, _) = read(&ledger.inner().shelf, &disk);
        let records = kept.into_iter().map(|(index, leaf)| StoredRecord::decode(index, leaf.into()).unwrap());
        let operations: Vec<_> = records
            .filter_map(|record| match record.body {
                crate::Body::Administration { operation, .. } => Some(operation),
                _ => None,
            })
            .collect();
        ["retention", "release"].iter().all(|wanted| operations.iter().any(|operation| operation == wanted))
    });
    // It goes when the whole is too large again.
    let mut more = 9_000..12_000;
    eventually("the released segment goes", || {
        more.by_ref().take(100).for_each(|n| drop(lane.record(varied(n))));
        ledger.stats().first_index > 1_000
    });
}

#[test]
fn lg5_a_hold_by_filter_keeps_the_segments_that_have_such_a_record() {
    let limits = SegmentLimits { size: 20 << 10, age: Duration::MAX };
    let keep = Keep { age: Duration::MAX, size: 90 << 10 };
    let config = LedgerConfig { file_size: 16 << 10, segment: limits, keep, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    // Of the calls 1,940 to 2,036.
    let new = crate::NewHold {
        name: "case 8".to_owned(),
        reason: "inquiry".to_owned(),
        filter: vec![("principal".to_owned(), "spiffe://example.org/client-20".to_owned())],
        ..crate::NewHold::default()
    };
    ledger.hold(new, &Principal::workload("spiffe://example.org/auditor")).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..9_000 {
        lane.record(varied(n));
        if n % 200 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let has_it = |segment: &Segment| segment.first < 2_050 && segment.end > 1_940;
    eventually("all behind it went", || {
        let kept = ledger.inner().shelf.segments();
        kept.iter().filter(|segment| !has_it(segment)).all(|segment| segment.first > 3_000)
    });
    assert!(ledger.inner().shelf.segments().iter().any(|segment| has_it(segment)), "the held segment stays");
    assert!(ledger.stats().first_index > 0, "what is before it went");
    let asked = query(&[("principal", "spiffe://example.org/client-20"), ("since", "30d")], at(10_000));
    assert_eq!(ledger.query(&asked).unwrap().rows.len(), 97);
}

/// Every record of the write-ahead files of a directory that was not opened, with its index.
fn in_files(disk: &MemoryDisk) -> BTreeMap<u64, Vec<u8>> {
    let files = shelf::listed(&Path::new(DIR).join("wal"), shelf::WAL, disk).unwrap();
    let mut found = BTreeMap::new();
    for (first, path) in files {
        let bytes = disk.read(&path).unwrap();
        let leaves = frame::Frames::of_file(&bytes).map_while(Result::ok).map(<[u8]>::to_vec);
        found.extend((first..).zip(leaves));
    }
    found
}

#[test]
fn lg4_nothing_is_removed_that_a_crash_could_take_for_a_hole_and_close() {
    let disk = MemoryDisk::new();
    let keep = Keep { age: Duration::MAX, size: 20 << 10 };
    let limits = SegmentLimits { size: 4 << 10, age: Duration::MAX };
    let config = LedgerConfig { file_size: 4 << 10, segment: limits, keep, ..config() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
    let new = crate::NewHold {
        name: "case 9".to_owned(),
        reason: "inquiry".to_owned(),
        range: crate::HoldRange::Indexes { first: 0, last: 0 },
        filter: Vec::new(),
    };
    ledger.hold(new, &Principal::workload("spiffe://example.org/auditor")).unwrap();
    let mut lane = ledger.lane(0);
    // From here on no file counts as closed.
    disk.fail_sync(true);
    let mut more = 0..;
    let turns = ledger.stats().writes;
    eventually("much was written", || {
        more.by_ref().take(20).for_each(|n| drop(lane.record(varied(n))));
        ledger.stats().writes > turns + 60
    });
    // Retention looks once a second.
    std::thread::sleep(Duration::from_millis(1_200));
    let crashed = disk.copy();
    let before = in_files(&crashed);
    recover(Path::new(DIR), &crashed, &testing::quarantine(&crashed)).unwrap();
    let after = in_files(&crashed);
    for (index, leaf) in &after {
        assert_eq!(before.get(index), Some(leaf), "another record has the index {index}");
    }
    // Once all is certain, retention goes on.
    disk.fail_sync(false);
    eventually("what is too much goes", || {
        more.by_ref().take(20).for_each(|n| drop(lane.record(varied(n))));
        ledger.stats().stored_bytes < 40 << 10
    });
}

#[test]
fn lg4_limits_that_change_while_the_ledger_runs_count_from_the_next_run_on() {
    let limits = SegmentLimits { size: 20 << 10, age: Duration::MAX };
    let config = LedgerConfig { file_size: 16 << 10, segment: limits, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..6_000 {
        lane.record(varied(n));
        if n % 200 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eventually("segments", || ledger.stats().segments > 3);
    assert_eq!(ledger.stats().first_index, 0, "30 days and 10 GiB");
    ledger.set_keep(Keep { age: Duration::MAX, size: 50 << 10 });
    eventually("the oldest go", || ledger.stats().first_index > 500);
}
