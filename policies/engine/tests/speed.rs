//! How long questions of people take at 10,000 policies and 6,000 workloads. Not run by default: the numbers mean
//! something in a release build alone. What one thread answers is measured in the time that thread had, so a busy machine
//! does not fail it; what several compile is measured by the clock on the wall. `cargo test --release -p policies-engine --test speed -- --ignored --nocapture`

#![expect(
    clippy::disallowed_methods,
    reason = "INVARIANT: a measurement reads the real clock and tells what it saw"
)]

#[cfg(test)]
mod measured {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use base_ports::UnixTime;
    use policies_engine::ask::{AskOptions, what_can, who_can};
    use policies_engine::explain::{RequestForExplain, TextOptions, explain};
    use policies_engine::{
        Action, EntitySet, MethodEntity, Numbers, OwnedFacts, PolicySource, Principal, Reason, Resource,
        RouteEntity, SchemaText, ServiceEntity, Snapshot, SnapshotInput, WorkloadEntity, baseline,
    };
    use rustix::time::{ClockId, clock_gettime};

    /// A build without optimisation only tries whether all works.
    const POLICIES: usize = if cfg!(debug_assertions) { 600 } else { 10_000 };
    const WORKLOADS: usize = if cfg!(debug_assertions) { 300 } else { 6_000 };
    const SERVICES: usize = 50;
    const METHODS: usize = 10;

    fn workload(n: usize) -> String {
        format!("spiffe://example.org/ns/team{}/w{n}", n % 100)
    }

    fn method(n: usize) -> String {
        format!("shop{}.Api/Call{}", n / METHODS % SERVICES, n % METHODS)
    }

    fn entities() -> EntitySet {
        let service = |n: usize| ServiceEntity {
            name: format!("shop{n}"),
            namespace: Some(format!("ns{}", n % 10)),
            ..ServiceEntity::default()
        };
        let known = |n: usize| WorkloadEntity {
            id: workload(n),
            namespace: Some(format!("ns{}", n % 10)),
            groups: vec![format!("team{}", n % 100)],
            labels: vec![("tier".to_owned(), format!("t{}", n % 3))],
            ..WorkloadEntity::default()
        };
        EntitySet {
            trust_domain: Some("example.org".to_owned()),
            services: (0..SERVICES).map(service).collect(),
            methods: (0..SERVICES * METHODS)
                .map(|n| MethodEntity {
                    id: method(n),
                    service: format!("shop{}", n / METHODS % SERVICES),
                    ..MethodEntity::default()
                })
                .collect(),
            routes: (0..20)
                .map(|n| RouteEntity {
                    name: format!("route{n}"),
                    service: format!("shop{n}"),
                    ..RouteEntity::default()
                })
                .collect(),
            workloads: (0..WORKLOADS).map(known).collect(),
            extra: None,
        }
    }

    /// The mix of the specification: most permits name a caller and a service, some read attributes, some forbid.
    fn policy(n: usize) -> String {
        let (who, service, what) = (workload(n * 7 % WORKLOADS), n % SERVICES, method(n * 3));
        match n % 20 {
            0..=10 => format!(
                "@id(\"p{n}\") permit (principal == Workload::\"{who}\", action in Action::\"call\", resource in Service::\"shop{service}\") when {{ context.connection.mtls }};"
            ),
            11..=14 => format!(
                "@id(\"p{n}\") permit (principal in Namespace::\"ns{}\", action == Action::\"grpc\", resource in Namespace::\"ns{}\") when {{ principal.hasTag(\"tier\") && principal.getTag(\"tier\") == \"t{}\" && context.time.minute > {} }};",
                n % 10,
                n / 20 % 10,
                n % 5,
                n % 1400
            ),
            15 | 16 => format!(
                "@id(\"p{n}\") @owner(\"team{}\") permit (principal in Group::\"team{}\", action == Action::\"grpc\", resource == Method::\"{what}\");",
                n % 100,
                n % 100
            ),
            17 | 18 => format!(
                "@id(\"p{n}\") @owner(\"net\") forbid (principal, action == Action::\"grpc\", resource == Method::\"{what}\") when {{ context.connection.source_ip.isInRange(ip(\"192.0.2.{}/32\")) }};",
                n % 250
            ),
            _ => format!(
                "@id(\"p{n}\") @owner(\"risk\") forbid (principal == Workload::\"{who}\", action, resource in Service::\"shop{service}\");"
            ),
        }
    }

