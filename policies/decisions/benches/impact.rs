//! How fast recorded decisions are judged again: by the engine alone, and from the files of a ledger (policy IM2).
//!
//! `cargo bench -p policies-decisions --bench impact`. Prints decisions per second on one core and allocations per
//! decision; asserts nothing. 10,000 policies, 6,000 entities, half of the policies with conditions.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "INVARIANT: a bench is no part of the product; it prints, and stops when its own set-up is wrong"
)]

use std::alloc::System;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, MemoryDisk, SystemClock, SystemRng, UnixTime};
use policies_decisions::{Ledger, LedgerConfig, Query};
use policies_engine::impact::{Carried, Recorded, Replay};
use policies_engine::{
    Action, Audit, DecisionId, DecisionRecord, Engine, EntitySet, Facts, MethodEntity, Numbers, OwnedFacts,
    PolicySource, Principal, Receipt, Resource, SchemaText, ServiceEntity, Snapshot, SnapshotInput,
    WorkloadEntity,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const POLICIES: usize = 10_000;
const WORKLOADS: usize = 3_000;
const SERVICES: usize = 300;
const METHODS: usize = 8;
const CALLS: usize = 20_000;
const ENGINE: usize = 2_000_000;
const STORED: usize = 300_000;

/// One call, decoded.
struct Call {
    id: DecisionId,
    principal: Principal,
    resource: Resource,
    facts: OwnedFacts,
    reason: policies_engine::Reason,
    determining: Vec<String>,
}

fn caller(at: usize) -> String {
    format!("spiffe://example.org/w{}", at % WORKLOADS)
}

fn method(at: usize) -> String {
    format!("shop.S{}/M{}", at % SERVICES, at / SERVICES % METHODS)
}

fn entities() -> EntitySet {
    EntitySet {
        trust_domain: Some("example.org".into()),
        services: (0..SERVICES)
            .map(|at| ServiceEntity {
                name: format!("s{at}"),
                namespace: Some(format!("n{}", at % 20)),
                ..ServiceEntity::default()
            })
            .collect(),
        methods: (0..SERVICES * METHODS)
            .map(|at| MethodEntity {
                id: method(at),
                service: format!("s{}", at % SERVICES),
                ..MethodEntity::default()
            })
            .collect(),
        workloads: (0..WORKLOADS)
            .map(|at| WorkloadEntity {
                id: caller(at),
                namespace: Some(format!("n{}", at % 20)),
                groups: vec![format!("g{}", at % 50)],
                ..WorkloadEntity::default()
            })
            .collect(),
        ..EntitySet::default()
    }
}

/// `shift` moves who may do what, so that another set decides some calls otherwise.
fn snapshot(shift: usize) -> Arc<Snapshot> {
    let policy = |at: usize| {
        let who = caller((at + if at % 50 == 7 { shift } else { 0 }) * 7);
        let condition = match at % 4 {
            0 => "when { context.connection.mtls };",
            1 => {
                "when { context.request.headers has \"x-tenant\" && context.request.path like \"/shop.*\" };"
            }
            _ => ";",
        };
        let on = method(at);
        format!(
            "@id(\"p{at}\") permit (principal == Workload::\"{who}\", action == Action::\"grpc\", resource == Method::\"{on}\") {condition}"
        )
    };
    let lines: Vec<String> = (0..POLICIES).map(policy).collect();
    let mut policies = policies_engine::baseline();
    let files = lines.chunks(100).enumerate();
    policies.extend(files.map(|(at, lines)| PolicySource::new(format!("f{at}.cedar"), lines.join("\n"))));
    let input = SnapshotInput {
        numbers: Numbers { epoch: 1, snapshot: 1, policies: 1 },
        schema: SchemaText::default(),
        policies,
        entities: Arc::new(entities()),
        routes_digest: [0; 32],
    };
    Arc::new(Snapshot::compile(input).unwrap_or_else(|found| panic!("{}", found[0])))
}

fn calls(engine: &mut Engine, now: UnixTime) -> Vec<Call> {
    let call = |at: usize| {
        // Most callers do what they may, some what nobody permits.
        let policy = at % POLICIES;
        let principal = Principal::workload(&caller(policy * 7 + usize::from(at.is_multiple_of(10))));
        let resource = Resource::method(&method(policy)).within("s", Some("n"));
        let mut facts = OwnedFacts::assumed(Action::Grpc, &resource);
        if let Some(mut request) = facts.owned_request().cloned() {
            request.headers.insert("x-tenant".into(), vec!["blue".into()]);
            let (service, name) =
                method(policy).split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            facts =
                OwnedFacts::new(facts.connection().clone()).with_request(request).with_rpc(&service, &name);
        }
        (principal, resource, facts)
    };
    (0..CALLS)
        .map(|at| {
            let (principal, resource, facts) = call(at);
            let decision = engine.decide(&policies_engine::AccessRequest {
                principal: &principal,
                action: Action::Grpc,
                resource: &resource,
                facts: &facts,
                now,
                extra: None,
            });
            Call {
                id: DecisionId::new(1, 2, at as u64),
                principal,
                resource,
                facts,
                reason: decision.reason,
                determining: decision.determining.iter().map(ToString::to_string).collect(),
            }
        })
        .collect()
}

fn report(what: &str, count: u64, took: Duration, allocations: usize) {
    println!(
        "{what:<34} {:>10.0} decisions/s   {:>7.0} ns each   {:.2} allocations each",
        count as f64 / took.as_secs_f64(),
        took.as_nanos() as f64 / count as f64,
        allocations as f64 / count as f64
    );
}

fn engine_only(candidate: &Arc<Snapshot>, calls: &[Call], what: &str, now: UnixTime) {
    let clock = SystemClock;
    let declared = Arc::clone(&candidate.versions().declared);
    let determining: Vec<Vec<&str>> =
        calls.iter().map(|call| call.determining.iter().map(String::as_str).collect()).collect();
    let mut replay = Replay::new(Arc::clone(candidate));
    let mut run = |count: usize| {
        for at in 0..count {
            let call = &calls[at % CALLS];
            replay.see(&Recorded {
                id: call.id,
                principal: &call.principal,
                action: Action::Grpc,
                resource: &call.resource,
                facts: Some(&call.facts),
                now,
                reason: call.reason,
                determining: &determining[at % CALLS],
                carried: Carried { declared: Some(&declared), cut: &[] },
            });
        }
    };
    run(CALLS);
    let (region, start) = (Region::new(ALLOCATOR), clock.mono());
    run(ENGINE);
    let took = clock.mono().saturating_since(start);
    report(what, ENGINE as u64, took, region.change().allocations);
    let impact = replay.finish();
    println!(
        "    same {} newly denied {} newly allowed {} other reason {} undecided {}",
        impact.same, impact.allow_to_deny, impact.deny_to_allow, impact.reason_changed, impact.undecided
    );
}

fn fill(ledger: &Ledger, calls: &[Call], in_force: &Arc<Snapshot>) {
    let clock = SystemClock;
    let mut lane = ledger.lane(0);
    let facts: Vec<Arc<dyn Facts>> = calls.iter().map(|call| call.facts.clone().into()).collect();
    let mut at = 0;
    while at < STORED {
        let call = &calls[at % CALLS];
        let decision = policies_engine::Decision {
            reason: call.reason,
            determining: call.determining.iter().map(|id| Arc::from(id.as_str())).collect(),
            ..policies_engine::Decision::refusal(call.reason)
        };
        let mut record = DecisionRecord::new(
            decision,
            call.principal.clone(),
            Action::Grpc,
            call.resource.clone(),
            clock.now(),
        );
        record.audit = Audit::BestEffort;
        record.versions = Some(Arc::clone(in_force.versions()));
        record.facts = Some(Arc::clone(&facts[at % CALLS]));
        match lane.record(record).1 {
            Receipt::Lost => std::thread::sleep(Duration::from_millis(2)),
            _ => at += 1,
        }
    }
    std::thread::sleep(Duration::from_millis(300));
}

fn from_files(ledger: &Ledger, candidate: &Arc<Snapshot>) {
    let clock = SystemClock;
    let declared = Arc::clone(&candidate.versions().declared);
    let query = Query::parse(&[("since".to_owned(), "1d".to_owned())], clock.now().wall).unwrap();
    let mut principals: HashMap<String, Principal> = HashMap::new();
    let mut resources: HashMap<String, Resource> = HashMap::new();
    let mut replay = Replay::new(Arc::clone(candidate));
    for what in ["from files, first", "from files, plans known"] {
        let (region, start) = (Region::new(ALLOCATOR), clock.mono());
        let walked = ledger.walk(&query, |decided| {
            let (_, who) = decided.principal;
            let (_, on) = decided.resource;
            if !principals.contains_key(who) {
                principals.insert(who.to_owned(), Principal::workload(who));
            }
            if !resources.contains_key(on) {
                resources.insert(on.to_owned(), Resource::method(on));
            }
            let (Ok(action), Ok(reason)) = (decided.action.parse(), decided.reason.parse()) else {
                return ControlFlow::Continue(());
            };
            replay.see(&Recorded {
                id: decided.id,
                principal: &principals[who],
                action,
                resource: &resources[on],
                facts: decided.facts.as_ref().map(|facts| facts as &dyn Facts),
                now: decided.time,
                reason,
                determining: &decided.determining,
                carried: Carried { declared: Some(&declared), cut: &decided.cut },
            });
            ControlFlow::Continue(())
        });
        let took = clock.mono().saturating_since(start);
        let walked = walked.unwrap();
        report(what, walked.decisions, took, region.change().allocations);
    }
    println!("    ledger {} MiB", ledger.stats().bytes >> 20);
}

fn main() {
    let clock = SystemClock;
    let now = clock.now().wall;
    let (in_force, candidate) = (snapshot(0), snapshot(1));
    let calls = calls(&mut Engine::new(Arc::clone(&in_force)), now);
    println!(
        "{POLICIES} policies, {} entities, {CALLS} different calls",
        WORKLOADS + SERVICES * (METHODS + 2)
    );
    engine_only(&in_force, &calls, "engine only, nothing changes", now);
    engine_only(&candidate, &calls, "engine only, some change", now);
    let config = LedgerConfig::new("/ledger", "example.org", "spiffe://example.org/gateway", "gw-1");
    let disk = Arc::new(MemoryDisk::new());
    let ledger = Ledger::open(config, disk, Arc::new(SystemClock), &SystemRng).unwrap();
    fill(&ledger, &calls, &in_force);
    from_files(&ledger, &candidate);
    ledger.close();
}
