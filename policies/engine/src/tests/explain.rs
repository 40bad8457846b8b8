//! Explanations, word for word.

use super::*;
use crate::explain::*;

const ORDERS: &str = r#"// Orders: what the shop front may do.

@id("orders-read")
permit (
  principal == Workload::"spiffe://example.org/web",
  action in Action::"call",
  resource is Method in RpcService::"shop.Orders"
)
when { resource in [Method::"shop.Orders/Get", Method::"shop.Orders/List"] };
"#;
const ID: &str = "01JD8Z6N4T0B7K3Q5XW2M9E47Q";

fn question(action: Action, resource: Resource) -> RequestForExplain {
    let resource = resource.within("orders", Some("shop"));
    let facts = OwnedFacts::assumed(action, &resource);
    RequestForExplain { principal: web(), action, resource, facts, now: noon(), extra: None, recorded: None }
}

fn options() -> TextOptions {
    TextOptions {
        decision: Some(ID.into()),
        age: Some("3 s ago".into()),
        enforcer: Some("gw-1".into()),
        shorten: true,
        ..TextOptions::default()
    }
}

fn text_of(policies: &str, question: &RequestForExplain, options: &TextOptions) -> String {
    let snapshot = shop_with(policies);
    explain(&snapshot, question).to_text(question, &snapshot, options)
}

#[test]
fn ex1_the_sentence_the_product_is_built_around() {
    let text = text_of(ORDERS, &question(Action::Grpc, Resource::method("shop.Orders/Refund")), &options());
    assert_eq!(
        text,
        r#"DENY  web -> orders  POST /shop.Orders/Refund   3 s ago   decision 01JD…7Q   policies v41 (enforcer gw-1)
 why    no permit matched; nearest: orders-read  [policies/orders.cedar:4]
          principal  Workload "spiffe://example.org/web"    matched
          action     call                                   matched
          resource   Method "shop.Orders/Refund"            failed: policy names shop.Orders/Get, /List
 fix    portcullis policy suggest 01JD…7Q     (a minimal permit and its test, and what it would change in the last 24 h)
"#
    );
}

#[test]
fn ex7_the_document_has_the_same_content() {
    let snapshot = shop_with(ORDERS);
    let question = RequestForExplain {
        recorded: Some((Effect::Deny, Reason::NoPermit)),
        ..question(Action::Grpc, Resource::method("shop.Orders/Refund"))
    };
    let document = explain(&snapshot, &question).to_json(&snapshot, Some(ID));
    let expected = serde_json::json!({
        "apiVersion": "portcullis/v1", "kind": "Explanation", "decision": ID, "effect": "deny", "reason": "no_permit",
        "recomputed": "same", "policies": 41, "snapshot": 1207, "determining": [], "errors": [],
        "nearest": [{
            "policy": "orders-read", "effect": "permit", "source": { "file": "policies/orders.cedar", "line": 4 },
            "parts": [
                { "part": "principal", "result": "matched", "policy": "== Workload::\"spiffe://example.org/web\"", "request": "Workload::\"spiffe://example.org/web\"" },
                { "part": "action", "result": "matched", "policy": "in Action::\"call\"", "request": "Action::\"grpc\"" },
                { "part": "resource", "result": "failed", "policy": "in [Method::\"shop.Orders/Get\", Method::\"shop.Orders/List\"]", "request": "Method::\"shop.Orders/Refund\"" },
            ],
        }],
        "who": null, "fix": ["portcullis", "policy", "suggest", ID],
    });
    assert_eq!(document, expected);
}

#[test]
fn conditions_show_what_was_compared_and_what_was_not_reached() {
    let policies = r#"@id("guarded") @owner("team-shop")
permit (principal in Group::"frontends", action == Action::"grpc", resource)
when { context.connection.tls == 13 && context.connection.mtls && (context.connection.listener == "inner" || context.request.host == "x") }
unless { context.connection.tls + 9223372036854775800 > 0 };
"#;
    let text = text_of(
        policies,
        &question(Action::Grpc, Resource::method("shop.Orders/Get")),
        &TextOptions::default(),
    );
    assert_eq!(
        text,
        r#"DENY  web -> orders  POST /shop.Orders/Get   policies v41
 why    no permit matched; nearest: guarded  [policies/orders.cedar:2]
          principal  in Group "frontends"                                                     matched
          action     grpc                                                                     matched
          resource   any                                                                      matched
          condition  context.connection.tls == 13                                             matched
          condition  context.connection.mtls                                                  matched
          condition  context.connection.listener == "inner" || context.request.host == "x"    failed: connection.listener is "public", request.host is "orders"
          condition  !(context.connection.tls + 9223372036854775800 > 0)                      not reached
 who    team-shop
"#
    );
}

