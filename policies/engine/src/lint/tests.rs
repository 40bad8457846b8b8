//! Each rule on one bad and one good policy.

mod edits;

use super::*;
use crate::{
    AccessRequest, Action, OwnedFacts, Principal, Resource, SnapshotInput,
    tests::{noon, shop_input},
};

const FILE: &str = "policies/orders.cedar";

fn compiled(text: &str) -> Result<(Snapshot, Vec<PolicySource>), Vec<Diagnostic>> {
    let input = shop_input(&[(FILE, text)]);
    let sources = input.policies.clone();
    crate::tests::compiled(input).map(|snapshot| (snapshot, sources))
}

fn told_with(text: &str, usage: Option<&Usage>) -> Vec<Diagnostic> {
    match compiled(text) {
        Ok((snapshot, sources)) => {
            lint(&snapshot, &sources, &LintInput { now: noon(), usage, coverage: None })
        }
        Err(found) => with_guards(found, &shop_input(&[(FILE, text)]).policies),
    }
}

fn told(text: &str) -> Vec<Diagnostic> {
    told_with(text, None)
}

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// `bad` is found at that line and column with words that help; `good` is not.
fn assert_rule(code: &str, bad: (&str, usize, usize), good: &str) {
    let found = told(bad.0);
    let of_code: Vec<_> = found.iter().filter(|finding| finding.code == code).collect();
    assert_eq!(of_code.len(), 1, "{code} on bad:\n{}", shown(&found));
    assert_eq!((of_code[0].line, of_code[0].column), (bad.1, bad.2), "{}", shown(&found));
    assert!(of_code[0].help.as_ref().is_some_and(|help| help.len() > 10), "no help: {}", shown(&found));
    let found = told(good);
    assert!(found.iter().all(|finding| finding.code != code), "{code} on good:\n{}", shown(&found));
}

const SCOPE: &str =
    "principal in Group::\"frontends\", action in Action::\"http:read\", resource == Route::\"home\"";

fn permit(condition: &str) -> String {
    format!("@id(\"a\")\npermit ({SCOPE})\nwhen {{ {condition} }};")
}

fn forbid(condition: &str) -> String {
    format!("@id(\"a\") @owner(\"shop\")\nforbid ({SCOPE})\nwhen {{ {condition} }};")
}

fn scope(principal: &str, action: &str, resource: &str) -> String {
    format!("@id(\"a\")\npermit ({principal}, {action}, {resource});")
}

#[test]
fn pc2103_a_permit_of_everything_to_everybody() {
    let good = scope("principal", "action == Action::\"http:GET\"", "resource");
    assert_rule("PC2103", (&scope("principal", "action", "resource"), 2, 1), &good);
    assert_rule("PC2103", ("@id(\"a\")\npermit (principal, action, resource) when { true };", 2, 1), &good);
    let found = told(&scope("principal", "action", "resource"));
    assert_eq!(found[0].severity, Severity::Error);
    assert!(
        found.iter().all(|finding| !matches!(finding.code, "PC2113" | "PC2115")),
        "said once: {}",
        shown(&found)
    );
}

#[test]
fn pc2104_a_name_that_nothing_offers() {
    let method = |name: &str| {
        scope(
            "principal in Group::\"money\"",
            "action == Action::\"grpc\"",
            &format!("resource == Method::\"{name}\""),
        )
    };
    let bad = method("shop.Orders/Refnd");
    let at = bad.lines().nth(1).unwrap().find("Method").unwrap() + 1;
    assert_rule("PC2104", (&bad, 2, at), &method("shop.Orders/Refund"));
    assert_eq!(told(&bad)[0].label, "did you mean `Method::\"shop.Orders/Refund\"`?");
    assert_eq!(
        told(&method("shop.orders/refund"))[0].label,
        "did you mean `Method::\"shop.Orders/Refund\"`?"
    );
    assert_eq!(told(&method("bank.Accounts/Close"))[0].label, "nothing has this name");
    let route = scope(
        "principal in Group::\"money\"",
        "action in Action::\"http\"",
        "resource in Service::\"sites\"",
    );
    assert_eq!(told(&route)[0].label, "did you mean `Service::\"site\"`?");
    let rpc = scope(
        "principal in Group::\"money\"",
        "action in Action::\"call\"",
        "resource in RpcService::\"shop.Order\"",
    );
    assert_eq!(told(&rpc)[0].message, "no service offers `RpcService::\"shop.Order\"`");
}

