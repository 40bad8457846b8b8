//! What the ledger does with a day's work: how fast it takes records for good, what they cost, how it opens after a crash,
//! how it finds and proves them; and the same records in sled. `just bench-ledger` runs it and gives PostgreSQL the same.
//!
//! `--records N` (2,000,000), `--peers N` (200,000: records for the others), `--dir DIR`. One JSON object is printed. A record
//! counts when it is synced, in groups of 50 ms, while checkpoints are signed. Files are in the page cache when they are
//! asked.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "INVARIANT: a bench is no part of the product; it reads the clock, prints, and stops at the first surprise"
)]

#[path = "ledger/peers.rs"]
mod peers;
#[path = "append/traffic.rs"]
mod traffic;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base_ports::{Clock, SystemClock, SystemDisk, SystemRng, UnixTime};
use policies_decisions::{
    Auditor, DirMaterial, Identities, Ledger, LedgerConfig, LogKeys, Query, VerifierKey, Vouched, verify,
};
use policies_engine::{Audit, DecisionId, Lane, Receipt};
use serde_json::{Value, json};
use traffic::Traffic;

const LANES: u64 = 2;

/// Ids that are looked up, and callers that are asked for.
const LOOKUPS: u64 = 1_000;
const RARE: &str = "spiffe://example.org/ns/team-19/sa/client-1999";
const COMMON: &str = "spiffe://example.org/ns/team-0/sa/client-0";

fn main() {
    let number = |name: &str, default: u64| option(name).map_or(default, |value| value.parse().unwrap());
    let (records, others) = (number("--records", 2_000_000), number("--peers", 200_000));
    let dir = option("--dir").map_or_else(|| std::env::temp_dir().join("portcullis-ledger"), PathBuf::from);
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    let (own, crashed) = (dir.join("ledger"), dir.join("crashed"));
    let ledger = open(&own);
    let fill_ns = fill(&ledger);
    let signed = checkpoints(&ledger);
    let (ids, rate) = load(&ledger, records);
    copy(&own, &crashed);
    while ledger.stats().archived_index + 256 < records {
        std::thread::sleep(Duration::from_millis(5));
    }
    let archived = Instant::now();
    while ledger.stats().tree_size < records {
        std::thread::sleep(Duration::from_millis(5));
        assert!(archived.elapsed() < Duration::from_secs(300), "the tree does not come to the end");
    }
    let cpu = cpu(ledger.stats().records);
    let memory = memory("VmHWM");
    ledger.close();
    let stats = ledger.stats();
    drop(ledger);
    let bytes = |part: &str| size(&own.join(part)) as f64 / stats.archived_index as f64;

    let begun = Instant::now();
    let after_crash = open(&crashed);
    let opening = begun.elapsed();
    let kept = after_crash.stats().next_index;
    after_crash.close();
    drop(after_crash);
    fs::remove_dir_all(&crashed).unwrap();

    let begun = Instant::now();
    let ledger = open(&own);
    let reopening = begun.elapsed();
    let lookups = times(
        ids.iter().map(|id| {
            let pattern = id.to_string().parse().unwrap();
            move |ledger: &Ledger| assert_eq!(ledger.get(&pattern).unwrap().id, *id)
        }),
        &ledger,
    );
    let by_caller = |who: &str| {
        let pairs = [("principal".to_owned(), who.to_owned()), ("since".to_owned(), "1d".to_owned())];
        let query = Query::parse(&pairs, SystemClock.now().wall).unwrap();
        let rows = ledger.query(&query).unwrap().rows.len();
        let query = &query;
        let spent =
            times((0..20).map(|_| move |ledger: &Ledger| drop(ledger.query(query).unwrap())), &ledger);
        json!({"rows": rows, "p50_ms": ms(spent[10]), "max_ms": ms(spent[19])})
    };
    let (rare, common) = (by_caller(RARE), by_caller(COMMON));
    let beside_readers = readers(&ledger);
    ledger.close();
    drop(ledger);

    let (verified, per_core) = verified(&own);
    let sled = peers::sled(&own, &dir, others);
    let copied = peers::table(&own, &dir, others);
    let report = json!({
        "records": stats.next_index, "lanes": LANES, "profile": profile(),
        "fill_ns": fill_ns, "checkpoint_ms": {"p50": ms(signed[signed.len() / 2]), "max": ms(signed[signed.len() - 1])},
        "durable_per_s": rate, "cpu_us": cpu,
        "bytes": {"leaf_and_index": bytes("seg"), "tiles": bytes("tile")},
        "memory_mib": memory / 1024,
        "after_a_crash": {"records": kept, "ms": ms(opening)}, "in_order_ms": ms(reopening),
        "get": {"p50_ms": ms(lookups[lookups.len() / 2]), "p99_ms": ms(lookups[lookups.len() * 99 / 100])},
        "by_principal": {"rare": rare, "common": common}, "readers": beside_readers,
        "verify": {"records": verified, "per_core_s": per_core},
        "sled": sled, "table": copied,
    });
    println!("{report}");
    if option("--keep").is_none() {
        fs::remove_dir_all(&own).unwrap();
    }
}

