//! Vectors by hand (OR1): every operator, type, error class and place of short circuit, as a permit, as an `unless` and as
//! a forbid, from our engine and from stock Cedar.

mod rows;

use crate::support::judge::{Judge, Verdict};
use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, ConnectionFacts, Effect, Engine, EntitySet, ErrorClass, Numbers, OwnedFacts,
    OwnedRequest, PolicySource, Principal, Protocol, Reason, Resource, RouteEntity, SchemaText,
    ServiceEntity, Snapshot, SnapshotInput, WorkloadEntity,
};
use rows::{Outcome, ROWS};
use serde_json::json;
use std::sync::Arc;

/// The condition of a row with its letters written out.
fn condition(row: &str) -> String {
    let letter = |word: &str| match word {
        "T" => "context.connection.mtls",
        "F" => "(context.connection.tls == 12)",
        "E" => "(context.connection.tls + 9223372036854775807 > 0)",
        "L" => "context.connection.tls",
        other => panic!("`{other}` stands for nothing"),
    };
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '"');
    let mut out = String::new();
    let mut in_text = false;
    let mut last = None;
    let mut rest = row.chars().peekable();
    while let Some(c) = rest.next() {
        in_text ^= c == '"' && last != Some('\\');
        let is_letter = !in_text && "TFEL".contains(c) && !is_part(last) && !is_part(rest.peek().copied());
        if is_letter {
            out += letter(&c.to_string())
        } else {
            out.push(c)
        }
        last = Some(c);
    }
    out
}

fn entities() -> EntitySet {
    let web = WorkloadEntity {
        id: "spiffe://example.org/web".into(),
        namespace: Some("shop".into()),
        groups: vec!["frontends".into()],
        attested_by: vec!["unix".into()],
        labels: vec![("team".into(), "blue".into())],
        ..WorkloadEntity::default()
    };
    let group = |id: &str, parents: &[&str]| {
        let parents: Vec<_> = parents.iter().map(|id| json!({ "type": "Group", "id": id })).collect();
        json!({ "uid": { "type": "Group", "id": id }, "attrs": {}, "parents": parents })
    };
    let routes = (0..ROWS.len())
        .flat_map(|at| ["permit", "unless", "forbid", "alone"].map(|kind| format!("{kind}-{at}")));
    EntitySet {
        trust_domain: Some("example.org".into()),
        services: vec![ServiceEntity {
            name: "site".into(),
            namespace: Some("front".into()),
            ..ServiceEntity::default()
        }],
        routes: routes
            .map(|name| RouteEntity { name, service: "site".into(), sensitivity: Some(2) })
            .collect(),
        workloads: vec![web],
        extra: Some(json!([group("frontends", &["all"]), group("all", &[]), group("empty", &[])])),
        ..EntitySet::default()
    }
}

type Row = (usize, &'static (&'static str, Outcome));

/// Each row four times, on a route each.
fn policies(rows: &[Row]) -> Vec<String> {
    let head = |kind: &str, at: usize| {
        format!("(principal is Workload, action == Action::\"http:GET\", resource == Route::\"{kind}-{at}\")")
    };
    let four = |(at, (row, _)): &Row| {
        let condition = condition(row);
        [
            format!("@id(\"permit-{at}\") permit {} when {{ {condition} }};", head("permit", *at)),
            format!("@id(\"unless-{at}\") permit {} unless {{ {condition} }};", head("unless", *at)),
            format!("@id(\"forbid-{at}\") forbid {} when {{ {condition} }};", head("forbid", *at)),
            format!("@id(\"beside-{at}\") permit {};", head("forbid", *at)),
            format!("@id(\"alone-{at}\") forbid {} when {{ {condition} }};", head("alone", *at)),
        ]
    };
    rows.iter().flat_map(four).collect()
}

fn facts() -> OwnedFacts {
    let connection = ConnectionFacts {
        mtls: true,
        tls: 13,
        source_ip: "10.1.2.3".parse().expect("an address"),
        sni: None,
        listener: "public".into(),
        protocol: Protocol::H2,
    };
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    OwnedFacts::new(connection).with_request(OwnedRequest {
        method: "GET".into(),
        host: "shop".into(),
        path: "/v1/orders/7".into(),
        query: [("tenant".to_owned(), lines(&["a", "b"]))].into(),
        query_names: ["x".to_owned()].into(),
        headers: [("x-tenant".to_owned(), lines(&["acme", "umbrella"]))].into(),
        params: [("id".to_owned(), "a*b".to_owned())].into(),
        media_type: None,
        length: Some(120),
    })
}

/// What the table says about a row on one of its four routes.
fn expected(kind: &str, at: usize, outcome: Outcome) -> Verdict {
    let id = format!("{kind}-{at}");
    let (effect, reason, determining) = match (kind, outcome) {
        ("permit", Outcome::Yes) | ("unless", Outcome::No) => {
            (Effect::Allow, Reason::Permit, vec![id.clone()])
        }
        ("forbid" | "alone", Outcome::Yes) => (Effect::Deny, Reason::Forbid, vec![id.clone()]),
        ("forbid" | "alone", Outcome::Over) => (Effect::Deny, Reason::ForbidError, vec![]),
        ("forbid", Outcome::No) => (Effect::Allow, Reason::Permit, vec![format!("beside-{at}")]),
        _ => (Effect::Deny, Reason::NoPermit, vec![]),
    };
    let errors = (outcome == Outcome::Over).then_some((id, ErrorClass::Overflow));
    let determining = determining.into_iter().collect();
    Verdict { effect, reason, determining, errors: errors.into_iter().collect(), would: None }
}

