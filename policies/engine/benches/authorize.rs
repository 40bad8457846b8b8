//! How long a decision takes, ours beside stock Cedar in one process, over the fixed world of policy.md 17.
//! `just bench-policy` runs it. Ends with 1 when a single request is judged differently by the two.
//!
//! Method. 2,000 warm (principal, action, resource) triples with two calls each, asked in one shuffled order. One
//! operation is what `worker::Worker::judge` does, the record included. p50 is the median of batches of 100 operations
//! divided by 100; p99 is over operations timed one by one, less the median cost of reading the clock twice. Stock Cedar
//! gets the same requests over all policies and all entities: once with requests prebuilt, once building request and
//! context in the measured time; its policies and entities are always prebuilt.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "INVARIANT: a bench stops at the first surprise, reads the clock and prints"
)]

#[path = "authorize/calls.rs"]
mod calls;
#[path = "authorize/outcome.rs"]
mod outcome;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "authorize/worker.rs"]
mod worker;
#[path = "authorize/world.rs"]
mod world;

use calls::Ask;
use outcome::Options;
use policies_engine::{Engine, Evaluated, PolicySource, SchemaText, Snapshot, SnapshotInput};
use serde_json::{Value, json};
use std::{
    hint::black_box,
    process::ExitCode,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};
use support::judge::{self, Judge, Verdict};
use worker::{Worker, nanos};
use world::Topic;

const TRIPLES: usize = 2_000;
const BATCH: usize = 100;