#[test]
fn pc2104_an_action_that_nothing_offers() {
    let text = scope("principal in Group::\"money\"", "action == Action::\"grpc\"", "resource");
    let mut input = shop_input(&[(FILE, &text)]);
    let found = warnings(&crate::tests::compiled(input.clone()).unwrap(), &input.policies);
    assert_eq!(shown(&found), "");
    let mut entities = (*input.entities).clone();
    entities.methods.clear();
    input.entities = entities.into();
    let found = warnings(&crate::tests::compiled(input.clone()).unwrap(), &input.policies);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, &*found[0].message), (2, "no method exists that this action could call"));
}

#[test]
fn pc2104_nothing_is_said_where_nobody_said_what_exists() {
    let text = scope("principal", "action == Action::\"http:GET\"", "resource == Route::\"nowhere\"");
    let input =
        SnapshotInput { entities: crate::EntitySet::default().into(), ..shop_input(&[(FILE, &text)]) };
    let snapshot = crate::tests::compiled(input.clone()).unwrap();
    assert_eq!(warnings(&snapshot, &input.policies), []);
    let asked = LintInput { now: noon(), usage: None, coverage: None };
    assert!(silent(&snapshot, &asked).iter().any(|(code, _)| *code == "PC2104"));
}

fn usage(id: &str, used: PolicyUse) -> Usage {
    Usage { window: Duration::from_secs(30 * 86_400), policies: [(id.to_owned(), used)].into() }
}

fn codes(found: &[Diagnostic]) -> Vec<&str> {
    found.iter().map(|finding| finding.code).collect()
}

#[test]
fn pc2105_a_policy_that_nothing_matched() {
    let text = permit("context.connection.mtls");
    let with = |used| told_with(&text, Some(&usage("a", used)));
    let found = with(PolicyUse::default());
    assert_eq!(codes(&found), ["PC2105"]);
    assert_eq!(found[0].message, "`a` matched no call in 30 days");
    assert_eq!(with(PolicyUse { matched: 1, ..PolicyUse::default() }), []);
    let yesterday = UnixTime::parse_rfc3339("2026-11-21T12:00:00Z").unwrap();
    assert_eq!(with(PolicyUse { since: Some(yesterday), ..PolicyUse::default() }), [], "too new to say");
    assert_eq!(codes(&told_with(&text, Some(&usage("other", PolicyUse::default())))), ["PC2105"]);
    assert_eq!(told(&text), [], "nobody was asked");
}

#[test]
fn pc2106_a_permit_that_a_forbid_always_overrules() {
    let both = |forbidden: &str| {
        format!("@id(\"a\")\npermit ({SCOPE});\n@id(\"b\") @owner(\"x\")\nforbid ({forbidden});")
    };
    let wide =
        both("principal in Namespace::\"shop\", action in Action::\"http\", resource in Service::\"site\"");
    let narrow =
        both("principal in Group::\"money\", action in Action::\"http\", resource in Service::\"site\"");
    // The shop's workloads are in the namespace, the group is not.
    assert!(!codes(&told(&wide)).contains(&"PC2106"));
    let all = both("principal, action in Action::\"http\", resource in Service::\"site\"");
    assert_rule("PC2106", (&all, 2, 1), &narrow);
    assert!(told(&all)[0].label.contains("policies/orders.cedar:4"), "{}", shown(&told(&all)));
    let conditional = all.replace("\"site\");", "\"site\") when { context.connection.tls == 12 };");
    assert!(!codes(&told(&conditional)).contains(&"PC2106"));
    let one = both("principal, action == Action::\"http:GET\", resource");
    assert!(!codes(&told(&one)).contains(&"PC2106"), "HEAD is still permitted");
    let replayed = PolicyUse { matched: 9, overruled: Some(("b".to_owned(), 9)), since: None };
    let found = told_with(&permit("context.connection.mtls"), Some(&usage("a", replayed)));
    assert_eq!(found[0].message, "`a` granted nothing in 30 days: `b` refused all 9 calls it matched");
}

