//! The fixed world of both benches: 6,071 entities and a set of policies in the mix of policy.md 17, from one seed.
//! Values only; `calls` asks about them and `stock` turns the same values into Cedar's.

use crate::support::dice::Dice;
use policies_engine::{
    EntitySet, MethodEntity, Numbers, PolicySource, RouteEntity, SchemaText, ServiceEntity, SnapshotInput,
    WorkloadEntity,
};
use serde_json::json;

pub(crate) const NAMESPACES: usize = 50;
pub(crate) const GROUPS: usize = 20;
pub(crate) const SERVICES: usize = 500;
pub(crate) const WORKLOADS: usize = 2_000;
pub(crate) const DOMAIN: &str = "example.org";
const METHODS: [&str; 4] = ["Get", "List", "Put", "Delete"];
const ROUTES: [&str; 2] = ["web", "api"];

/// 1 trust domain, 50 namespaces, 20 groups, 500 services with an interface, 4 methods and 2 routes each, 2,000 workloads.
pub(crate) const ENTITIES: usize =
    1 + NAMESPACES + GROUPS + SERVICES * (2 + METHODS.len() + ROUTES.len()) + WORKLOADS;

/// Low numbers more often, as callers and services are not equally busy.
pub(crate) fn skewed(dice: &mut Dice, end: usize) -> usize {
    let first = dice.below(end) + 1;
    dice.below(first)
}

pub(crate) fn workload(at: usize) -> String {
    format!("spiffe://{DOMAIN}/{}/w-{at:04}", namespace(at))
}

pub(crate) fn namespace(of: usize) -> String {
    format!("ns-{:02}", of % NAMESPACES)
}

fn group(at: usize) -> String {
    format!("g-{:02}", at % GROUPS)
}

fn service(at: usize) -> String {
    format!("s-{at:03}")
}

pub(crate) fn method(service: usize, which: usize) -> String {
    format!("shop.S{service:03}/{}", METHODS[which % METHODS.len()])
}

pub(crate) fn route(service: usize, which: usize) -> String {
    format!("s-{service:03}-{}", ROUTES[which % ROUTES.len()])
}

/// What a policy is about, so that calls can be made that it has something to say about.
#[derive(Clone, Copy)]
pub(crate) enum Topic {
    Nobody,
    Pair { workload: usize, service: usize },
    Spaces { from: usize, to: usize },
    Group { group: usize, service: usize, method: usize },
    Method { service: usize, method: usize },
    Caller { workload: usize },
}

/// Policies with what they are about. The first is the one that holds for every call.
pub(crate) fn policies(count: usize) -> Vec<(String, Topic)> {
    let mut dice = Dice(17);
    (0..count).map(|at| policy(&mut dice, at)).collect()
}

fn policy(dice: &mut Dice, at: usize) -> (String, Topic) {
    if at == 0 {
        let text = r#"@id("tls-only") forbid (principal, action in Action::"call", resource) unless { context.connection.tls >= 12 };"#;
        return (text.to_owned(), Topic::Nobody);
    }
    let (body, topic) = match at % 20 {
        0..11 => {
            let (caller, target) = (skewed(dice, WORKLOADS), skewed(dice, SERVICES));
            let body = format!(
                "permit (principal == Workload::\"{}\", action in [Action::\"http\", Action::\"grpc\"], resource in Service::\"{}\");",
                workload(caller),
                service(target)
            );
            (body, Topic::Pair { workload: caller, service: target })
        }
        11..15 => {
            let (from, to) = (skewed(dice, NAMESPACES), skewed(dice, NAMESPACES));
            let condition = match dice.below(4) {
                0 => {
                    "principal has attested_by && principal.attested_by.contains(\"unix\") && context.connection.mtls"
                }
                1 => {
                    "principal.hasTag(\"team\") && principal.getTag(\"team\") == \"blue\" && context.connection.mtls"
                }
                2 => {
                    "resource has sensitivity && resource.sensitivity <= 2 && context.request.path like \"/v1/*\""
                }
                _ => {
                    "context.request.headers has \"x-tenant\" && context.request.headers[\"x-tenant\"].contains(\"acme\")"
                }
            };
            let body = format!(
                "permit (principal is Workload in Namespace::\"{}\", action in [Action::\"http\", Action::\"grpc\"], resource in Namespace::\"{}\")\nwhen {{ {condition} }};",
                namespace(from),
                namespace(to)
            );
            (body, Topic::Spaces { from, to })
        }
        15 | 16 => {
            let (within, target, which) =
                (dice.below(GROUPS), skewed(dice, SERVICES), dice.below(METHODS.len()));
            let body = format!(
                "permit (principal in Group::\"{}\", action == Action::\"grpc\", resource == Method::\"{}\");",
                group(within),
                method(target, which)
            );
            (body, Topic::Group { group: within, service: target, method: which })
        }
        17 | 18 => {
            let (target, which, net) = (skewed(dice, SERVICES), dice.below(METHODS.len()), dice.below(16));
            let body = format!(
                "forbid (principal, action == Action::\"grpc\", resource == Method::\"{}\")\nwhen {{ context.connection.source_ip.isInRange(ip(\"10.{net}.0.0/16\")) }};",
                method(target, which)
            );
            (body, Topic::Method { service: target, method: which })
        }
        _ => {
            // From the quiet end, so that not every busy caller is locked out.
            let caller = WORKLOADS - 1 - skewed(dice, WORKLOADS);
            let body = format!("forbid (principal == Workload::\"{}\", action, resource);", workload(caller));
            (body, Topic::Caller { workload: caller })
        }
    };
    (format!("@id(\"p{at:05}\")\n{body}\n"), topic)
}

