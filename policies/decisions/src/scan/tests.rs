//! Listings: filters, order, paging without skip or repeat, damage and budgets that are said aloud.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base_ports::{ManualClock, MemoryDisk, Mono, Now, SystemClock, UnixTime};
use policies_engine::{
    Action, Audit, DecisionRecord, Effect, Lane, OwnedFacts, OwnedRequest, Principal, Reason, Receipt,
    Resource, Trace, Versions,
};

use base_ports::Clock;

use super::*;
use crate::{
    LedgerConfig,
    frame::Frames,
    testing::{
        NOON, all, allow, at, clock, config, decision, eventually, example, open, open_with, pattern, query,
        versions,
    },
};

fn write(lane: &mut dyn Lane, record: DecisionRecord) -> DecisionId {
    let (id, receipt) = lane.record(record);
    assert!(!matches!(receipt, Receipt::Lost));
    id
}

fn written(ledger: &Ledger, ids: &[DecisionId]) {
    eventually("written", || {
        let stored: BTreeSet<_> = all(ledger).iter().map(|record| record.id).collect();
        ids.iter().all(|id| stored.contains(id))
    });
}

fn ids(page: &Page) -> Vec<DecisionId> {
    page.rows.iter().map(|row| row.id).collect()
}

#[test]
fn qy1_every_filter_selects_what_it_says() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let mut other = allow();
    other.principal = Principal::workload("spiffe://example.org/other");
    other.action = Action::HttpDelete;
    other.resource = Resource::route("carts/one").within("carts", None);
    other.determining = ["carts-write".into()].into();
    other.versions = Some(Arc::new(Versions {
        numbers: policies_engine::Numbers { epoch: 1, snapshot: 2, policies: 7 },
        tickets: Arc::new([("carts-write".into(), "SEC-12".into())].into()),
        ..versions()
    }));
    other.trace = Some(Trace { trace_id: [0xab; 16], span_id: [0; 8] });
    let request = OwnedRequest { path: "/carts/%2e/x".to_owned(), ..OwnedRequest::default() };
    other.facts = Some(OwnedFacts::local("l").with_request(request).into());
    let mut observed = allow();
    observed.reason = Reason::Forbid;
    observed.would = Some(Box::new(policies_engine::Would {
        effect: Effect::Deny,
        reason: Reason::Forbid,
        determining: ["shadow".into()].into(),
        errors: Vec::new(),
        version: None,
    }));
    observed.principal = Principal::anonymous();
    let denied = write(&mut *lane, example());
    let other = write(&mut *lane, other);
    let observed = write(&mut *lane, observed);
    written(&ledger, &[denied, other, observed]);

    let found = |name: &str, value: &str| {
        let page = ledger.query(&query(&[(name, value), ("kind", "decision")], NOON)).unwrap();
        assert!(page.damaged.is_empty() && page.partial.is_none());
        ids(&page).into_iter().collect::<BTreeSet<_>>()
    };
    let set = |ids: &[DecisionId]| ids.iter().copied().collect::<BTreeSet<_>>();
    for (name, value, expected) in [
        ("effect", "deny", &[denied][..]),
        ("effect", "allow", &[other, observed]),
        ("would", "deny", &[observed]),
        ("would", "allow", &[]),
        ("principal", "spiffe://example.org/web", &[denied]),
        ("principal", "spiffe://example.org/we", &[]),
        ("principal", "prefix:spiffe://example.org/", &[denied, other]),
        ("principal", "anonymous", &[observed]),
        ("service", "carts", &[other]),
        ("namespace", "shop", &[denied]),
        ("namespace", "prefix:", &[denied]),
        ("namespace", "sho", &[]),
        ("ticket", "SEC-12", &[other]),
        ("ticket", "SEC-1", &[]),
        ("source_ip", "10.0.0.0/8", &[denied]),
        ("source_ip", "127.0.0.1", &[other]),
        ("source_ip", "10.0.0.8", &[]),
        ("serial", "5b0c", &[denied]),
        ("serial", "5b", &[]),
        ("action", "grpc", &[denied]),
        ("action", "prefix:http:", &[other, observed]),
        ("resource", "shop.Orders/", &[denied]),
        ("resource", "carts", &[other]),
        ("policy", "carts-write", &[other]),
        ("policy", "shadow", &[observed]),
        ("policy", "carts", &[]),
        ("reason", "no_permit", &[denied]),
        ("reason", "forbid", &[observed]),
        ("version", "41", &[denied]),
        ("version", "v7-40", &[other]),
        ("version", "7-", &[denied, other]),
        ("enforcer", "spiffe://example.org/gateway", &[denied, other, observed]),
        ("enforcer", "spiffe://example.org/gatewa", &[]),
        ("path~", "%2e", &[other]),
        ("path~", "Orders", &[denied]),
        ("trace", "abababababababababababababababab", &[other]),
    ] {
        assert_eq!(found(name, value), set(expected), "{name}={value}");
    }
    let page = ledger.query(&query(&[("kind", "stream_open")], NOON)).unwrap();
    assert_eq!(page.rows.len(), 1);
}