#[test]
fn pc2106_permits_alone_tell_what_a_forbid_overruled() {
    let text = format!(
        "@id(\"a\")\npermit ({SCOPE});\n@id(\"b\") @owner(\"x\")\nforbid ({SCOPE}) when {{ context.connection.mtls }};"
    );
    let (snapshot, _) = compiled(&text).unwrap();
    let (principal, action, resource) =
        (Principal::workload("spiffe://example.org/web"), Action::HttpGet, Resource::route("home"));
    let facts = OwnedFacts::assumed(action, &resource);
    let request = AccessRequest {
        principal: &principal,
        action,
        resource: &resource,
        facts: &facts,
        now: noon(),
        extra: None,
    };
    assert_eq!(*snapshot.decide(&request).determining, ["b".into()]);
    assert_eq!(*permits(&snapshot).decide(&request).determining, ["a".into()]);
}

#[test]
fn pc2107_an_optional_attribute_without_a_guard() {
    assert_rule(
        "PC2107",
        (&permit("context.connection.sni == \"x\""), 3, 8),
        &permit("context.connection has sni && context.connection.sni == \"x\""),
    );
    assert_rule(
        "PC2107",
        (&permit("principal is Workload && principal.getTag(\"team\") == \"blue\""), 3, 33),
        &permit(
            "principal is Workload && principal.hasTag(\"team\") && principal.getTag(\"team\") == \"blue\"",
        ),
    );
}

#[test]
fn pc2108_a_pattern_on_a_path_that_matches_more_than_it_shows() {
    let path = |pattern: &str| permit(&format!("context.request.path like \"{pattern}\""));
    for bad in ["/orders/*/items", "*/admin", "/admin*", "/a/*/b/*"] {
        assert_rule("PC2108", (&path(bad), 3, 8), &path("/public/*"));
    }
    assert_rule("PC2108", (&path("/a*"), 3, 8), &path("/a"));
}

#[test]
fn pc2109_a_spiffe_path_compared_as_text() {
    let of = |condition: &str| {
        format!(
            "@id(\"a\")\npermit (principal is Workload in Namespace::\"shop\", action == Action::\"http:GET\", resource == Route::\"home\")\nwhen {{ {condition} }};"
        )
    };
    assert_rule(
        "PC2109",
        (&of("principal.path == \"/web\""), 3, 8),
        &of("principal in Group::\"frontends\""),
    );
    assert_rule(
        "PC2109",
        (&of("context.connection.mtls && principal.path like \"/web*\""), 3, 35),
        &of("context.request.path == \"/x\""),
    );
    assert_rule(
        "PC2109",
        (&of("[\"/a\"].contains(principal.path)"), 3, 8),
        &of("[\"/a\"].contains(context.request.path)"),
    );
}

#[test]
fn pc2110_a_forbid_that_nobody_owns() {
    let bad = format!("@id(\"a\")\nforbid ({SCOPE});");
    assert_rule("PC2110", (&bad, 2, 1), &format!("@id(\"a\") @owner(\"shop\")\nforbid ({SCOPE});"));
    assert!(!codes(&told(&permit("true"))).contains(&"PC2110"));
}

