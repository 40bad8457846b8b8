//! Roll-ups against scans over the records, through crashes, damage and retention.

use std::sync::Arc;

use base_ports::{ManualClock, MemoryDisk, Rng, Survive, SystemRng};
use policies_engine::{Audit, Effect, Lane, Numbers, Principal, Reason, Resource, Versions, Would};
use serde_json::{Value, json};

use super::*;
use crate::{
    Caps, Keep, Ledger, LedgerConfig, SegmentLimits, Sight,
    aggregate::Grouping,
    archive::tests as archive,
    testing::{NOON, Namespaces, at, config, decision, eventually, open_with, query, versions},
};

/// The members that days are counted by.
const BY: [&str; 7] = ["policy", "would_policy", "principal", "resource", "service", "reason", "action"];

/// Who may read what: everything, one side of calls, the other, the trust domain.
const EYES: [&[&str]; 4] = [&["", "shop", "front", "books"], &["shop"], &["front"], &[""]];

/// Records that differ in all that is counted.
fn random(lane: &mut Box<dyn Lane>, count: usize, span: Duration) {
    let rng = SystemRng;
    let pick = |of: u64| rng.u64() % of;
    let homes = Arc::new(Versions {
        numbers: Numbers { epoch: 1, snapshot: 7, policies: 3 },
        homes: Arc::new(
            [("spiffe://example.org/w1", "front"), ("spiffe://example.org/w2", "books")]
                .into_iter()
                .collect(),
        ),
        ..versions()
    });
    for _ in 0..count {
        let effect = if pick(3) == 0 { Effect::Deny } else { Effect::Allow };
        let back = Duration::from_nanos(pick(u64::try_from(span.as_nanos()).unwrap()));
        let mut record = decision(effect, Audit::BestEffort, NOON - back);
        record.principal = Principal::workload(&format!("spiffe://example.org/w{}", pick(4)));
        record.versions = Some(Arc::clone(&homes));
        let route = Resource::route(&format!("r{}", pick(5)));
        record.resource = match pick(3) {
            0 => route,
            1 => route.within("orders", Some("shop")),
            _ => route.within("library", Some("books")),
        };
        record.determining = (0..pick(3)).map(|n| format!("p{}-{n}", pick(2)).into()).collect();
        if pick(4) == 0 {
            record.would = Some(Box::new(Would {
                effect: if pick(2) == 0 { Effect::Deny } else { Effect::Allow },
                reason: Reason::Forbid,
                determining: (0..pick(3)).map(|n| format!("q{n}").into()).collect(),
                errors: Vec::new(),
                version: None,
            }));
        }
        lane.record(record);
    }
}

fn clocked(disk: &MemoryDisk, config: LedgerConfig) -> (Ledger, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON));
    (open_with(config, Arc::new(disk.clone()), Arc::clone(&clock) as _).unwrap(), clock)
}

fn settled(ledger: &Ledger, records: u64) {
    let inner = ledger.inner();
    eventually("counted", || {
        let next = inner.shelf.next_index();
        next >= records && inner.rollups.through() == next
    });
}

const TWO_DAYS: Duration = Duration::from_secs(2 * 86_400);

fn reported(ledger: &Ledger, by: &str, eyes: &'static [&'static str], back: &str) -> Value {
    let words = Words { by, since: Some(back), ..Words::default() };
    let now = ledger.inner().clock.now();
    let question = Question::read(&words, now.wall).unwrap();
    let sight = Sight::new(Namespaces(eyes));
    ledger.report(&question, &sight, Caps::READER, now.mono).unwrap().to_json(&question).into()
}

/// The same by a scan over the records of the same days.
fn scanned(ledger: &Ledger, by: &str, eyes: &'static [&'static str]) -> Value {
    let (fields, bucket) = match by {
        "hour" => (Vec::new(), Some("1h")),
        "day" => (Vec::new(), Some("1d")),
        name => (vec![name.to_owned()], None),
    };
    let grouping = Grouping::read(&fields, bucket, None).unwrap();
    let pairs = [("kind", "decision"), ("since", "2026-11-01T00:00:00Z"), ("until", "2026-12-01T00:00:00Z")];
    let asked = query(&pairs, NOON).seen_by(Sight::new(Namespaces(eyes)), "r");
    let now = ledger.inner().clock.mono();
    ledger.aggregate(&asked, &grouping, Caps::READER, now).unwrap().to_json(&grouping).into()
}

#[track_caller]
fn agree(ledger: &Ledger) {
    for eyes in EYES {
        for by in BY.into_iter().chain(["hour", "day"]) {
            let (report, scan) = (reported(ledger, by, eyes, "5d"), scanned(ledger, by, eyes));
            assert_eq!(report["total"], scan["total"], "{by} {eyes:?}");
            assert_eq!(report["groups"], scan["groups"], "{by} {eyes:?}");
            assert!(report.get("partial").is_none() && report.get("other").is_none(), "{report}");
        }
    }
}