#[test]
fn qy2_rows_come_by_time_then_index_both_ways() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lanes = [ledger.lane(0), ledger.lane(1)];
    let mut made = Vec::new();
    for secs in [-5, -9, -5, -1, -9, -3] {
        for lane in &mut lanes {
            made.push(write(&mut **lane, decision(Effect::Allow, Audit::BestEffort, at(secs))));
        }
    }
    written(&ledger, &made);
    let rows = |order| {
        let page = ledger.query(&query(&[("order", order), ("kind", "decision")], NOON)).unwrap();
        page.rows.iter().map(|row| (row.time, row.index)).collect::<Vec<_>>()
    };
    let mut expected: Vec<_> =
        all(&ledger).iter().filter(|r| r.decision().is_some()).map(|r| (r.time, r.index)).collect();
    expected.sort_unstable();
    assert_eq!(expected.len(), 12);
    assert_eq!(rows("asc"), expected);
    expected.reverse();
    assert_eq!(rows("desc"), expected);

    let since =
        |value: &str| query(&[("since", value), ("until", &at(-3).to_string()), ("kind", "decision")], NOON);
    let page = ledger.query(&since(&at(-5).to_string())).unwrap();
    assert_eq!(
        page.rows.iter().map(|row| row.time).collect::<BTreeSet<_>>(),
        BTreeSet::from([at(-5), at(-3)])
    );
}

#[test]
fn qy2_paging_neither_skips_nor_repeats_while_records_are_written() {
    let config = LedgerConfig { file_size: 16_384, ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let now = SystemClock.now().wall;
    let mut lane = ledger.lane(0);
    let existing: Vec<_> = (0..400)
        .map(|n| {
            let time = now - Duration::from_millis(n * 7 % 50);
            // A write each, so that there are several files.
            let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, time));
            if let Receipt::Pending(pending) = receipt {
                crate::testing::wait(pending).unwrap();
            }
            id
        })
        .collect();
    assert!(ledger.inner().shelf.volumes().len() > 2);

    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (mut lane, stop) = (ledger.lane(1), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                lane.record(decision(Effect::Allow, Audit::BestEffort, SystemClock.now().wall));
                std::thread::sleep(Duration::from_micros(300));
            }
        })
    };
    for order in ["desc", "asc"] {
        let pairs = [("order", order), ("limit", "37"), ("kind", "decision")];
        let mut seen = Vec::new();
        let mut question = query(&pairs, now + Duration::from_secs(1));
        while let Ok(page) = ledger.query(&question) {
            assert!(page.rows.len() <= 37);
            seen.extend(page.rows.iter().map(|row| (row.time, row.index, row.id)));
            match page.next_cursor {
                // The page after may ask for another size.
                Some(cursor) if seen.len() < 4_000 => {
                    question =
                        ledger.resume(query(&[pairs[0], pairs[2], ("limit", "11")], now), &cursor).unwrap();
                }
                _ => break,
            }
        }
        let ids: Vec<_> = seen.iter().map(|(_, _, id)| *id).collect();
        let distinct: BTreeSet<_> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "{order}: a row came twice");
        assert!(existing.iter().all(|id| distinct.contains(id)), "{order}: a row was skipped");
        let places: Vec<_> = seen.iter().map(|(time, index, _)| (*time, *index)).collect();
        assert!(places.is_sorted_by(|a, b| if order == "asc" { a < b } else { a > b }));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn the_last_page_has_no_cursor() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let made: Vec<_> = (0..4).map(|_| write(&mut *lane, allow())).collect();
    written(&ledger, &made);
    let page = |limit: &str| ledger.query(&query(&[("limit", limit), ("kind", "decision")], NOON)).unwrap();
    assert!(page("3").next_cursor.is_some());
    assert_eq!((page("4").next_cursor, page("4").rows.len()), (None, 4));
    assert_eq!(page("5").next_cursor, None);
}

/// A clock that stands still until it is told to rush: then every reading is six seconds after the one before.
#[derive(Debug, Default)]
struct Rushing {
    step: std::sync::atomic::AtomicU64,
    mono: std::sync::atomic::AtomicU64,
}

impl Clock for Rushing {
    fn now(&self) -> Now {
        let step = self.step.load(std::sync::atomic::Ordering::Relaxed);
        let reading = self.mono.fetch_add(step, std::sync::atomic::Ordering::Relaxed);
        Now { wall: NOON, mono: Mono::from_nanos(reading) }
    }
}