#[test]
fn ex3_the_nearest_permit_comes_first_and_out_of_force_ones_say_so() {
    let policies = r#"
@id("by-principal") permit (principal == Workload::"spiffe://example.org/billing", action == Action::"grpc", resource == Method::"shop.Orders/Refund");
@id("by-condition") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource == Method::"shop.Orders/Refund") when { !context.connection.mtls };
@id("by-resource") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource == Method::"shop.Orders/Get");
@id("two-off") permit (principal == Workload::"spiffe://example.org/billing", action == Action::"grpc", resource == Method::"shop.Orders/Get");
"#;
    let nearest = |policies: &str| {
        let snapshot = shop_with(policies);
        let explained = explain(&snapshot, &question(Action::Grpc, Resource::method("shop.Orders/Refund")));
        explained.nearest.iter().map(|n| n.place.policy.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(nearest(policies), ["by-resource", "by-condition", "by-principal"]);
    let out = r#"
@id("old") @expires("2026-11-01T00:00:00Z") permit (principal, action == Action::"grpc", resource);
@id("try") @mode("shadow") permit (principal, action == Action::"grpc", resource);
"#;
    assert_eq!(nearest(out), ["old", "try"]);
    let all = TextOptions { all: true, ..TextOptions::default() };
    let text = text_of(out, &question(Action::Grpc, Resource::method("shop.Orders/Refund")), &all);
    assert!(text.contains("failed: expired 2026-11-01\n"), "{text}");
    assert!(text.contains("        next: try  [policies/orders.cedar:3]\n"), "{text}");
    assert!(text.contains("failed: a shadow policy, not in force\n"), "{text}");
    assert_eq!(nearest(""), Vec::<String>::new());
}

#[test]
fn ex4_every_reason_has_its_sentence() {
    let policies = r#"@id("stop") @owner("money") forbid (principal, action, resource == Method::"shop.Orders/Refund");
@id("odd") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/List")
when { context.connection.tls + 9223372036854775800 > 0 };
@id("ok") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get");"#;
    let why = |question: &RequestForExplain, options: &TextOptions| {
        let text = text_of(policies, question, options);
        (
            text.lines().next().unwrap().split("  ").next().unwrap().to_owned(),
            text.lines().nth(1).unwrap().to_owned(),
            text,
        )
    };
    let (word, line, text) = why(&question(Action::Grpc, Resource::method("shop.Orders/Refund")), &options());
    assert_eq!(
        (word.as_str(), line.as_str()),
        ("DENY", " why    forbid matched: stop [policies/orders.cedar:1]")
    );
    assert!(text.contains(" who    money\n") && !text.contains(" fix "), "{text}");
    let (_, line, _) = why(&question(Action::Grpc, Resource::method("shop.Orders/List")), &options());
    assert!(line.starts_with(" why    forbid could not be evaluated: odd: integer overflow"), "{line}");
    let (word, line, _) = why(&question(Action::Grpc, Resource::method("shop.Orders/Get")), &options());
    assert_eq!((word.as_str(), line.as_str()), ("ALLOW", " why    permit matched: ok"));
    let observed = TextOptions { is_observed: true, ..options() };
    let (word, line, _) = why(&question(Action::Grpc, Resource::method("shop.Orders/Refund")), &observed);
    assert_eq!(word, "ALLOW*");
    assert_eq!(line, " why    observe mode; would deny: forbid matched: stop [policies/orders.cedar:1]");
    let unknown = RequestForExplain {
        principal: Principal::anonymous(),
        recorded: Some((Effect::Deny, Reason::NoIdentity)),
        ..question(Action::Grpc, Resource::method("shop.Orders/Get"))
    };
    let (word, line, _) = why(&unknown, &options());
    assert_eq!(word, "DENY");
    assert_eq!(line, " why    the caller presented no certificate; listener public requires one");
}

#[test]
fn ex6_a_recomputed_verdict_that_differs_is_told() {
    let snapshot = shop_with(ORDERS);
    let same = |recorded, question: RequestForExplain| {
        let question = RequestForExplain { recorded: Some(recorded), ..question };
        explain(&snapshot, &question).is_same
    };
    let refund = || question(Action::Grpc, Resource::method("shop.Orders/Refund"));
    assert_eq!(same((Effect::Deny, Reason::NoPermit), refund()), Some(true));
    assert_eq!(same((Effect::Allow, Reason::NoPermit), refund()), Some(true), "observed");
    assert_eq!(same((Effect::Allow, Reason::Permit), refund()), Some(false));
    assert_eq!(same((Effect::Deny, Reason::UnknownMethod), refund()), None);
    // A record does not hold the roles of a local user.
    let action = Action::Admin(AdminAction::EntryWrite);
    let admin = RequestForExplain {
        principal: Principal::local_user(0, None, &[]),
        ..question(action, Resource::trust_domain("example.org"))
    };
    let question = RequestForExplain { recorded: Some((Effect::Allow, Reason::Permit)), ..admin };
    let explained = explain(&snapshot, &question);
    assert_eq!((explained.is_same, explained.effect), (None, Effect::Allow));
}