fn compiled(texts: &[String], entities: &Arc<EntitySet>, previous: Option<&Arc<Snapshot>>) -> Arc<Snapshot> {
    let source = |(at, text): (usize, &String)| PolicySource::new(format!("{at}.cedar"), text.as_str());
    let input = SnapshotInput {
        numbers: Numbers::default(),
        schema: SchemaText::default(),
        policies: texts.iter().enumerate().map(source).collect(),
        entities: Arc::clone(entities),
        routes_digest: [0; 32],
    };
    Arc::new(Snapshot::compile_after(previous, input).unwrap_or_else(|found| {
        panic!("{}", found.iter().map(|f| format!("{f}\n{:?}\n", f.help)).collect::<String>())
    }))
}

/// What is wrong with those rows.
fn faults(rows: &[Row], entities: &Arc<EntitySet>, previous: &mut Option<Arc<Snapshot>>) -> Vec<String> {
    let texts = policies(rows);
    let snapshot = compiled(&texts, entities, previous.as_ref());
    let mut judge = Judge::new(&SchemaText::default(), texts.iter().map(String::as_str), entities);
    let mut engine = Engine::new(Arc::clone(&snapshot));
    let (principal, facts) = (Principal::workload("spiffe://example.org/web"), facts());
    let now = UnixTime::parse_rfc3339("2026-11-25T12:00:00Z").expect("an instant");
    let mut wrong = Vec::new();
    for (at, (row, outcome)) in rows {
        for kind in ["permit", "unless", "forbid", "alone"] {
            let resource = Resource::route(&format!("{kind}-{at}"));
            let (action, principal, facts) = (Action::HttpGet, &principal, &facts);
            let request = AccessRequest { principal, action, resource: &resource, facts, now, extra: None };
            let says = expected(kind, *at, *outcome);
            let mut ask = |who: &str, verdict: Verdict| {
                if verdict != says {
                    wrong.push(format!("{kind} {{ {row} }}: {who} says {verdict:?}"));
                }
            };
            ask("a new plan", Verdict::of(&engine.decide(&request)));
            ask("a known plan", Verdict::of(&engine.decide(&request)));
            ask("no plan", Verdict::of(&snapshot.decide(&request)));
            ask("stock Cedar", judge.verdict(&request, &snapshot.versions().declared));
        }
    }
    *previous = Some(snapshot);
    wrong
}

#[test]
fn or1_every_operator_type_error_and_short_circuit_comes_out_as_the_table_says() {
    let rows: Vec<Row> = ROWS.iter().enumerate().collect();
    let entities = Arc::new(entities());
    let mut previous = None;
    // Few at a time: compiling is bounded in time, and debug builds are slow.
    let wrong: Vec<String> =
        rows.chunks(12).flat_map(|rows| faults(rows, &entities, &mut previous)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn se1_a_forbid_that_errs_denies_unless_one_that_holds_does_so_already() {
    let kinds = [
        ("permit-yes", "permit", "T"),
        ("permit-no", "permit", "F"),
        ("permit-over", "permit", "E"),
        ("forbid-yes", "forbid", "T"),
        ("forbid-no", "forbid", "F"),
        ("forbid-over", "forbid", "E"),
    ];
    let text = |(id, effect, row): (&str, &str, &str)| {
        format!(
            "@id(\"{id}\") {effect} (principal, action == Action::\"http:GET\", resource) when {{ {} }};",
            condition(row)
        )
    };
    let (principal, resource, facts) =
        (Principal::workload("spiffe://example.org/web"), Resource::route("permit-0"), facts());
    let now = UnixTime::parse_rfc3339("2026-11-25T12:00:00Z").expect("an instant");
    let request = AccessRequest {
        principal: &principal,
        action: Action::HttpGet,
        resource: &resource,
        facts: &facts,
        now,
        extra: None,
    };
    let (entities, mut previous) = (Arc::new(entities()), None);
    for chosen in 0_u32..64 {
        let has = |at: usize| chosen & (1 << at) > 0;
        let texts: Vec<String> = (0..6).filter(|at| has(*at)).map(|at| text(kinds[at])).collect();
        let snapshot = compiled(&texts, &entities, previous.as_ref());
        let (effect, reason, determining) = match (has(3), has(5), has(0)) {
            (true, ..) => (Effect::Deny, Reason::Forbid, Some("forbid-yes")),
            (_, true, _) => (Effect::Deny, Reason::ForbidError, None),
            (.., true) => (Effect::Allow, Reason::Permit, Some("permit-yes")),
            _ => (Effect::Deny, Reason::NoPermit, None),
        };
        // Errors are listed whatever the verdict.
        let errors = [2, 5].into_iter().filter(|at| has(*at));
        let says = Verdict {
            effect,
            reason,
            determining: determining.into_iter().map(str::to_owned).collect(),
            errors: errors.map(|at| (kinds[at].0.to_owned(), ErrorClass::Overflow)).collect(),
            would: None,
        };
        assert_eq!(Verdict::of(&Engine::new(Arc::clone(&snapshot)).decide(&request)), says, "{texts:?}");
        previous = Some(snapshot);
    }
}
