//! Reverse questions: word for word, and against the engine for every pair they speak about.

use super::*;
use crate::ask::*;
use cedar_policy::{Authorizer, Context, Policy, PolicySet, Request};
use proptest::prelude::*;
use std::sync::Arc;

fn options() -> AskOptions {
    AskOptions { now: noon(), limit: 1_000, after: None }
}

/// `who | verdict | policies`.
fn lines(answers: &Answers) -> Vec<String> {
    let line = |line: &Standing| {
        let verdict = match &line.verdict {
            Verdict::Allow => "allow".to_owned(),
            Verdict::Depends(condition) => format!("when {}", condition.to_text()),
        };
        let policies: Vec<&str> = line.policies.iter().map(|place| &*place.policy).collect();
        let actions: Vec<&str> = line.actions.iter().map(|action| action.as_str()).collect();
        format!(
            "{} | {} | {} | {verdict} | {}",
            line.who,
            actions.join(","),
            line.resource,
            policies.join(",")
        )
    };
    answers.items.iter().map(line).collect()
}

const SHOP: &str = r#"
@id("front") permit (principal in Group::"frontends", action == Action::"grpc", resource == Method::"shop.Orders/Get");
@id("named") permit (principal == Workload::"spiffe://partner.example/api", action == Action::"grpc", resource == Method::"shop.Orders/Get") when { context.connection.mtls && context.connection.listener == "partners" };
@id("domain") permit (principal in TrustDomain::"example.org", action == Action::"grpc", resource == Method::"shop.Orders/Get") when { principal.path like "/batch/*" || context.connection.listener == "batch" };
@id("blue") permit (principal is Workload, action in Action::"call", resource in Service::"orders") when { principal.hasTag("team") && principal.getTag("team") == "blue" };
@id("stop") @owner("risk") forbid (principal == Workload::"spiffe://example.org/billing", action == Action::"grpc", resource) unless { context.time.weekday < 6 };
@id("never") forbid (principal == Workload::"spiffe://partner.example/old", action, resource);
@id("old") @expires("2026-01-01T00:00:00Z") permit (principal, action == Action::"grpc", resource);
@id("try") @mode("shadow") permit (principal, action == Action::"grpc", resource);
@id("tls") permit (principal is Anonymous, action in Action::"http:read", resource == Route::"home") when { context.connection.tls == 13 };
"#;

#[test]
fn who_can_lists_callers_and_classes_with_what_is_left_to_the_call() {
    let snapshot = shop_with(SHOP);
    let get = Resource::method("shop.Orders/Get");
    let answers = who_can(&snapshot, Action::Grpc, &get, &options()).unwrap();
    assert_eq!(
        lines(&answers),
        [
            r#"any other workload of example.org | grpc | Method::"shop.Orders/Get" | when principal.path like "/batch/*" || context.connection.listener == "batch" | domain"#,
            r#"Workload::"spiffe://example.org/billing" | grpc | Method::"shop.Orders/Get" | when !!(context.time.weekday < 6) | blue,stop"#,
            r#"Workload::"spiffe://example.org/web" | grpc | Method::"shop.Orders/Get" | allow | front,blue"#,
            r#"Workload::"spiffe://partner.example/api" | grpc | Method::"shop.Orders/Get" | when context.connection.mtls && context.connection.listener == "partners" | named"#,
        ]
    );
    assert_eq!((answers.counts.allow, answers.counts.depends), (1, 3));
    assert!(answers.counts.deny >= 4, "{:?}", answers.counts);
    assert_eq!(answers.next, None);
    let place = &answers.items[1].policies[1];
    assert_eq!((&*place.policy, place.line, place.owner.as_deref()), ("stop", 6, Some("risk")));
}