fn main() -> ExitCode {
    let options = Options::read();
    let mut report = outcome::build();
    let mut different = 0;
    let mut sizes = Vec::new();
    for size in &options.sizes {
        let (row, differences) = measure(&options, *size);
        eprintln!("{row}");
        different += differences;
        sizes.push(row);
    }
    report.insert("sizes".to_owned(), sizes.into());
    let largest = options.sizes.iter().copied().max().unwrap_or_default();
    report.insert("fallback".to_owned(), fallback(largest));
    report.insert("changes".to_owned(), changes(largest));
    report.insert("threads".to_owned(), threads(&options, largest));
    println!("{}", Value::Object(report));
    if different > 0 {
        eprintln!("{different} requests are judged differently by stock Cedar");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn snapshot(policies: Vec<PolicySource>) -> Arc<Snapshot> {
    match Snapshot::compile(world::input(policies, world::entities())) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(found) => {
            found.iter().take(5).for_each(|finding| eprintln!("{finding}"));
            panic!("the policies of the generator do not compile");
        }
    }
}

fn topics(policies: &[(String, Topic)]) -> Vec<Topic> {
    policies.iter().map(|(_, topic)| *topic).collect()
}

fn judge(policies: &[(String, Topic)]) -> Judge {
    Judge::new(&SchemaText::default(), policies.iter().map(|(text, _)| text.as_str()), &world::entities())
}

/// One row of the table, and how many requests the two judge differently.
fn measure(options: &Options, size: usize) -> (Value, usize) {
    let policies = world::policies(size);
    let snapshot = snapshot(world::sources(&policies));
    let asks = calls::asks(&topics(&policies), TRIPLES, 41);
    let stock = judge(&policies);

    let mut worker = Worker::new(&snapshot);
    let first = asks.iter().map(|ask| timed(|| worker.judge(ask)));
    // Every triple is there twice; the second time it is not new.
    let mut seen = std::collections::HashSet::new();
    let first: Vec<u64> = asks
        .iter()
        .zip(first.collect::<Vec<_>>())
        .filter(|(ask, _)| seen.insert((ask.principal.clone(), ask.action, ask.resource.clone())))
        .map(|(_, took)| took)
        .collect();

    let (batches, each) = warm(&mut worker, &asks, options.times(400_000));
    let ways = [Evaluated::Constant, Evaluated::Compiled, Evaluated::Fallback];
    let mut reached = [0_usize; 3];
    let mut allowed = 0;
    for ask in &asks {
        let decision = worker.engine().decide(&ask.request(&*ask.call));
        allowed += usize::from(decision.is_allowed());
        reached[ways.iter().position(|way| *way == decision.evaluated).expect("one of three")] += 1;
    }
    let judged = options.times(asks.len());
    let different = differences(&snapshot, &stock, &asks[..judged]);

    let declared = &snapshot.versions().declared;
    let request = |ask: &Ask| judge::request(&ask.request(&*ask.call), declared);
    let answer =
        |request: &_| drop(black_box(stock.authorizer.is_authorized(request, &stock.live, &stock.entities)));
    let requests: Vec<_> = asks.iter().map(request).collect();
    let prebuilt = sampled(requests.len(), |at| answer(&requests[at]));
    let built = sampled(asks.len(), |at| answer(&request(&asks[at])));
    let row = json!({
        "policies": size,
        "ours": { "p50_ns": batches["p50_ns"], "p99_ns": each["p99_ns"], "p50_single_ns": each["p50_ns"] },
        "stock_prebuilt": spread(prebuilt),
        "stock_built": spread(built),
        "first": spread(first),
        "requests": asks.len(),
        "allowed": allowed,
        "evaluated": { "constant": reached[0], "compiled": reached[1], "fallback": reached[2] },
        "verified": judged,
        "different": different,
    });
    (row, different)
}

/// Batches and single operations over `count` calls each, plans warm.
fn warm(worker: &mut Worker, asks: &[Ask], count: usize) -> (Value, Value) {
    let round = |at: usize| &asks[at % asks.len()];
    let mut batches = Vec::with_capacity(count / BATCH);
    for batch in 0..count / BATCH {
        let took = timed(|| {
            for at in 0..BATCH {
                black_box(worker.judge(round(batch * BATCH + at)));
            }
        });
        batches.push(took / BATCH as u64);
    }
    let mut clock: Vec<u64> = (0..10_000).map(|_| timed(|| ())).collect();
    let overhead = percentile(&mut clock, 0.5);
    let each = (0..count).map(|at| timed(|| worker.judge(round(at))).saturating_sub(overhead)).collect();
    (spread(batches), spread(each))
}

/// Up to 2,000 samples, or two seconds of them.
fn sampled(end: usize, mut run: impl FnMut(usize)) -> Vec<u64> {
    let started = Instant::now();
    let mut took = Vec::new();
    while took.len() < 2_000 && started.elapsed() < Duration::from_secs(2) {
        let at = took.len() * 7 % end;
        took.push(timed(|| run(at)));
    }
    took
}

fn timed<T>(run: impl FnOnce() -> T) -> u64 {
    let before = Instant::now();
    black_box(run());
    nanos(before.elapsed())
}

/// Requests on which we and stock Cedar differ; the first five are printed.
fn differences(snapshot: &Arc<Snapshot>, stock: &Judge, asks: &[Ask]) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let judge = |part: &[Ask]| {
        let mut engine = Engine::new(Arc::clone(snapshot));
        let mut stock = stock.clone();
        let declared = &snapshot.versions().declared;
        let differs = |ask: &&Ask| {
            let request = ask.request(&*ask.call);
            let ours = Verdict::of(&engine.decide(&request));
            let theirs = stock.verdict(&request, declared);
            let differs = ours != theirs;
            assert_eq!(stock.fault(&request, declared), None, "the bench asks what the schema describes");
            if differs {
                eprintln!(
                    "{} {} {} {:?}\n ours  {ours:?}\n stock {theirs:?}",
                    ask.principal, ask.action, ask.resource, ask.call
                );
            }
            differs
        };
        part.iter().filter(differs).take(5).count()
    };
    thread::scope(|scope| {
        let parts = asks.chunks(asks.len().div_ceil(cores).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(|| judge(part))).collect();
        running.into_iter().map(|thread| thread.join().expect("the judge does not panic")).sum()
    })
}