#[test]
fn qy3_a_query_over_its_budget_answers_what_is_certain_and_goes_on_by_cursor() {
    let config = LedgerConfig { file_size: 2_048, ..config() };
    let clock = Arc::new(Rushing::default());
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), clock.clone()).unwrap();
    let mut lane = ledger.lane(0);
    let mut made = BTreeSet::new();
    for n in 0..60 {
        // Neighbouring files overlap in time.
        let time = at(-600 + n * 3 + if n % 2 == 0 { 20 } else { 0 });
        let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, time));
        if let Receipt::Pending(pending) = receipt {
            crate::testing::wait(pending).unwrap();
        }
        made.insert(id);
    }
    assert!(ledger.inner().shelf.files().len() > 5);
    ledger.close();
    clock.step.store(6_000_000_000, std::sync::atomic::Ordering::Relaxed);
    for order in ["desc", "asc"] {
        let pairs = [("order", order), ("kind", "decision"), ("limit", "1000")];
        let mut question = query(&pairs, NOON);
        let (mut seen, mut partial) = (Vec::new(), 0);
        loop {
            let page = ledger.query(&question).unwrap();
            seen.extend(page.rows.iter().map(|row| (row.time, row.index, row.id)));
            partial += u32::from(page.partial.is_some());
            assert!(partial < 100, "no progress");
            match page.next_cursor {
                Some(cursor) => question = ledger.resume(query(&pairs, NOON), &cursor).unwrap(),
                None => break,
            }
        }
        assert!(partial > 1, "{order}: {partial}");
        assert!(seen.is_sorted_by(|a, b| if order == "asc" { a < b } else { a > b }));
        assert_eq!(seen.iter().map(|(_, _, id)| *id).collect::<BTreeSet<_>>(), made);
        assert_eq!(seen.len(), made.len());
    }
}

#[test]
fn damage_is_part_of_the_answer() {
    let disk = MemoryDisk::new();
    let ledger = open_with(config(), Arc::new(disk.clone()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let made: Vec<_> = (0..6).map(|_| write(&mut *lane, allow())).collect();
    written(&ledger, &made);
    let file = ledger.inner().shelf.files()[0].clone();
    let bytes = disk.read(&file.path).unwrap();
    let mut frames = Frames::of_file(&bytes);
    frames.by_ref().take(3).for_each(|frame| assert!(frame.is_ok()));
    disk.flip(&file.path, frames.offset() + 30, 0);
    let page = ledger.query(&query(&[], NOON)).unwrap();
    assert_eq!(page.rows.len(), 3);
    let problem = format!("frames are damaged: byte {}: frame checksum is wrong", frames.offset());
    assert_eq!(page.damaged, [Damage { file: file.path.clone(), first: 3, last: 6, problem }]);
    assert_eq!(ledger.stats().damaged, 1);
}

#[test]
fn an_id_is_found_whole_and_abbreviated_and_an_ambiguous_one_is_listed() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let mut lane = ledger.lane(0);
    let made: Vec<_> =
        (0..40).map(|n| write(&mut *lane, decision(Effect::Allow, Audit::BestEffort, at(n)))).collect();
    written(&ledger, &made);
    let text = made[7].to_string();
    let abbreviated = |start: usize, end: usize| {
        format!("{}..{}", text.get(..start).unwrap(), text.get(26 - end..).unwrap())
    };
    for short in [text.clone(), text.to_lowercase(), abbreviated(10, 2)] {
        assert_eq!(ledger.get(&pattern(&short)).unwrap().id, made[7], "{short}");
    }
    // The last characters are the number in the lane: 8 and 40 differ, the first six of all are the same.
    match ledger.get(&pattern(&abbreviated(6, 0))) {
        Err(GetError::Ambiguous { candidates, .. }) => {
            assert_eq!(candidates.len(), 16);
            assert!(candidates.iter().all(|id| id.to_string().starts_with(text.get(..6).unwrap())));
        }
        other => panic!("{other:?}"),
    }
    let absent = DecisionId::new(made[7].millis(), made[7].stream_tag(), 4_000_000);
    assert!(matches!(ledger.get(&pattern(&absent.to_string())), Err(GetError::NotFound(_))));
    let other_time = DecisionId::new(1, made[7].stream_tag(), 8);
    assert!(matches!(ledger.get(&pattern(&other_time.to_string())), Err(GetError::NotFound(_))));
}

#[test]
fn an_id_that_retention_removed_is_told_from_one_that_never_was() {
    let disk = MemoryDisk::new();
    let keep = crate::Keep { size: 8_192, ..crate::Keep::default() };
    let config = LedgerConfig { file_size: 2_048, keep, ..config() };
    let manual = Arc::new(ManualClock::new(NOON));
    let ledger = open_with(config, Arc::new(disk), manual.clone()).unwrap();
    let mut lane = ledger.lane(0);
    let mut made = Vec::new();
    for n in 0..60 {
        manual.set_wall(at(n));
        let (id, receipt) = lane.record(decision(Effect::Allow, Audit::Required, at(n)));
        if let Receipt::Pending(pending) = receipt {
            crate::testing::wait(pending).unwrap();
        }
        made.push(id);
    }
    eventually("retention ran", || ledger.stats().first_index > 5);
    assert!(
        matches!(ledger.get(&pattern(&made[0].to_string())), Err(GetError::Retired { first_index, .. }) if first_index > 5)
    );
    assert_eq!(ledger.get(&pattern(&made[59].to_string())).unwrap().id, made[59]);
}

#[test]
fn times_before_1970_are_found() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let id = write(&mut *lane, decision(Effect::Allow, Audit::BestEffort, UnixTime::from_secs(-5)));
    written(&ledger, &[id]);
    assert_eq!(id.millis(), 0);
    assert_eq!(ledger.get(&pattern(&id.to_string())).unwrap().time, UnixTime::from_secs(-5));
}
