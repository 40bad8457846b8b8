//! Tails give every record once, in order, from wherever they begin.

use std::{sync::Arc, time::Duration};

use base_ports::{MemoryDisk, SystemClock};
use policies_engine::{Audit, Effect};

use super::*;
use crate::{
    Keep, LedgerConfig,
    testing::{NOON, all, allow, config, decision, eventually, open, open_with, query, wait},
};

async fn record(tail: &mut Tail) -> StoredRecord {
    match tokio::time::timeout(Duration::from_secs(10), tail.next()).await.expect("in time").unwrap() {
        Some(TailItem::Record(record)) => *record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tail_from_an_index_gives_what_was_and_then_what_comes() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(0);
    (0..5).for_each(|_| drop(lane.record(allow())));
    eventually("written", || ledger.stats().next_index == 6);
    let mut tail = ledger.tail(Some(2), None);
    wait(async {
        for expected in 2..6 {
            assert_eq!(record(&mut tail).await.index, expected);
        }
        for expected in 6..40 {
            lane.record(allow());
            assert_eq!(record(&mut tail).await.index, expected);
        }
        assert_eq!(tail.position(), 40);
    });
}

#[test]
fn a_tail_without_an_index_begins_with_what_comes_and_filters() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(0);
    lane.record(decision(Effect::Deny, Audit::BestEffort, NOON));
    eventually("written", || ledger.stats().next_index == 2);
    let mut tail = ledger.tail(None, Some(&query(&[("effect", "deny")], NOON)));
    lane.record(allow());
    let (id, _) = lane.record(decision(Effect::Deny, Audit::BestEffort, NOON));
    wait(async { assert_eq!(record(&mut tail).await.id, id) });
}

#[test]
fn ra6_a_slow_reader_misses_nothing() {
    let config = LedgerConfig { file_size: 32_768, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let mut tail = ledger.tail(Some(0), None);
    // Far more batches than the broadcast holds.
    for _ in 0..600 {
        match lane.record(decision(Effect::Allow, Audit::Required, NOON)).1 {
            policies_engine::Receipt::Pending(pending) => wait(pending).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(ledger.stats().writes > 300);
    wait(async {
        for expected in 0..601 {
            assert_eq!(record(&mut tail).await.index, expected);
        }
    });
}

#[test]
fn ra6_what_retention_took_is_said_with_a_resync() {
    let config = LedgerConfig { file_size: 2_048, keep: Keep { size: 8_192, ..Keep::default() }, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    let now = base_ports::Clock::now(&SystemClock).wall;
    for _ in 0..60 {
        match lane.record(decision(Effect::Allow, Audit::Required, now)).1 {
            policies_engine::Receipt::Pending(pending) => wait(pending).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    // It may run again while the records are read.
    let mut first = 0;
    eventually("retention ran", || {
        first = all(&ledger).first().map_or(0, |record| record.index);
        first > 0
    });
    let mut tail = ledger.tail(Some(0), None);
    let item = wait(tail.next()).unwrap();
    assert!(matches!(item, Some(TailItem::Resync { next }) if next >= first), "{item:?}");
}

#[test]
fn a_tail_ends_when_the_ledger_closes() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut tail = ledger.tail(None, None);
    ledger.close();
    wait(async {
        for last in ["heartbeat", "stream_close"] {
            assert_eq!(record(&mut tail).await.kind.as_str(), last);
        }
        assert_eq!(tail.next().await.unwrap(), None);
    });
}