#[test]
fn qy5_reports_are_what_a_scan_over_the_records_counts_for_every_reader() {
    let disk = MemoryDisk::new();
    let (ledger, _) = clocked(&disk, config());
    let mut lane = ledger.lane(0);
    random(&mut lane, 700, TWO_DAYS);
    settled(&ledger, 701);
    agree(&ledger);
    // Closed and opened again: nothing twice, and what comes is added.
    ledger.close();
    drop(ledger);
    let (ledger, _) = clocked(&disk, config());
    let mut lane = ledger.lane(0);
    random(&mut lane, 300, TWO_DAYS);
    settled(&ledger, 1_002);
    agree(&ledger);
    assert_eq!(reported(&ledger, "day", EYES[0], "5d")["total"]["count"], 1_000);
}

/// What all days came to, without up to where they are counted.
fn days(rollups: &Rollups) -> Vec<(i64, Vec<u8>)> {
    let read = |day| {
        let counted = rollups.read(day).unwrap().unwrap().unwrap();
        (day, stored::encode(&Day { through: 0, ..counted }, day))
    };
    rollups.stored().unwrap().into_iter().map(read).collect()
}

#[test]
fn qy5_a_crash_at_any_step_loses_nothing_and_counts_nothing_twice() {
    let disk = MemoryDisk::new();
    let (ledger, clock) = clocked(&disk, LedgerConfig { file_size: 40_000, ..config() });
    let mut lane = ledger.lane(0);
    random(&mut lane, 500, TWO_DAYS);
    settled(&ledger, 501);
    ledger.close();
    let shelf = Arc::clone(&ledger.inner().shelf);
    let expected = days(&ledger.inner().rollups);
    assert!(expected.len() >= 2);
    let clock: Arc<dyn Clock> = clock;
    let started = |disk: &MemoryDisk| {
        let port: Arc<dyn Disk> = Arc::new(disk.clone());
        Counter::new("/again".into(), &port, &clock, &shelf, shelf.next_index()).unwrap()
    };
    let counted = |counter: &mut Counter| -> Result<(), LedgerError> {
        while counter.advance(90)? {
            counter.save()?;
        }
        counter.save()
    };
    let mut deaths = 0;
    for step in 0.. {
        let disk = disk.copy();
        let mut counter = started(&disk);
        disk.die_after(step);
        let outcome = counted(&mut counter);
        let is_whole = outcome.is_ok();
        disk.revive();
        disk.lose_power(match step % 3 {
            0 => Survive::Nothing,
            1 => Survive::Everything,
            _ => Survive::Sectors(step),
        });
        let mut counter = started(&disk);
        counted(&mut counter).unwrap();
        assert_eq!(days(&counter.rollups), expected, "death at step {step}");
        if is_whole {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 20, "{deaths}");
}

/// What days come to that have the first records of these.
fn counted(leaves: &[Vec<u8>], records: u64) -> Vec<(i64, Vec<u8>)> {
    let port: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOON));
    let shelf = Arc::new(Shelf::new(Vec::new(), Vec::new()));
    let mut counter = Counter::new("/plain".into(), &port, &clock, &shelf, 0).unwrap();
    for (index, leaf) in (0..records).zip(leaves) {
        counter.count(index, View::of(leaf).ok().as_ref()).unwrap();
    }
    counter.save().unwrap();
    days(&counter.rollups)
}

#[test]
fn qy5_the_archive_counts_what_it_packs_and_reads_it_once() {
    let leaves = archive::samples(1_100);
    let disk = archive::disk_with(&leaves, 1_100);
    let mut archive = archive::on(&disk, SegmentLimits::default()).unwrap();
    let file = archive.shelf.files()[0].clone();
    let before = disk.bytes_read(&file.path);
    archive.turn(false).unwrap();
    assert_eq!((archive.shelf.archived(), archive.counter.next), (1_024, 1_024));
    let read = disk.bytes_read(&file.path) - before;
    assert!(read <= file.len + (64 << 10), "{read} of {}", file.len);
    // What fills no block is read for it, when there is nothing else to do.
    archive.state.is_idle = true;
    archive.turn(false).unwrap();
    assert_eq!((archive.shelf.archived(), archive.counter.next), (1_024, 1_100));
    archive.turn(true).unwrap();
    assert_eq!(days(&archive.counter.rollups), counted(&leaves, 1_100));
}

#[test]
fn qy5_days_come_to_what_is_put_away_after_a_crash_at_any_step_of_the_archive() {
    let leaves = archive::samples(1_100);
    let base = archive::disk_with(&leaves, 150);
    let run = |disk: &MemoryDisk| -> Result<_, LedgerError> {
        let mut archive = archive::on(disk, archive::SMALL)?;
        archive.turn(false)?;
        // As every thirty seconds.
        archive.counter.save()?;
        archive.turn(true)?;
        Ok(archive)
    };
    let whole = base.copy();
    let before = whole.steps();
    run(&whole).unwrap();
    let (steps, mut resumed) = (whole.steps() - before, 0);
    for step in 0..=steps {
        let disk = base.copy();
        disk.die_after(step);
        drop(run(&disk));
        disk.lose_power([Survive::Nothing, Survive::Everything, Survive::Sectors(step)][step as usize % 3]);
        let done = run(&disk).unwrap();
        let (archived, next) = (done.shelf.archived(), done.counter.next);
        assert!(archived == 1_024 && next >= archived, "step {step} of {steps}: {next} of {archived}");
        assert_eq!(days(&done.counter.rollups), counted(&leaves, next), "step {step} of {steps}");
        resumed += u64::from(next > archived);
    }
    assert!(steps > 20 && resumed > 0, "{steps} steps, {resumed} with records put away and not counted");
}