#[test]
fn pc2111_a_context_field_that_does_not_exist() {
    assert_rule("PC2111", (&permit("context.conection.mtls"), 3, 8), &permit("context.connection.mtls"));
    let header = |name: &str| permit(&format!("context.request.headers has \"{name}\""));
    assert_rule("PC2111", (&header("x-team"), 3, 8), &header("x-tenant"));
}

#[test]
fn pc2112_one_value_of_several_is_not_enough_for_a_permit() {
    let tenant = "context.request.headers has \"x-tenant\" && context.request.headers[\"x-tenant\"]";
    let bad = permit(&format!("{tenant}.contains(\"a\")"));
    assert_rule("PC2112", (&bad, 3, 50), &permit(&format!("{tenant} == [\"a\"]")));
    // Where it keeps the permit from matching, one value is right.
    let unless = format!("@id(\"a\")\npermit ({SCOPE})\nunless {{ {tenant}.contains(\"a\") }};");
    assert!(!codes(&told(&unless)).contains(&"PC2112"), "{}", shown(&told(&unless)));
    assert!(!codes(&told(&permit(&format!("!({tenant}.contains(\"a\"))")))).contains(&"PC2112"));
    assert!(!codes(&told(&forbid(&format!("{tenant}.contains(\"a\")")))).contains(&"PC2112"));
    let any = told(&permit(&format!("{tenant}.containsAny([\"a\", \"b\"])")));
    assert_eq!((codes(&any), any[0].fix.is_none()), (vec!["PC2112"], true), "no edit means the same");
}

#[test]
fn pc2113_a_permit_for_whoever_has_an_identity() {
    let of =
        |principal: &str| scope(principal, "action == Action::\"http:GET\"", "resource == Route::\"home\"");
    for bad in [
        "principal",
        "principal is Workload",
        "principal in TrustDomain::\"example.org\"",
        "principal is Workload in TrustDomain::\"example.org\"",
        "principal is User",
    ] {
        assert_rule("PC2113", (&of(bad), 2, 1), &of("principal in Group::\"frontends\""));
    }
    assert!(!codes(&told(&of("principal == Anonymous::\"anonymous\""))).contains(&"PC2113"));
    let by_token =
        of("principal").replace(");", ") when { context has jwt && context.jwt.scopes.contains(\"read\") };");
    assert!(!codes(&told(&by_token)).contains(&"PC2113"), "{}", shown(&told(&by_token)));
}

#[test]
fn pc2114_a_policy_that_its_cases_do_not_cover() {
    let (snapshot, sources) = compiled(&permit("context.connection.mtls")).unwrap();
    let coverage = crate::CoverageTally::default().finish(&snapshot);
    let asked = |threshold| LintInput { now: noon(), usage: None, coverage: Some((&coverage, threshold)) };
    let found = lint(&snapshot, &sources, &asked(80));
    assert_eq!(codes(&found), ["PC2114"]);
    assert_eq!(found[0].message, "cases cover 0 % of `a`; at least 80 % are asked for");
    assert_eq!(lint(&snapshot, &sources, &asked(0)), []);
}

#[test]
fn pc2115_anonymous_callers_that_may_write() {
    let of = |principal: &str, action: &str| {
        scope(principal, &format!("action in Action::\"{action}\""), "resource")
    };
    let good = of("principal == Anonymous::\"anonymous\"", "http:read");
    for (principal, action) in [
        ("principal", "http"),
        ("principal == Anonymous::\"anonymous\"", "http:write"),
        ("principal is Anonymous", "call"),
    ] {
        assert_rule("PC2115", (&of(principal, action), 2, 1), &good);
    }
    let read = |method: &str| {
        scope(
            "principal == Anonymous::\"anonymous\"",
            "action == Action::\"grpc\"",
            &format!("resource == Method::\"{method}\""),
        )
    };
    assert_rule("PC2115", (&read("shop.Orders/Refund"), 2, 1), &read("shop.Orders/Get"));
    let mtls = of("principal", "http").replace(");", ") when { context.connection.mtls };");
    assert!(!codes(&told(&mtls)).contains(&"PC2115"));
}

