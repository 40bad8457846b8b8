//! The engine against stock Cedar over the whole set, written here a second time: same effect, same determining
//! policies, same errors, SE1 applied (OR2).

use super::*;
use cedar_policy::{AuthorizationError, Authorizer, PolicyId, PolicySet};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

/// Scope and condition of one random policy. Every combination validates.
#[derive(Debug, Clone)]
struct Sketch {
    is_forbid: bool,
    principal: &'static str,
    target: (&'static str, &'static str),
    conditions: Vec<(bool, &'static str)>,
}

const PRINCIPALS: [&str; 8] = [
    "principal",
    r#"principal == Workload::"spiffe://example.org/web""#,
    r#"principal == Workload::"spiffe://example.org/named""#,
    r#"principal in Group::"frontends""#,
    r#"principal in Namespace::"shop""#,
    r#"principal in TrustDomain::"example.org""#,
    "principal is Workload",
    r#"principal is Workload in Group::"money""#,
];

/// Action and resource scopes that go together.
const TARGETS: [(&str, &str); 12] = [
    ("action", "resource"),
    (r#"action in Action::"call""#, "resource"),
    (r#"action in Action::"http""#, "resource"),
    (r#"action in Action::"http:read""#, r#"resource == Route::"home""#),
    (r#"action == Action::"http:POST""#, r#"resource in Service::"site""#),
    (r#"action in [Action::"http:GET", Action::"grpc"]"#, "resource"),
    (r#"action == Action::"grpc""#, r#"resource in RpcService::"shop.Orders""#),
    (r#"action == Action::"grpc""#, r#"resource is Method in Service::"orders""#),
    (r#"action == Action::"grpc""#, r#"resource == Method::"shop.Orders/Refund""#),
    ("action", r#"resource in Namespace::"shop""#),
    (r#"action in Action::"rpc""#, "resource is Method"),
    ("action", r#"resource in TrustDomain::"example.org""#),
];

const CONDITIONS: [&str; 9] = [
    "context.connection.mtls",
    r#"context.connection.listener == "public""#,
    "context.connection.tls + 9223372036854775800 > 0",
    "9223372036854775800 - context.connection.tls > 9223372036854775790",
    r#"context.connection.source_ip.isInRange(ip("10.0.0.0/8"))"#,
    "context.time.weekday == 7",
    r#"resource in [Service::"orders", Service::"other"]"#,
    r#"principal in [Group::"frontends", Group::"none"]"#,
    r#"context.connection.protocol == Protocol::"grpc" || context.connection.tls * 9223372036854775807 > 5"#,
];

fn sketch() -> impl Strategy<Value = Sketch> {
    let condition = (any::<bool>(), prop::sample::select(&CONDITIONS[..]));
    (
        prop::bool::weighted(0.3),
        prop::sample::select(&PRINCIPALS[..]),
        prop::sample::select(&TARGETS[..]),
        prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(condition, 1..3)],
    )
        .prop_map(|(is_forbid, principal, target, conditions)| Sketch {
            is_forbid,
            principal,
            target,
            conditions,
        })
}

fn text(sketches: &[Sketch]) -> String {
    let one = |(at, sketch): (usize, &Sketch)| {
        let effect = if sketch.is_forbid { "forbid" } else { "permit" };
        let (action, resource) = sketch.target;
        let mut text = format!("@id(\"p{at}\") {effect} ({}, {action}, {resource})", sketch.principal);
        for (is_when, condition) in &sketch.conditions {
            text += &format!("\n{} {{ {condition} }}", if *is_when { "when" } else { "unless" });
        }
        text + ";\n"
    };
    sketches.iter().enumerate().map(one).collect()
}

fn questions() -> Vec<(Principal, Action, Resource)> {
    let workload = |path: &str| Principal::workload(&format!("spiffe://{path}"));
    let principals = [
        web(),
        workload("example.org/billing"),
        workload("example.org/named"),
        workload("example.org/stranger"),
        workload("example.org/other"),
        workload("other.org/web"),
        Principal::anonymous(),
        Principal::agent("spiffe://example.org/portcullis/agent/n1"),
    ];
    let targets = [
        (Action::HttpGet, Resource::route("home")),
        (Action::HttpPost, Resource::route("home")),
        (Action::HttpPost, Resource::route("admin")),
        (Action::Grpc, Resource::method("shop.Orders/Get")),
        (Action::Grpc, Resource::method("shop.Orders/Refund")),
        (Action::TcpConnect, Resource::service_named("orders")),
    ];
    principals.iter().flat_map(|p| targets.iter().map(|(a, r)| (p.clone(), *a, r.clone()))).collect()
}

/// Effect, reason, determining, errors, from the whole set on all entities.
type Verdict = (Effect, Reason, BTreeSet<String>, BTreeSet<String>);

fn stock(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Verdict {
    let cast = snapshot.cast(request).unwrap();
    let entities = cedar_policy::Entities::clone(&snapshot.parts().entities);
    let entities = entities.upsert_entities(cast.overlay.clone(), None).unwrap();
    let context = context::build(request, walk::Reads::ALL, &snapshot.versions().declared).unwrap();
    let uid = |lineage: &scope::Lineage| lineage.uid.clone();
    let (p, a, r) = (uid(&cast.triple.principal), uid(&cast.triple.action), uid(&cast.triple.resource));
    let question = cedar_policy::Request::new(p, a, r, context, Some(&snapshot.parts().schema)).unwrap();
    let policies =
        PolicySet::from_policies(snapshot.parts().rules.iter().map(|rule| rule.policy.clone())).unwrap();
    let answer = Authorizer::new().is_authorized(&question, &policies, &entities);
    let name = |id: &PolicyId| AsRef::<str>::as_ref(id).to_owned();
    let is_forbid = |id: &PolicyId| policies.policy(id).unwrap().effect() == cedar_policy::Effect::Forbid;
    let errors: Vec<&PolicyId> = answer
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id())
        .collect();
    let reasons: Vec<&PolicyId> = answer.diagnostics().reason().collect();
    let (effect, reason) = match answer.decision() {
        cedar_policy::Decision::Deny if !reasons.is_empty() => (Effect::Deny, Reason::Forbid),
        _ if errors.iter().any(|id| is_forbid(id)) => (Effect::Deny, Reason::ForbidError),
        cedar_policy::Decision::Allow => (Effect::Allow, Reason::Permit),
        cedar_policy::Decision::Deny => (Effect::Deny, Reason::NoPermit),
    };
    let determining =
        if reason == Reason::ForbidError { BTreeSet::new() } else { reasons.into_iter().map(name).collect() };
    (effect, reason, determining, errors.into_iter().map(name).collect())
}

fn ours(decision: &Decision) -> Verdict {
    let determining = decision.determining.iter().map(ToString::to_string).collect();
    let errors = decision.errors.iter().map(|error| error.policy.to_string()).collect();
    (decision.effect, decision.reason, determining, errors)
}

fn facts(
    tls: u8,
    mtls: bool,
    is_inside: bool,
    listener: &str,
    action: Action,
    resource: &Resource,
) -> OwnedFacts {
    let source_ip = if is_inside { "10.1.2.3" } else { "192.0.2.1" }.parse().unwrap();
    let assumed = OwnedFacts::assumed(action, resource);
    let connection =
        ConnectionFacts { tls, mtls, source_ip, listener: listener.into(), ..assumed.connection().clone() };
    assumed.with_connection(connection)
}

/// Without the baseline, which has nothing to say about calls and would be validated again each time.
fn alone(text: &str) -> Snapshot {
    let (schema, declared) = &*SCHEMA;
    let policies = vec![PolicySource::new("a.cedar", text)];
    let input = SnapshotInput { policies, ..input(&[], shop()) };
    compile::with_schema(schema.clone(), declared.clone(), input)
        .unwrap_or_else(|found| panic!("{found:?}\n{text}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn or2_the_engine_decides_as_stock_cedar_does(
        sketches in prop::collection::vec(sketch(), 1..8),
        tls in prop::sample::select(vec![0_u8, 1, 12, 13]),
        flags in any::<(bool, bool)>(),
        listener in prop::sample::select(vec!["public", "admin"]),
        picks in prop::collection::vec(0_usize..48, 4),
    ) {
        let text = text(&sketches);
        let snapshot = Arc::new(alone(&text));
        let mut engine = Engine::new(Arc::clone(&snapshot));
        let questions = questions();
        for pick in picks {
            let (principal, action, resource) = &questions[pick];
            let facts = facts(tls, flags.0, flags.1, listener, *action, resource);
            let request = AccessRequest { principal, action: *action, resource, facts: &facts, now: noon(), extra: None };
            if snapshot.cast(&request).is_err() {
                prop_assert_eq!(engine.decide(&request).reason, Reason::NoPermit);
                continue;
            }
            let expected = stock(&snapshot, &request);
            prop_assert_eq!(&ours(&engine.decide(&request)), &expected, "{} {} {}\n{}", principal, action, resource, text);
            prop_assert_eq!(&ours(&engine.decide(&request)), &expected, "from the plan");
            prop_assert_eq!(&ours(&stock::judge(&snapshot, &request).unwrap().decision), &expected);
        }
    }
}
