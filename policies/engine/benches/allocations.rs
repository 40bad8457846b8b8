//! What a decision allocates, and what policies, entities and plans hold, by a counting allocator. Apart from the times
//! of `authorize.rs`, because counting would slow stock Cedar down, which allocates thousands of times per request.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
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
use policies_engine::{SchemaText, Snapshot};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, sync::Arc};
use support::judge::{self, Judge, Verdict};
use worker::Worker;
use world::Topic;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let options = Options::read();
    let mut report = outcome::build();
    report.insert("sizes".to_owned(), options.sizes.iter().map(|size| per_call(&options, *size)).collect());
    let largest = options.sizes.iter().copied().max().unwrap_or_default();
    report.insert("memory".to_owned(), memory(largest));
    println!("{}", Value::Object(report));
}

/// Bytes that `make` leaves behind, and what it makes.
fn held<T>(make: impl FnOnce() -> T) -> (i64, T) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (change.bytes_allocated as i64 - change.bytes_deallocated as i64, made)
}

/// Allocations per warm call, ours and stock, over the same requests.
fn per_call(options: &Options, size: usize) -> Value {
    let policies = world::policies(size);
    let topics: Vec<_> = policies.iter().map(|(_, topic)| *topic).collect();
    let asks = calls::asks(&topics, 2_000, 41);
    let snapshot = snapshot(size);
    let mut worker = Worker::new(&snapshot);
    // Twice: a plan that is built lazily is whole, and the ring of records is full.
    for _ in 0..2 {
        worker.warm(&asks);
    }
    let mut worst = 0;
    let mut hits = 0;
    let region = Region::new(ALLOCATOR);
    for ask in &asks {
        let before = Region::new(ALLOCATOR);
        worker.judge(ask);
        let change = before.change();
        worst = worst.max(change.allocations + change.reallocations);
        hits += usize::from(change.allocations + change.reallocations > 0);
    }
    let change = region.change();
    let ours = (change.allocations + change.reallocations) as f64 / asks.len() as f64;

    let mut stock = judge(&policies);
    let declared = Arc::clone(&snapshot.versions().declared);
    let few = &asks[..options.times(20)];
    for ask in few {
        let request = ask.request(&*ask.call);
        let decision = worker.engine().decide(&request);
        assert_eq!(
            Verdict::of(&decision),
            stock.verdict(&request, &declared),
            "the same decisions are counted"
        );
        assert_eq!(stock.fault(&request, &declared), None, "the bench asks what the schema describes");
    }
    let request = |ask: &Ask| judge::request(&ask.request(&*ask.call), &declared);
    let answer = |request: &_| drop(stock.authorizer.is_authorized(request, &stock.live, &stock.entities));
    let requests: Vec<_> = few.iter().map(request).collect();
    let each = |change: stats_alloc::Stats| (change.allocations + change.reallocations) / few.len();
    let region = Region::new(ALLOCATOR);
    requests.iter().for_each(answer);
    let prebuilt = each(region.change());
    let region = Region::new(ALLOCATOR);
    few.iter().for_each(|ask| answer(&request(ask)));
    let built = each(region.change());
    json!({
        "policies": size, "ours": ours, "ours_worst": worst, "calls_that_allocate": hits, "calls": asks.len(),
        "stock_prebuilt": prebuilt, "stock_built": built,
    })
}

fn snapshot(size: usize) -> Arc<Snapshot> {
    let sources = world::sources(&world::policies(size));
    Arc::new(
        Snapshot::compile(world::input(sources, world::entities()))
            .expect("the generator's policies compile"),
    )
}

/// What stays allocated: the snapshot, and an engine with 20,000 plans.
fn memory(size: usize) -> Value {
    // Once before, so that what is made once per process is not counted.
    drop(snapshot(10));
    let (snapshot_bytes, snapshot) = held(|| snapshot(size));
    let topics: Vec<_> = world::policies(size).iter().map(|(_, topic)| *topic).collect();
    let asks = calls::asks(&topics, 20_000, 61);
    let (plan_bytes, mut worker) = held(|| {
        let mut worker = Worker::new(&snapshot);
        worker.warm(&asks);
        worker
    });
    json!({
        "policies": size, "snapshot_bytes": snapshot_bytes, "plans": worker.engine().plan_count(),
        "plans_bytes": plan_bytes, "stock_bytes": held(|| judge(&world::policies(size))).0,
    })
}

fn judge(policies: &[(String, Topic)]) -> Judge {
    Judge::new(&SchemaText::default(), policies.iter().map(|(text, _)| text.as_str()), &world::entities())
}
