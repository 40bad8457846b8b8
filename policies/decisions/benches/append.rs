//! How fast a ledger takes records, what each costs in bytes and in CPU of each thread (decisions.md 17).
//!
//! `cargo bench -p policies-decisions --bench append -- --records 2000000 --lanes 2 --dir /somewhere`. Prints one line
//! per measure and asserts nothing. Traffic: 2,000 callers and 300 methods with a skew, one denial in a hundred, a trace
//! for each call unless `--no-trace`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "INVARIANT: a bench is no part of the product; it prints, and stops when its own set-up is wrong"
)]

#[path = "append/traffic.rs"]
mod traffic;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base_ports::{Clock, SystemClock, SystemDisk, SystemRng};
use policies_decisions::{Ledger, LedgerConfig, Query};
use policies_engine::Receipt;
use traffic::Traffic;

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// CPU of each thread so far, by name, in nanoseconds.
fn cpu() -> Vec<(String, u64)> {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mut used: Vec<_> = threads
        .filter_map(|thread| {
            let name = fs::read_to_string(thread.join("comm")).ok()?.trim().to_owned();
            let spent = fs::read_to_string(thread.join("schedstat")).ok()?;
            Some((name, spent.split_whitespace().next()?.parse().ok()?))
        })
        .collect();
    used.sort();
    used
}

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn main() {
    let number = |name: &str, default: u64| option(name).map_or(default, |value| value.parse().unwrap());
    let (records, lanes) = (number("--records", 1_000_000), number("--lanes", 1));
    let has_trace = !std::env::args().any(|argument| argument == "--no-trace");
    let dir = option("--dir").map_or_else(|| std::env::temp_dir().join("portcullis-append"), PathBuf::from);
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    let config = LedgerConfig::new(&dir, "example.org", "spiffe://example.org/gateway", "gw-1");
    let clock = Arc::new(SystemClock);
    let ledger = Ledger::open(config, Arc::new(SystemDisk), clock.clone(), &SystemRng).unwrap();
    let (start, lost) = (clock.mono(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for n in 0..lanes {
            let (ledger, lost) = (&ledger, &lost);
            let filler = move || {
                let (mut lane, mut traffic) = (ledger.lane(n as u16), Traffic::new(n, has_trace));
                for at in 0..records / lanes {
                    // A caller that is told no waits, as real ones do.
                    while let Receipt::Lost = lane.record(traffic.next()).1 {
                        lost.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    if at % 64 == 0 && ledger.stats().next_index + 12_000 * lanes < at * lanes {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
            };
            std::thread::Builder::new().name(format!("fill-{n}")).spawn_scoped(scope, filler).unwrap();
        }
    });
    while ledger.stats().next_index < records {
        std::thread::sleep(Duration::from_millis(1));
    }
    let filled = clock.mono().saturating_since(start).as_secs_f64();
    while ledger.stats().archived_index + 512 < records
        && clock.mono().saturating_since(start).as_secs() < 200
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let archived = clock.mono().saturating_since(start).as_secs_f64();
    let used = cpu();
    ledger.close();
    let stats = ledger.stats();
    println!(
        "records {} lanes {lanes} lost {} trace {has_trace}",
        stats.next_index,
        lost.load(Ordering::Relaxed)
    );
    println!(
        "written and synced {:.0} records/s, with the archive {:.0} records/s",
        records as f64 / filled,
        records as f64 / archived
    );
    let stored = size(&dir.join("seg"));
    println!(
        "leaf and footer {:.1} bytes per record in {} segments; write-ahead {:.1} bytes per record",
        stored as f64 / stats.archived_index as f64,
        stats.segments,
        stats.bytes as f64 / stats.records as f64
    );
    for (name, spent) in used.iter().filter(|(name, _)| name.starts_with("ledger")) {
        println!("{name} {:.2} us of CPU per record", *spent as f64 / 1_000.0 / records as f64);
    }
    println!("largest memory {} MiB", memory() / 1024);

    let again = clock.mono();
    let config = LedgerConfig::new(&dir, "example.org", "spiffe://example.org/gateway", "gw-1");
    drop(ledger);
    let ledger = Ledger::open(config, Arc::new(SystemDisk), clock.clone(), &SystemRng).unwrap();
    println!("opened in {:.1} ms", clock.mono().saturating_since(again).as_secs_f64() * 1_000.0);
    for filters in [
        &[("principal", "spiffe://example.org/ns/team-19/sa/client-1999")][..],
        &[("principal", "spiffe://example.org/ns/team-0/sa/client-0")],
        &[("effect", "deny")],
        &[("policy", "orders-299"), ("effect", "allow")],
        &[("trace", "00000000000000000000000000000000")],
    ] {
        let pairs: Vec<_> = filters.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let query = Query::parse(&pairs, clock.now().wall).unwrap();
        let before = clock.mono();
        let page = ledger.query(&query).unwrap();
        let spent = clock.mono().saturating_since(before).as_secs_f64() * 1_000.0;
        println!("{filters:?} {} rows in {spent:.1} ms", page.rows.len());
    }
    ledger.close();
    fs::remove_dir_all(&dir).unwrap();
}