fn open(dir: &Path) -> Ledger {
    let mut config = LedgerConfig::new(dir, "example.org", "spiffe://example.org/gateway", "gw-1");
    config.signer = Some(Arc::new(LogKeys::from_seeds(&[[7; 32]]).unwrap()));
    Ledger::open(config, Arc::new(SystemDisk), Arc::new(SystemClock), &SystemRng).unwrap()
}

/// What a record costs on the worker: the median of batches, in nanoseconds, into a ring that has room.
fn fill(ledger: &Ledger) -> f64 {
    const BATCH: usize = 500;
    let (mut lane, mut traffic, mut spent) = (ledger.lane(40), Traffic::new(9, true), Vec::new());
    for _ in 0..40 {
        let batch: Vec<_> = (0..BATCH).map(|_| traffic.next()).collect();
        let begun = Instant::now();
        for record in batch {
            assert!(matches!(lane.record(record).1, Receipt::Taken));
        }
        spent.push(begun.elapsed().as_nanos() as f64 / BATCH as f64);
        std::thread::sleep(Duration::from_millis(20));
    }
    spent.sort_by(f64::total_cmp);
    spent[spent.len() / 2]
}

/// From a decision to a checkpoint that covers it, sorted.
fn checkpoints(ledger: &Ledger) -> Vec<Duration> {
    let (mut lane, mut traffic) = (ledger.lane(41), Traffic::new(8, true));
    let mut spent: Vec<_> = (0..10)
        .map(|n| {
            // Not in step with the second of the signer.
            std::thread::sleep(Duration::from_millis(137 * n % 900));
            let begun = Instant::now();
            durable(lane.as_mut(), &mut traffic);
            let written = ledger.stats().next_index;
            while ledger.stats().tree_size < written {
                std::thread::sleep(Duration::from_millis(1));
            }
            begun.elapsed()
        })
        .collect();
    spent.sort();
    spent
}

/// Puts one on record that is synced when this returns.
fn durable(lane: &mut dyn Lane, traffic: &mut Traffic) -> DecisionId {
    let mut record = traffic.next();
    record.audit = Audit::Durable;
    let (id, receipt) = lane.record(record);
    let Receipt::Pending(pending) = receipt else { panic!("it does not wait") };
    wait_for(pending).unwrap();
    id
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// So many records as fast as they are taken, the last of each lane durable: some of their ids, and how many a second.
fn load(ledger: &Ledger, records: u64) -> (Vec<DecisionId>, f64) {
    let (begun, before) = (Instant::now(), ledger.stats().next_index);
    let ids = std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..LANES)
            .map(|n| {
                scope.spawn(move || {
                    let (mut lane, mut traffic, mut ids) =
                        (ledger.lane(n as u16), Traffic::new(n, true), Vec::new());
                    let share = records / LANES;
                    for at in 0..share {
                        let id = loop {
                            // A caller that is told no waits, as real ones do.
                            match lane.record(traffic.next()) {
                                (_, Receipt::Lost) => std::thread::sleep(Duration::from_micros(200)),
                                (id, _) => break id,
                            }
                        };
                        if at % (share * LANES / LOOKUPS).max(1) == 0 {
                            ids.push(id);
                        }
                        if at % 64 == 0 && ledger.stats().next_index - before + 12_000 * LANES < at * LANES {
                            std::thread::sleep(Duration::from_micros(500));
                        }
                    }
                    ids.push(durable(lane.as_mut(), &mut traffic));
                    ids
                })
            })
            .collect();
        fillers.into_iter().flat_map(|filler| filler.join().unwrap()).collect()
    });
    (ids, (ledger.stats().next_index - before) as f64 / begun.elapsed().as_secs_f64())
}

