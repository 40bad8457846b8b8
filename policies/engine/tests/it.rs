//! A known plan costs no allocation. Alone in this binary, because it counts what the whole process allocates.

use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, Effect, Engine, EntitySet, Evaluated, MethodEntity, Numbers, OwnedFacts,
    PolicySource, Principal, Resource, SchemaText, ServiceEntity, Snapshot, SnapshotInput, baseline,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, sync::Arc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const POLICY: &str = r#"
@id("get") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource in RpcService::"shop.Orders");
@id("stop") forbid (principal == Workload::"spiffe://example.org/bad", action, resource);
@id("near") permit (principal in TrustDomain::"example.org", action == Action::"grpc", resource) when {
  context.connection.source_ip.isInRange(ip("127.0.0.0/8")) && context.request.path like "/shop.*" &&
  context.request.segments has "1" && context.request.segments["1"] == "Get" && principal.path != "/else" && context.time.weekday < 8 &&
  !(context.request.headers has origin && context.request.headers.origin.contains("x"))
};
@id("later") @mode("shadow") forbid (principal, action == Action::"grpc", resource) when { context.connection.tls < 13 };
"#;

#[test]
fn a_known_plan_allocates_nothing() {
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
    let allow = (Effect::Allow, Evaluated::Compiled);
    // Of the last no policy and no entity knows, so it shares its plan with all of its trust domain.
    for (name, wanted) in
        [("web", allow), ("bad", (Effect::Deny, Evaluated::Compiled)), ("new", allow), ("web", allow)]
    {
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
        let decision = decide(first);
        assert_eq!((decision.effect, decision.evaluated), wanted, "{name}");
        // The test harness may allocate beside us, so the best of several rounds counts.
        let least = (0..20).map(|_| {
            let region = Region::new(ALLOCATOR);
            let decision = decide(again);
            assert_eq!(decision.effect, wanted.0);
            region.change().allocations
        });
        assert_eq!(least.min(), Some(0), "{name}");
    }
}