    fn input(snapshot: u64, entities: &Arc<EntitySet>, changed: usize) -> SnapshotInput {
        let mut policies = baseline();
        for file in 0..POLICIES / 100 {
            let text: String = (file * 100..(file + 1) * 100)
                .map(|n| policy(if n < changed { n + POLICIES } else { n }) + "\n")
                .collect();
            policies.push(PolicySource::new(format!("policies/{file:03}.cedar"), text));
        }
        SnapshotInput {
            numbers: Numbers { epoch: 1, snapshot, policies: snapshot },
            schema: SchemaText::default(),
            policies,
            entities: Arc::clone(entities),
            routes_digest: [0; 32],
        }
    }

    fn compiled(previous: Option<&Arc<Snapshot>>, input: SnapshotInput) -> Arc<Snapshot> {
        Arc::new(Snapshot::compile_after(previous, input).unwrap_or_else(|found| panic!("{}", found[0])))
    }

    fn question(n: usize) -> RequestForExplain {
        let resource = Resource::method(&method(n * 13)).within("shop", None);
        RequestForExplain {
            principal: Principal::workload(&workload(n * 31 % WORKLOADS)),
            action: Action::Grpc,
            facts: OwnedFacts::assumed(Action::Grpc, &resource),
            resource,
            now: UnixTime::parse_rfc3339("2026-11-22T12:00:00Z").unwrap(),
            extra: None,
            recorded: None,
        }
    }

    /// What this thread took of a processor to do it.
    fn worked<T>(work: impl FnOnce() -> T) -> (T, Duration) {
        let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let begun = now();
        let done = work();
        (done, now() - begun)
    }

    fn told(what: &str, mut times: Vec<Duration>) -> Duration {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        println!("{what}: p50 {:?}, p99 {:?}, max {:?} of {}", at(50), at(99), at(100), times.len());
        at(99)
    }

    #[test]
    #[ignore = "a measurement; run it in release"]
    fn ex6_explanations_and_questions_are_quick_at_ten_thousand_policies() {
        let entities = Arc::new(entities());
        let begun = Instant::now();
        let snapshot = compiled(None, input(1, &entities, 0));
        println!("cold compile of {}: {:?}", snapshot.policy_count(), begun.elapsed());

        let mut reasons = [0; 3];
        let times = (0..1_000).map(|n| {
            let question = question(n);
            let options = TextOptions { all: true, ..TextOptions::default() };
            let ((explained, text), took) = worked(|| {
                let explained = explain(&snapshot, &question);
                let text = explained.to_text(&question, &snapshot, &options);
                (explained, text)
            });
            assert!(text.contains(" why    "));
            reasons[match explained.reason {
                Reason::NoPermit => 0,
                Reason::Permit => 1,
                _ => 2,
            }] += 1;
            took
        });
        let explains = told("explain", times.collect());
        println!("no permit, permit, others: {reasons:?}");
        assert!(reasons[0] > 100 && reasons[1] > 10, "the mix decides nothing: {reasons:?}");

        // A version no longer in force: what it shares with the one in force is not compiled again.
        let times = (2..7).map(|version| {
            let begun = Instant::now();
            let retired = compiled(Some(&snapshot), input(version, &entities, 10));
            let question = question(version as usize);
            let text = explain(&retired, &question).to_text(&question, &retired, &TextOptions::default());
            assert!(text.contains(&format!("policies v{version}")));
            begun.elapsed()
        });
        let retired = told("explain of a retired version", times.collect());

        let options = AskOptions { now: question(0).now, limit: 100, after: None };
        let times = (0..10).map(|n| {
            let resource = Resource::method(&method(n * 41));
            let (answers, took) = worked(|| who_can(&snapshot, Action::Grpc, &resource, &options).unwrap());
            assert!(answers.counts.allow + answers.counts.depends > 0, "{:?}", answers.counts);
            assert!(answers.counts.allow + answers.counts.depends + answers.counts.deny > WORKLOADS);
            took
        });
        let who = told("who-can", times.collect());
        let times = (0..10).map(|n| {
            let caller = Principal::workload(&workload(n * 17));
            let (answers, took) = worked(|| what_can(&snapshot, &caller, None, &options));
            assert!(answers.counts.allow + answers.counts.depends > 0, "{:?}", answers.counts);
            took
        });
        told("what-can", times.collect());
        if cfg!(not(debug_assertions)) {
            assert!(explains < Duration::from_millis(200), "explain p99 {explains:?}");
            assert!(retired < Duration::from_millis(200), "explain of a retired version p99 {retired:?}");
            assert!(who < Duration::from_secs(1), "who-can p99 {who:?}");
        }
    }
}