#[test]
fn what_can_joins_actions_that_stand_alike() {
    let snapshot = shop_with(SHOP);
    let calls = |principal: &Principal| -> Vec<String> {
        let all = lines(&what_can(&snapshot, principal, None, &options()));
        all.into_iter().filter(|line| !line.contains("Portcullis::")).collect()
    };
    assert_eq!(
        calls(&Principal::anonymous()),
        [
            r#"Anonymous::"anonymous" | http:GET,http:HEAD,http:OPTIONS,http:QUERY | Route::"home" | when context.connection.tls == 13 | tls"#
        ]
    );
    assert_eq!(
        calls(&web()),
        [
            r#"Workload::"spiffe://example.org/web" | grpc | Method::"shop.Orders/Get" | allow | front,blue"#,
            r#"Workload::"spiffe://example.org/web" | grpc | Method::"shop.Orders/List" | allow | blue"#,
            r#"Workload::"spiffe://example.org/web" | grpc | Method::"shop.Orders/Refund" | allow | blue"#,
            r#"Workload::"spiffe://example.org/web" | tcp:connect | Service::"orders" | allow | blue"#,
        ]
    );
    let one = what_can(&snapshot, &web(), Some(Action::TcpConnect), &options());
    assert_eq!(one.items.len(), 1);
    assert_eq!(calls(&Principal::workload("spiffe://partner.example/old")), Vec::<String>::new());
    // Our own APIs are part of what somebody can do.
    let operator = Principal::local_user(0, None, &[Role::Operator]);
    let own = lines(&what_can(&snapshot, &operator, None, &options()));
    assert!(
        own.iter().any(|line| line.contains("policy:read") && line.contains("role-operator")),
        "{own:#?}"
    );
}