/// A call with one policy in its slice that stock Cedar evaluates: record literals are not lowered (EN9).
fn fallback(size: usize) -> Value {
    let policies = world::policies(size);
    let slow = r#"@id("slow") permit (principal, action == Action::"grpc", resource in Service::"s-007") when { {tls: context.connection.tls} == {tls: 13} };"#;
    let mut sources = world::sources(&policies);
    sources.push(PolicySource::new("policies/slow.cedar", slow));
    let asks = calls::asks(&topics(&policies), TRIPLES, 43);
    let mut worker = Worker::new(&snapshot(sources));
    let is_slow = |worker: &mut Worker, ask: &Ask| {
        ask.resource.id().starts_with("shop.S007/")
            && worker.engine().decide(&ask.request(&*ask.call)).evaluated == Evaluated::Fallback
    };
    let asks: Vec<Ask> = asks.into_iter().filter(|ask| is_slow(&mut worker, ask)).collect();
    if asks.is_empty() {
        return Value::Null;
    }
    spread((0..5_000).map(|at| timed(|| worker.judge(&asks[at % asks.len()]))).collect())
}

/// Cold start, ten changed policies, ten changed entities; each from the input to the first decision.
fn changes(size: usize) -> Value {
    let policies = world::policies(size);
    let ask = calls::asks(&topics(&policies), 1, 47).swap_remove(0);
    let start = |previous: Option<&Arc<Snapshot>>, input: SnapshotInput| {
        let before = Instant::now();
        let compiled = Snapshot::compile_after(previous, input).map_err(|found| found.len());
        let snapshot = Arc::new(compiled.expect("it compiled before"));
        black_box(Engine::new(Arc::clone(&snapshot)).decide(&ask.request(&*ask.call)));
        (nanos(before.elapsed()), snapshot)
    };
    let input = |policies, entities| world::input(world::sources(policies), entities);
    let (cold, first) = start(None, input(&policies, world::entities()));
    let mut edited = policies.clone();
    let noted = |text: &str| format!("@owner(\"bench\")\n{text}");
    edited.iter_mut().step_by((size / 10).max(1)).for_each(|(text, _)| *text = noted(text));
    let mut moved = world::entities();
    moved.workloads.iter_mut().step_by(200).for_each(|workload| workload.groups.push("g-03".to_owned()));
    // Five of each; the median counts.
    let again = |input: &dyn Fn() -> SnapshotInput| {
        percentile(&mut (0..5).map(|_| start(Some(&first), input()).0).collect::<Vec<_>>(), 0.5)
    };
    json!({
        "policies": size,
        "cold_start_ns": cold,
        "ten_policies_ns": again(&|| input(&edited, world::entities())),
        "ten_entities_ns": again(&|| input(&policies, moved.clone())),
    })
}

/// Decisions a second of one worker, and of two with engines and calls of their own over one snapshot.
fn threads(options: &Options, size: usize) -> Value {
    let policies = world::policies(size);
    let snapshot = snapshot(world::sources(&policies));
    let run = |workers: usize| {
        let barrier = Barrier::new(workers);
        let rate = |salt: u64| {
            let asks = calls::asks(&topics(&policies), TRIPLES, salt);
            let mut worker = Worker::new(&snapshot);
            worker.warm(&asks);
            barrier.wait();
            let count = options.times(1_000_000);
            let before = Instant::now();
            for at in 0..count {
                black_box(worker.judge(&asks[at % asks.len()]));
            }
            count as f64 / before.elapsed().as_secs_f64()
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|at| scope.spawn(move || rate(51 + at as u64))).collect();
            running.into_iter().map(|thread| thread.join().expect("a worker does not panic")).sum::<f64>()
        })
    };
    let (one, two) = (run(1), run(2));
    json!({ "one_per_second": one as u64, "two_per_second": two as u64, "factor": two / one })
}

/// Value at that part of the sorted list.
fn percentile(values: &mut [u64], part: f64) -> u64 {
    values.sort_unstable();
    let at = ((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

fn spread(mut values: Vec<u64>) -> Value {
    json!({ "p50_ns": percentile(&mut values, 0.5), "p99_ns": percentile(&mut values, 0.99), "samples": values.len() })
}