#[test]
fn pc2116_a_forbid_that_can_error() {
    assert_rule(
        "PC2116",
        (&forbid("context.request.segment_count * 2 > 10"), 3, 8),
        &forbid("context.request.segment_count > 5"),
    );
    assert_rule(
        "PC2116",
        (&forbid("principal is Workload && principal.getTag(\"team\") == \"blue\""), 3, 33),
        &forbid(
            "principal is Workload && principal.hasTag(\"team\") && principal.getTag(\"team\") == \"blue\"",
        ),
    );
    assert!(
        !codes(&told(&permit("context.request.segment_count * 2 > 10"))).contains(&"PC2116"),
        "a permit that errors grants nothing"
    );
}

#[test]
fn pc2117_a_shadow_policy_that_was_forgotten() {
    let text = permit("context.connection.mtls").replace("@id(\"a\")", "@id(\"a\")\n@mode(\"shadow\")");
    let with = |since: &str| {
        let since = Some(UnixTime::parse_rfc3339(since).unwrap());
        told_with(&text, Some(&usage("a", PolicyUse { matched: 1, since, overruled: None })))
    };
    let found = with("2026-10-01T00:00:00Z");
    assert_eq!((codes(&found), found[0].line), (vec!["PC2117"], 2));
    assert_eq!(found[0].message, "`a` is in shadow mode for 52 days");
    assert_eq!(with("2026-11-01T00:00:00Z"), []);
}

#[test]
fn pc2118_a_permit_that_ends() {
    let until = |time: &str| {
        permit("context.connection.mtls").replace("@id(\"a\")", &format!("@id(\"a\")\n@expires(\"{time}\")"))
    };
    assert_rule("PC2118", (&until("2026-11-30T00:00:00Z"), 2, 1), &until("2027-01-01T00:00:00Z"));
    assert_eq!(told(&until("2026-11-30T00:00:00Z"))[0].message, "`a` ends in 7 days");
    assert_rule("PC2118", (&until("2026-11-01T00:00:00Z"), 2, 1), &permit("context.connection.mtls"));
}

#[test]
fn pc2119_a_condition_on_time_for_streams() {
    let of = |action: &str, resource: &str| {
        format!(
            "@id(\"a\")\npermit (principal in Group::\"frontends\", action == Action::\"{action}\", resource == {resource})\nwhen {{ context.time.minute < 600 }};"
        )
    };
    assert_rule(
        "PC2119",
        (&of("grpc", "Method::\"shop.Orders/Get\""), 3, 8),
        &of("http:GET", "Route::\"home\""),
    );
}

#[test]
fn pc2120_a_policy_that_is_not_compiled() {
    assert_rule(
        "PC2120",
        (&permit("[context.request.host].contains(\"a\")"), 2, 1),
        &permit("[\"a\"].contains(context.request.host)"),
    );
}

#[test]
fn pc2121_characters_that_deceive() {
    let note = |text: &str| format!("// {text}\n{}", permit("context.connection.mtls"));
    assert_rule("PC2121", (&note("user\u{202e}"), 1, 8), &note("plain \u{e9}"));
    assert_rule(
        "PC2121",
        (&permit("context.request.path == \"/\u{430}dmin\""), 3, 32),
        &permit("context.request.path == \"/admin\""),
    );
    assert_rule("PC2121", (&permit("context.request.path == \"/ad\u{200b}min\""), 3, 36), &permit("true"));
    assert_rule(
        "PC2121",
        (&permit("principal in Group::\"\u{440}ay\""), 3, 21),
        &permit("principal in Group::\"pay\""),
    );
}

#[test]
fn every_rule_has_its_own_code_in_order() {
    assert!(RULES.windows(2).all(|pair| pair[0].code < pair[1].code));
    assert!(RULES.iter().all(|rule| !OTHER_CODES.contains(&rule.code)));
}