/// The policies in files of 100, as teams keep them.
pub(crate) fn sources(policies: &[(String, Topic)]) -> Vec<PolicySource> {
    let file = |(at, texts): (usize, &[(String, Topic)])| {
        let text: String = texts.iter().map(|(text, _)| text.as_str()).collect();
        PolicySource::new(format!("policies/{at:03}.cedar"), text)
    };
    policies.chunks(100).enumerate().map(file).collect()
}

/// All entities, as the configuration and the registry give them.
pub(crate) fn entities() -> EntitySet {
    let services = 0..SERVICES;
    let extra = (0..GROUPS)
        .map(|at| json!({ "uid": { "type": "Group", "id": group(at) }, "attrs": {}, "parents": [] }));
    let domain = json!({ "uid": { "type": "TrustDomain", "id": DOMAIN }, "attrs": {}, "parents": [] });
    EntitySet {
        trust_domain: Some(DOMAIN.to_owned()),
        services: services
            .clone()
            .map(|at| ServiceEntity {
                name: service(at),
                namespace: Some(namespace(at)),
                sensitivity: Some(at as i64 % 4),
                labels: vec![("tier".to_owned(), "one".to_owned())],
                ..ServiceEntity::default()
            })
            .collect(),
        methods: services
            .clone()
            .flat_map(|at| (0..METHODS.len()).map(move |which| (at, which)))
            .map(|(at, which)| MethodEntity {
                id: method(at, which),
                service: service(at),
                read_only: Some(which < 2),
                sensitivity: Some(which as i64),
            })
            .collect(),
        routes: services
            .flat_map(|at| (0..ROUTES.len()).map(move |which| (at, which)))
            .map(|(at, which)| RouteEntity {
                name: route(at, which),
                service: service(at),
                sensitivity: Some(at as i64 % 4),
            })
            .collect(),
        workloads: (0..WORKLOADS)
            .map(|at| WorkloadEntity {
                id: workload(at),
                namespace: Some(namespace(at)),
                groups: vec![group(at), group(at / 7)],
                attested_by: vec![if at % 5 == 0 { "join_token" } else { "unix" }.to_owned()],
                labels: vec![("team".to_owned(), if at % 3 == 0 { "red" } else { "blue" }.to_owned())],
                roles: Vec::new(),
            })
            .collect(),
        extra: Some(extra.chain([domain]).collect()),
    }
}

/// What our engine compiles.
pub(crate) fn input(policies: Vec<PolicySource>, entities: EntitySet) -> SnapshotInput {
    SnapshotInput {
        numbers: Numbers { epoch: 1, snapshot: 1, policies: 1 },
        schema: SchemaText::default(),
        policies,
        entities: entities.into(),
        routes_digest: [0; 32],
    }
}
