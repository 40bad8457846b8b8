//! A known, constant plan costs no allocation. Alone in this binary, because it counts what the whole process allocates.

use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, Effect, Engine, EntitySet, MethodEntity, Numbers, OwnedFacts, PolicySource,
    Principal, Resource, SchemaText, ServiceEntity, Snapshot, SnapshotInput, baseline,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, sync::Arc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const POLICY: &str = r#"
@id("get") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource in RpcService::"shop.Orders");
@id("stop") forbid (principal == Workload::"spiffe://example.org/bad", action, resource);
"#;

#[test]
fn a_known_constant_plan_allocates_nothing() {
    let mut policies = baseline();
    policies.push(PolicySource::new("a.cedar", POLICY));
    let service = ServiceEntity { name: "orders".into(), ..ServiceEntity::default() };
    let method =
        MethodEntity { id: "shop.Orders/Get".into(), service: "orders".into(), ..MethodEntity::default() };
    let snapshot = Snapshot::compile(SnapshotInput {
        numbers: Numbers::default(),
        schema: SchemaText::default(),
        policies,
        entities: EntitySet { services: vec![service], methods: vec![method], ..EntitySet::default() }.into(),
        routes_digest: [0; 32],
    });
    let mut engine = Engine::new(Arc::new(snapshot.unwrap()));
    let resource = Resource::method("shop.Orders/Get");
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    for (name, effect) in [("web", Effect::Allow), ("bad", Effect::Deny), ("web", Effect::Allow)] {
        // Another handle of the same caller: equal, not identical.
        let principals = [0; 2].map(|_: i32| Principal::workload(&format!("spiffe://example.org/{name}")));
        let [first, again] = &principals;
        let mut decide = |principal: &Principal| {
            let now = UnixTime::from_secs(1_763_800_000);
            engine.decide(&AccessRequest {
                principal,
                action: Action::Grpc,
                resource: &resource,
                facts: &facts,
                now,
                extra: None,
            })
        };
        assert_eq!(decide(first).effect, effect);
        // The test harness may allocate beside us, so the best of several rounds counts.
        let least = (0..20).map(|_| {
            let region = Region::new(ALLOCATOR);
            let decision = decide(again);
            assert_eq!(decision.effect, effect);
            region.change().allocations
        });
        assert_eq!(least.min(), Some(0));
    }
}
