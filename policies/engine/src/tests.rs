//! Tests of the whole crate over snapshots made from text.

mod ask;
mod audit;
mod baseline;
mod broken;
mod carried;
mod compile_after;
mod coverage;
mod decide;
mod doubt;
mod explain;
mod fixtures;
mod impact;
mod links;
mod mining;
mod nearest;
mod people;
mod suggest;

use crate::*;
use base_ports::UnixTime;
use std::sync::LazyLock;

/// The shipped schema, built once.
static SCHEMA: LazyLock<(cedar_policy::Schema, Declared)> =
    LazyLock::new(|| compile::schema::build(&SchemaText::default()).unwrap());

fn input(policies: &[(&str, &str)], entities: EntitySet) -> SnapshotInput {
    let mut sources = baseline();
    sources.extend(policies.iter().map(|(file, text)| PolicySource::new(*file, *text)));
    SnapshotInput {
        numbers: Numbers { epoch: 1, snapshot: 1207, policies: 41 },
        schema: SchemaText::default(),
        policies: sources,
        entities: entities.into(),
        routes_digest: [0; 32],
    }
}

fn get() -> Resource {
    Resource::method("shop.Orders/Get")
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.determining.iter().map(|id| &**id).collect()
}

/// The baseline and those files over the entities of [`shop`].
pub(crate) fn shop_input(policies: &[(&str, &str)]) -> SnapshotInput {
    input(policies, shop())
}

/// Compiled over the shipped schema, which is built once.
pub(crate) fn compiled(input: SnapshotInput) -> Result<Snapshot, Vec<Diagnostic>> {
    let (schema, declared) = &*SCHEMA;
    compile::with_schema(schema.clone(), declared.clone(), input)
}

/// The shipped policies alone; other snapshots start from it, so that each test pays for its own policies only.
static SHIPPED: LazyLock<std::sync::Arc<Snapshot>> = LazyLock::new(|| {
    let (schema, declared) = &*SCHEMA;
    compile::with_schema(schema.clone(), declared.clone(), input(&[], shop())).unwrap().into()
});

pub(crate) fn snapshot_of(
    policies: &[(&str, &str)],
    entities: EntitySet,
) -> Result<Snapshot, Vec<Diagnostic>> {
    Snapshot::compile_after(Some(&SHIPPED), input(policies, entities))
}

/// A snapshot of one file over the entities of [`shop`].
pub(crate) fn shop_with(policies: &str) -> std::sync::Arc<Snapshot> {
    let compiled = snapshot_of(&[("policies/orders.cedar", policies)], shop());
    compiled
        .unwrap_or_else(|found| {
            panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
        .into()
}

/// Two services, three methods, two routes, two known workloads.
pub(crate) fn shop() -> EntitySet {
    let service = |name: &str, namespace: &str| ServiceEntity {
        name: name.into(),
        namespace: Some(namespace.into()),
        sensitivity: Some(1),
        labels: vec![("tier".into(), "one".into())],
        ..ServiceEntity::default()
    };
    let method = |id: &str, read_only| MethodEntity {
        id: id.into(),
        service: "orders".into(),
        read_only,
        sensitivity: None,
    };
    let route = |name: &str| RouteEntity { name: name.into(), service: "site".into(), sensitivity: None };
    let workload = |id: &str, group: &str| WorkloadEntity {
        id: id.into(),
        namespace: Some("shop".into()),
        groups: vec![group.into()],
        attested_by: vec!["unix".into()],
        labels: vec![("team".into(), "blue".into())],
        roles: Vec::new(),
    };
    EntitySet {
        trust_domain: Some("example.org".into()),
        services: vec![service("orders", "shop"), service("site", "front")],
        methods: vec![
            method("shop.Orders/Get", Some(true)),
            method("shop.Orders/List", None),
            method("shop.Orders/Refund", None),
        ],
        routes: vec![route("home"), route("admin")],
        workloads: vec![
            workload("spiffe://example.org/web", "frontends"),
            workload("spiffe://example.org/billing", "money"),
        ],
        extra: None,
    }
}

fn web() -> Principal {
    Principal::workload("spiffe://example.org/web")
}

pub(crate) fn noon() -> UnixTime {
    UnixTime::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()
}

/// One question with assumed facts.
fn ask(snapshot: &Snapshot, principal: &Principal, action: Action, resource: &Resource) -> Decision {
    let facts = OwnedFacts::assumed(action, resource);
    snapshot.decide(&AccessRequest { principal, action, resource, facts: &facts, now: noon(), extra: None })
}