#[test]
fn an_answer_is_given_page_by_page() {
    let snapshot = shop_with(SHOP);
    let whole = lines(&what_can(&snapshot, &web(), None, &options()));
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = what_can(&snapshot, &web(), None, &AskOptions { limit: 2, after, ..options() });
        assert!(page.items.len() <= 2);
        pages.extend(lines(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, whole);
}

#[test]
fn what_nothing_knows_is_an_error_and_what_cannot_be_asked_too() {
    let snapshot = shop_with("");
    let ask = |action, resource: &Resource| who_can(&snapshot, action, resource, &options()).map(|_| ());
    assert_eq!(ask(Action::Grpc, &Resource::method("shop.Orders/Gone")), Err(Reason::EntityMissing));
    assert_eq!(ask(Action::Grpc, &Resource::route("home")), Err(Reason::NoPermit));
}

#[test]
fn cl4_names_that_nothing_knows_come_with_the_nearest_that_something_does() {
    let snapshot = shop_with(SHOP);
    let of = |principal: &str, resource: &str| {
        hints(&snapshot, Principal::parse(principal).as_ref(), Resource::parse(resource).as_ref())
    };
    let get = r#"Method::"shop.Orders/Get""#;
    assert_eq!(of("spiffe://example.org/web", get), Vec::<String>::new());
    assert_eq!(
        of("spiffe://example.org/wbe", get),
        [
            "`spiffe://example.org/wbe` is named nowhere and judged by its id alone; did you mean `spiffe://example.org/web`?"
        ]
    );
    // A workload that nobody names is none the worse for it.
    assert_eq!(of("spiffe://example.org/something-else", get), Vec::<String>::new());
    assert_eq!(
        of("anonymous", r#"Method::"shop.Orders/Gett""#),
        [r#"`Method::"shop.Orders/Gett"` is not known; did you mean `shop.Orders/Get`?"#]
    );
    assert_eq!(of("anonymous", r#"Route::"zzz""#), [r#"`Route::"zzz"` is not known"#]);
    assert_eq!(nearest_action("http:GTE"), Some("http:GET"));
    assert_eq!(nearest_action(r#"Portcullis::Action::"policy:raed""#), Some("policy:read"));
    assert_eq!(nearest_action("banana"), None);
}

#[test]
fn callers_that_stand_alike_get_the_answer_each_would_get_alone() {
    let texts = [
        // Nothing tells them apart but groups and who is named.
        r#"@id("a") permit (principal in Group::"frontends", action == Action::"grpc", resource);
           @id("b") forbid (principal == Workload::"spiffe://example.org/w3", action, resource);
           @id("c") permit (principal is Workload, action in Action::"call", resource) when { [Workload::"spiffe://example.org/w5"].contains(principal) && context.connection.mtls };"#,
        // A tag does, and only where it is asked about.
        r#"@id("a") permit (principal is Workload, action == Action::"grpc", resource == Method::"shop.Orders/Get") when { principal.hasTag("team") && principal.getTag("team") == "blue" };"#,
        // An attribute that all have different.
        r#"@id("a") permit (principal is Workload, action == Action::"grpc", resource) when { principal.path like "*4" || principal in Group::"money" };"#,
        // An attribute that some have.
        r#"@id("a") permit (principal is Workload, action == Action::"grpc", resource) when { resource in Service::"orders" };
           @id("b") forbid (principal is Workload, action, resource) unless { principal has attested_by && principal.attested_by.contains("unix") };"#,
    ];
    let known = |n: usize| WorkloadEntity {
        id: format!("spiffe://example.org/w{n}"),
        namespace: (!n.is_multiple_of(4)).then(|| "shop".to_owned()),
        groups: vec![if n.is_multiple_of(2) { "frontends" } else { "money" }.to_owned()],
        attested_by: if n.is_multiple_of(3) { Vec::new() } else { vec!["unix".to_owned()] },
        labels: vec![("team".to_owned(), if n < 6 { "blue" } else { "red" }.to_owned())],
        roles: Vec::new(),
    };
    let entities = EntitySet { workloads: (0..12).map(known).collect(), ..shop() };
    for text in texts {
        let snapshot = snapshot_of(&[("a.cedar", text)], entities.clone()).unwrap();
        let mut verdicts = std::collections::BTreeSet::new();
        for method in ["shop.Orders/Get", "shop.Orders/List"] {
            let resource = Resource::method(method);
            let together = who_can(&snapshot, Action::Grpc, &resource, &options()).unwrap();
            for who in everybody(&snapshot) {
                let Who::One(caller) = &who else { continue };
                let alone = what_can(&snapshot, caller, Some(Action::Grpc), &options());
                let alone = alone.items.into_iter().find(|line| line.resource == resource);
                let of_all = together.items.iter().find(|line| line.who == who);
                let told = |line: &Standing| {
                    let policies: Vec<_> =
                        line.policies.iter().map(|place| place.policy.to_string()).collect();
                    format!("{:?} {policies:?}", line.verdict)
                };
                assert_eq!(of_all.map(told), alone.as_ref().map(told), "{caller} {method}\n{text}");
                verdicts.insert(of_all.map(told));
            }
        }
        assert!(verdicts.len() > 1, "all stand alike, so nothing is tried: {text}");
    }
}

const SCOPES: [&str; 9] = [
    "principal",
    r#"principal == Workload::"spiffe://example.org/web""#,
    r#"principal == Workload::"spiffe://example.org/named""#,
    r#"principal in Group::"frontends""#,
    r#"principal in TrustDomain::"example.org""#,
    r#"principal in TrustDomain::"far.example""#,
    "principal is Workload",
    "principal is Anonymous",
    r#"principal is Workload in Group::"money""#,
];

const TARGETS: [&str; 5] = [
    "action, resource",
    r#"action in Action::"call", resource"#,
    r#"action == Action::"grpc", resource in RpcService::"shop.Orders""#,
    r#"action == Action::"grpc", resource == Method::"shop.Orders/Refund""#,
    r#"action in Action::"http:read", resource == Route::"home""#,
];

/// Whole conditions, for any scope.
const ANY: [&str; 8] = [
    "context.connection.mtls",
    "context.connection.tls + 9223372036854775800 > 0",
    r#"context.connection.listener == "public""#,
    r#"principal in [Group::"frontends", Group::"none"]"#,
    r#"resource in [Service::"orders", Service::"other"]"#,
    "9223372036854775800 + 100 > 0",
    r#"context.connection.protocol == Protocol::"grpc" || context.connection.tls * 9223372036854775807 > 5"#,
    "!(context.time.weekday < 6)",
];

/// For scopes of workloads alone.
const WORKLOADS: [&str; 6] = [
    r#"principal.path like "/w*""#,
    r#"principal.trust_domain == "example.org""#,
    r#"principal.hasTag("team") && principal.getTag("team") == "blue""#,
    r#"principal has unit && principal.unit == context.connection.listener"#,
    r#"if principal.path == "/web" then context.connection.mtls else principal in Group::"money""#,
    r#"principal == Workload::"spiffe://example.org/stranger" || context.connection.mtls"#,
];

fn policy() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        3 => prop::sample::select(&ANY[..]).prop_map(|text| (false, text)),
        2 => prop::sample::select(&WORKLOADS[..]).prop_map(|text| (true, text)),
    ];
    let clause =
        (any::<bool>(), prop::collection::vec((condition, prop::sample::select(vec![" && ", " || "])), 1..3));
    (
        prop::bool::weighted(0.3),
        prop::sample::select(&SCOPES[..]),
        prop::sample::select(&TARGETS[..]),
        prop::collection::vec(clause, 0..3),
    )
        .prop_map(|(is_forbid, principal, target, clauses)| {
            let needs_workload =
                clauses.iter().any(|(_, terms)| terms.iter().any(|((of_workloads, _), _)| *of_workloads));
            let principal = match (needs_workload, principal) {
                (true, "principal" | "principal is Anonymous") => "principal is Workload",
                (true, other) if other.starts_with("principal in") => "principal is Workload",
                (_, other) => other,
            };
            let mut text = format!("{} ({principal}, {target})", if is_forbid { "forbid" } else { "permit" });
            for (is_when, terms) in &clauses {
                let mut body = String::new();
                for (at, ((_, term), sign)) in terms.iter().enumerate() {
                    body += &format!("{}({term})", if at > 0 { sign } else { "" });
                }
                text += &format!("\n{} {{ {body} }}", if *is_when { "when" } else { "unless" });
            }
            text + ";\n"
        })
}

fn compiled(policies: &[String]) -> Arc<Snapshot> {
    let text: String =
        policies.iter().enumerate().map(|(at, text)| format!("@id(\"p{at}\") {text}")).collect();
    let (schema, declared) = &*SCHEMA;
    let input =
        SnapshotInput { policies: vec![PolicySource::new("a.cedar", text.as_str())], ..input(&[], shop()) };
    Arc::new(
        compile::with_schema(schema.clone(), declared.clone(), input)
            .unwrap_or_else(|found| panic!("{found:?}\n{text}")),
    )
}

/// What a condition says to one call, by stock Cedar: does a permit hold, does a forbid hold or fail.
fn passes(condition: &Condition, snapshot: &Snapshot, request: &AccessRequest<'_>) -> bool {
    let cast = snapshot.cast(request).unwrap();
    let stage = snapshot.stage(&cast).unwrap();
    let context: Context = context::build(request, walk::Reads::ALL, &snapshot.versions().declared).unwrap();
    let question =
        Request::new(stage.principal.clone(), stage.action.clone(), stage.resource.clone(), context, None)
            .unwrap();
    // `Some(holds)`, or `None` when it fails.
    let holds = |text: &str| {
        let text = format!("permit (principal, action, resource) when {{ {text} }};");
        let policy = Policy::parse(None, &text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let answer = Authorizer::new().is_authorized(
            &question,
            &PolicySet::from_policies([policy]).unwrap(),
            &stage.entities,
        );
        let is_allowed = answer.decision() == cedar_policy::Decision::Allow;
        answer.diagnostics().errors().next().is_none().then_some(is_allowed)
    };
    let text = |json: &serde_json::Value| crate::explain::expression::to_text(json);
    let permits: Vec<_> = condition.permits.iter().map(|json| holds(&text(json))).collect();
    let forbids: Vec<_> = condition.forbids.iter().map(|json| holds(&text(json))).collect();
    let is_permitted = condition.is_permitted || permits.contains(&Some(true));
    let passes = is_permitted && forbids.iter().all(|forbid| *forbid == Some(false));
    // Where nothing fails, the one text says the same.
    if !permits.contains(&None) {
        assert_eq!(holds(&condition.to_text()).unwrap_or(false), passes, "{}", condition.to_text());
    }
    passes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn who_can_and_what_can_agree_with_the_engine_for_every_pair(
        policies in prop::collection::vec(policy(), 1..7),
        tls in prop::sample::select(vec![0_u8, 1, 12, 13]),
        mtls in any::<bool>(),
        listener in prop::sample::select(vec!["public", "admin"]),
        picked in 0_usize..100,
    ) {
        let snapshot = compiled(&policies);
        let all = everybody(&snapshot);
        let callers: Vec<&Principal> = all.iter().filter_map(|who| match who { Who::One(one) => Some(one), Who::All { .. } => None }).collect();
        let mut engine = Engine::new(Arc::clone(&snapshot));
        let targets = [
            (Action::HttpGet, Resource::route("home")),
            (Action::HttpPost, Resource::route("admin")),
            (Action::Grpc, Resource::method("shop.Orders/Get")),
            (Action::Grpc, Resource::method("shop.Orders/Refund")),
        ];
        let mut seen = 0;
        for (action, resource) in &targets {
            let answers = who_can(&snapshot, *action, resource, &options()).unwrap();
            let assumed = OwnedFacts::assumed(*action, resource);
            let connection = ConnectionFacts { tls, mtls, listener: listener.into(), ..assumed.connection().clone() };
            let facts = assumed.with_connection(connection);
            for who in all.clone() {
                let standing = answers.items.iter().find(|line| line.who == who);
                // Of a class, several members.
                let members = match &who {
                    Who::One(principal) => vec![principal.clone()],
                    Who::All { class: Class::WorkloadsOf(domain), .. } => ["/web-2", "/stranger-2", "/x"]
                        .map(|path| Principal::workload(&format!("spiffe://{domain}{path}")))
                        .to_vec(),
                    Who::All { class: Class::OtherWorkloads, .. } => ["spiffe://a.example/web", "spiffe://b.example/w"]
                        .map(Principal::workload)
                        .to_vec(),
                    Who::All { like, .. } => vec![like.clone()],
                };
                for principal in members {
                    let request = AccessRequest { principal: &principal, action: *action, resource, facts: &facts, now: noon(), extra: None };
                    let is_allowed = engine.decide(&request).effect == Effect::Allow;
                    let expected = match standing.map(|line| &line.verdict) {
                        None => false,
                        Some(Verdict::Allow) => true,
                        Some(Verdict::Depends(condition)) => passes(condition, &snapshot, &request),
                    };
                    prop_assert_eq!(is_allowed, expected, "{} {} {}: {:?}\n{}", principal, action, resource, standing, policies.concat());
                    seen += 1;
                }
            }
        }
        prop_assert!(seen > 20);
        // Asked the other way round, the same.
        let caller = callers[picked % callers.len()];
        let all = what_can(&snapshot, caller, None, &options());
        for (action, resource) in &targets {
            let is_same = |line: &&Standing| line.resource == *resource && line.actions.contains(action);
            let forth = who_can(&snapshot, *action, resource, &options()).unwrap();
            let forth = forth.items.iter().find(|line| line.who == Who::One(caller.clone()));
            prop_assert_eq!(all.items.iter().find(is_same).map(|line| &line.verdict), forth.map(|line| &line.verdict));
        }
    }
}