#[test]
fn qy5_reports_outlive_the_records_and_days_go_after_four_hundred() {
    let disk = MemoryDisk::new();
    let segment = SegmentLimits { size: 1, ..SegmentLimits::default() };
    let keep = Keep { age: Duration::from_secs(3 * 86_400), size: u64::MAX };
    let (ledger, clock) = clocked(&disk, LedgerConfig { file_size: 20_000, segment, keep, ..config() });
    let mut lane = ledger.lane(0);
    random(&mut lane, 600, TWO_DAYS);
    settled(&ledger, 601);
    let before = reported(&ledger, "policy", EYES[0], "5d");
    clock.advance(Duration::from_secs(60 * 86_400));
    eventually("retention took records", || ledger.stats().first_index > 0);
    let after = reported(&ledger, "policy", EYES[0], "65d");
    assert_eq!((&before["groups"], &before["total"]), (&after["groups"], &after["total"]));
    assert_eq!(after["kept_since"], "2026-11-20");
    assert_eq!(after["total"]["count"], 600);

    clock.advance(Duration::from_secs(338 * 86_400));
    let left = || reported(&ledger, "day", EYES[0], "500d");
    eventually("the file of the first day went", || left()["kept_since"] != "2026-11-20");
    assert_eq!(left()["kept_since"], "2026-11-21");
}

#[test]
fn qy5_what_is_damaged_or_gone_is_told_with_its_day() {
    let disk = MemoryDisk::new();
    let (ledger, _) = clocked(&disk, config());
    random(&mut ledger.lane(0), 50, Duration::from_secs(3_600));
    settled(&ledger, 51);
    ledger.close();
    drop(ledger);
    let file = Path::new("/ledger/rollup/2026-11-22");
    disk.flip(file, 40, 3);
    let (ledger, _) = clocked(&disk, config());
    let report = || reported(&ledger, "policy", EYES[0], "5d");
    assert_eq!(report()["incomplete"], json!([{"day": "2026-11-22", "uncounted": null}]));
    random(&mut ledger.lane(0), 20, Duration::from_secs(3_600));
    settled(&ledger, 72);
    assert_eq!((&report()["total"]["count"], &report()["partial"]), (&json!(20), &json!(true)));
    assert!(disk.exists(Path::new("/ledger/rollup/2026-11-22.damaged")));

    // Records that are gone before they are counted.
    let inner = ledger.inner();
    let (port, clock): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), Arc::clone(&inner.clock));
    let empty = Arc::new(Shelf::new(Vec::new(), inner.shelf.files().iter().map(|f| (**f).clone()).collect()));
    let mut counter = Counter::new("/late".into(), &port, &clock, &empty, 72).unwrap();
    counter.next = 0;
    counter.miss(30).unwrap();
    counter.save().unwrap();
    let today = counter.rollups.read(day_of(NOON)).unwrap().unwrap().unwrap();
    assert_eq!((today.uncounted, counter.next), (30, 30));
}

#[test]
fn qy5_values_beyond_what_a_day_tells_apart_are_counted_together() {
    let mut day = Day::default();
    let mut leaf = Vec::new();
    for n in 0..(day::ROWS + 700) {
        leaf.clear();
        let name = format!("r{n}");
        crate::cbor::Writer::new(&mut leaf).int_map(|map| {
            map.key(0).uint(1);
            map.key(1).uint(1);
            map.key(4).int(NOON.as_nanos());
            map.key(14).text_map(|map| map.key("id").text(&name));
        });
        day.count(&View::of(&leaf).unwrap());
    }
    let bytes = stored::encode(&day, 7);
    let read = stored::decode(&bytes, 7).unwrap();
    assert_eq!(stored::encode(&read, 7), bytes);
    assert_eq!(read.rows, day.rows);
    let resources = read.homes[0].1.field(crate::aggregate::Field::Resource).unwrap();
    assert_eq!((resources.rows.len(), resources.other.count), (day::ROWS, 700));
    assert_eq!(read.homes[0].1.total().count, 10_700);
    assert!(stored::decode(&bytes, 8).is_err());
}

#[test]
fn a_damaged_day_is_refused() {
    let disk = MemoryDisk::new();
    let (ledger, _) = clocked(&disk, config());
    random(&mut ledger.lane(0), 40, Duration::from_secs(3_600));
    settled(&ledger, 41);
    ledger.close();
    let bytes = disk.read(Path::new("/ledger/rollup/2026-11-22")).unwrap();
    let day = day_of(at(0));
    assert!(stored::decode(&bytes, day).is_ok());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        assert!(stored::decode(&bad, day).is_err(), "byte {at}");
        assert!(stored::decode(&bytes[..at], day).is_err(), "cut at {at}");
    }
}