/// How long each takes, sorted.
fn times<F: FnOnce(&Ledger)>(each: impl Iterator<Item = F>, ledger: &Ledger) -> Vec<Duration> {
    let timed = |ask: F| {
        let begun = Instant::now();
        ask(ledger);
        begun.elapsed()
    };
    let mut spent: Vec<_> = each.map(timed).collect();
    spent.sort();
    spent
}

/// How long durable records wait, alone and beside four questions that read everything; and what the questions need.
fn readers(ledger: &Ledger) -> Value {
    let everything =
        [("path~", "/nowhere"), ("since", "1d")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let query = &Query::parse(&everything, SystemClock.now().wall).unwrap();
    let wait = |lane: u16| {
        let (mut lane, mut traffic) = (ledger.lane(lane), Traffic::new(7, true));
        let mut spent: Vec<_> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                durable(lane.as_mut(), &mut traffic);
                begun.elapsed()
            })
            .collect();
        spent.sort();
        spent
    };
    let alone = wait(42);
    // Highest memory is counted from here.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    let done = &AtomicBool::new(false);
    let (beside, asked) = std::thread::scope(|scope| {
        let ask = move || {
            base_ports::give_way().unwrap();
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(ledger.query(query).unwrap().rows.is_empty());
                asked += 1;
            }
            asked
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let beside = wait(43);
        done.store(true, Ordering::Relaxed);
        (beside, asking.into_iter().map(|asking| asking.join().unwrap()).sum::<u64>())
    });
    json!({
        "durable_p99_ms": {"alone": ms(alone[197]), "beside": ms(beside[197])}, "asked": asked,
        "memory_mib": memory("VmHWM").saturating_sub(before) / 1024,
    })
}

/// Nobody vouches here: heartbeats are unsigned.
struct Nobody;

impl Identities for Nobody {
    fn is_anchored(&self) -> bool {
        false
    }

    fn check(&self, _: &Vouched<'_>) -> Result<(), String> {
        Ok(())
    }

    fn is_valid(&self, _: &[bytes::Bytes], _: UnixTime) -> bool {
        true
    }
}

/// How many records were verified, and how many that is per second of CPU.
fn verified(dir: &Path) -> (u64, f64) {
    use policies_decisions::Signer;
    let public = LogKeys::from_seeds(&[[7; 32]]).unwrap().public_keys()[0];
    let key = VerifierKey::new("example.org/decisions/main", public);
    let material = DirMaterial::open(dir, Arc::new(SystemDisk)).unwrap();
    let keys = std::slice::from_ref(&key);
    let auditor = Auditor { keys, since: None, identities: &Nobody, now: None, sample: (0, &SystemRng) };
    let before = spent_by("");
    let found = verify(&material, &auditor).unwrap();
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    (found.read, found.read as f64 / ((spent_by("") - before) as f64 / 1e9))
}

/// CPU of the threads whose name begins so, nanoseconds.
fn spent_by(name: &str) -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let of = |thread: PathBuf| {
        let is_it = fs::read_to_string(thread.join("comm")).ok()?.starts_with(name);
        let spent = fs::read_to_string(thread.join("schedstat")).ok()?;
        spent.split_whitespace().next()?.parse::<u64>().ok().filter(|_| is_it)
    };
    threads.filter_map(of).sum()
}

/// CPU of each thread of the ledger per record, microseconds.
fn cpu(records: u64) -> Value {
    let per = |name: &str| spent_by(name) as f64 / 1_000.0 / records as f64;
    json!({
        "writer": per("ledger-writer"), "keeper": per("ledger-keeper"), "archive": per("ledger-archive"),
        "tree": per("ledger-tree"), "check": per("ledger-check"),
    })
}

fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|known| known.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Bytes of all files below.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size(&entry.path()),
        false => entry.metadata().unwrap().len(),
    };
    entries.map(|entry| of(entry.unwrap())).sum()
}

/// The files as a crash would leave them at that moment.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        match entry.is_dir() {
            true => copy(&entry, &target),
            // One that is gone by now was not needed any more.
            false => drop(fs::copy(&entry, &target)),
        }
    }
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn profile() -> String {
    option("--profile").unwrap_or_else(|| "bench".to_owned())
}

fn ms(of: Duration) -> f64 {
    of.as_secs_f64() * 1_000.0
}
