//! DL3: the process is killed at random moments under load, again and again, in one directory.
//!
//! Each round starts this test binary again as a child, reads what it acknowledges, kills it, and opens what is
//! left: everything acknowledged must be there, and every other number it gave out must be stored or in a gap.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base_ports::{Clock, Rng, SystemClock, SystemDisk, SystemRng};
use policies_engine::{Audit, DecisionId, Effect, Receipt};

use super::{tests::assert_complete, *};
use crate::{
    Kind, SegmentLimits,
    testing::{all, config, decision, wait},
};

const DIR: &str = "PORTCULLIS_LEDGER_CRASH_DIR";
const ROUNDS: u32 = 12;

fn ledger(dir: &std::path::Path) -> Ledger {
    // Small files, so that rotation and moves into segments fall into the kills as well.
    let segment = SegmentLimits { size: 12 * 1024, ..SegmentLimits::default() };
    let config = LedgerConfig { dir: dir.to_owned(), file_size: 64 * 1024, segment, ..config() };
    Ledger::open(config, Arc::new(SystemDisk), Arc::new(SystemClock), &SystemRng).unwrap()
}

#[test]
fn dl3_a_killed_process_loses_nothing_acknowledged_and_declares_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut given, mut loaded) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::crash::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Load runs from the first line on. Every third round does not wait for it: the kill falls into the opening.
        let mut first = Vec::new();
        if round % 3 != 2 {
            while !lines.next().unwrap().unwrap().ends_with("go") {}
            // However busy the machine is.
            while first.iter().filter(|line: &&String| line.starts_with("ack")).count() < 7 {
                first.push(lines.next().unwrap().unwrap());
            }
            loaded += 1;
        }
        let reader = std::thread::spawn(move || {
            first.into_iter().chain(lines.map_while(Result::ok)).collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_micros(SystemRng.u64() % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // The last line may be cut off.
            if let Some((word, Ok(id))) =
                line.split_once(' ').map(|(word, id)| (word, id.parse::<DecisionId>()))
            {
                if word == "ack" {
                    acknowledged.insert(id)
                } else {
                    given.insert(id)
                };
            }
        }
        let ledger = ledger(dir.path());
        let records = all(&ledger);
        assert_complete(&records);
        assert!(records.iter().filter(|record| record.kind == Kind::RECOVERY).count() >= loaded);
        let stored: BTreeSet<_> = records.iter().map(|record| record.id).collect();
        let missing: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(missing.is_empty(), "round {round}: acknowledged and lost: {missing:?}");
        let gaps: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.body {
                Body::Gap(gap) => {
                    let stream = Stream { boot: gap.boot, lane: gap.lane, ..record.stream.clone() };
                    gap.range.map(|range| (stream_tag(&stream), range))
                }
                _ => None,
            })
            .collect();
        for id in given.difference(&stored) {
            let is_declared = gaps
                .iter()
                .any(|(tag, (first, last))| *tag == id.stream_tag() && (*first..=*last).contains(&id.seq()));
            assert!(is_declared, "round {round}: {id} was given out and is nowhere");
        }
        ledger.close();
    }
    assert!(acknowledged.len() > 50, "the load was real: {}", acknowledged.len());
}

/// The load. Only ever started by the test above.
#[test]
#[ignore = "the child of the crash test"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let ledger = ledger(std::path::Path::new(&dir));
    println!("go");
    let workers: Vec<_> = (0..3)
        .map(|n| {
            let mut lane = ledger.lane(n);
            std::thread::spawn(move || {
                for turn in 0_u32.. {
                    let audit = match turn % 8 {
                        0 => Audit::Durable,
                        1 | 2 => Audit::Required,
                        _ => Audit::BestEffort,
                    };
                    let time = SystemClock.now().wall;
                    let (id, receipt) = lane.record(decision(Effect::Allow, audit, time));
                    let is_acknowledged = match receipt {
                        Receipt::Pending(pending) => wait(pending).is_ok(),
                        Receipt::Taken | Receipt::Lost => false,
                    };
                    let word = if is_acknowledged { "ack" } else { "given" };
                    let mut out = io::stdout().lock();
                    writeln!(out, "{word} {id}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}
