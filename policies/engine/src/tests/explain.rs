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

pub(super) fn question(action: Action, resource: Resource) -> RequestForExplain {
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
        recorded: Some(Recorded::new(Effect::Deny, Reason::NoPermit)),
        ..question(Action::Grpc, Resource::method("shop.Orders/Refund"))
    };
    let document = explain(&snapshot, &question).to_json(&question, &snapshot, Some(ID));
    let expected = serde_json::json!({
        "apiVersion": "portcullis/v1", "kind": "Explanation", "decision": ID, "effect": "deny", "reason": "no_permit",
        "why": "no permit matched; nearest: orders-read  [policies/orders.cedar:4]", "recomputed": "same", "policies": 41, "snapshot": 1207, "determining": [], "errors": [],
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
    let observed =
        Recorded { determining: vec!["stop".into()], ..Recorded::new(Effect::Allow, Reason::Forbid) };
    let observed = RequestForExplain {
        recorded: Some(observed),
        ..question(Action::Grpc, Resource::method("shop.Orders/Refund"))
    };
    let (word, line, _) = why(&observed, &options());
    assert_eq!(word, "ALLOW*");
    assert_eq!(line, " why    observe mode; would deny: forbid matched: stop [policies/orders.cedar:1]");
    let unknown = RequestForExplain {
        principal: Principal::anonymous(),
        recorded: Some(Recorded::new(Effect::Deny, Reason::NoIdentity)),
        ..question(Action::Grpc, Resource::method("shop.Orders/Get"))
    };
    let (word, line, _) = why(&unknown, &options());
    assert_eq!(word, "DENY");
    assert_eq!(line, " why    the caller presented no certificate; listener public requires one");
}

#[test]
fn ex6_a_recomputed_verdict_that_differs_is_told() {
    let snapshot = shop_with(ORDERS);
    let same = |effect, reason, determining: &[&str], is_whole, question: RequestForExplain| {
        let determining = determining.iter().map(|id| (*id).into()).collect();
        let recorded = Recorded { determining, is_whole, ..Recorded::new(effect, reason) };
        let question = RequestForExplain { recorded: Some(recorded), ..question };
        let explained = explain(&snapshot, &question);
        let text = explained.to_text(&question, &snapshot, &options());
        let is_same = explained.recomputed.and_then(|again| again.is_same);
        assert_eq!(text.contains("\n differs "), is_same == Some(false), "{text}");
        is_same
    };
    let refund = || question(Action::Grpc, Resource::method("shop.Orders/Refund"));
    let get = || question(Action::Grpc, Resource::method("shop.Orders/Get"));
    assert_eq!(same(Effect::Deny, Reason::NoPermit, &[], true, refund()), Some(true));
    assert_eq!(same(Effect::Allow, Reason::NoPermit, &[], true, refund()), Some(true), "observed");
    assert_eq!(same(Effect::Allow, Reason::Permit, &[], true, refund()), Some(false));
    assert_eq!(same(Effect::Allow, Reason::Permit, &["orders-read"], true, get()), Some(true));
    assert_eq!(same(Effect::Allow, Reason::Permit, &["other"], true, get()), Some(false), "another policy");
    assert_eq!(same(Effect::Allow, Reason::Permit, &["other"], false, get()), None, "a fact was cut");
    assert_eq!(same(Effect::Deny, Reason::UnknownMethod, &[], true, refund()), None);
    // A record does not hold the roles of a local user.
    let action = Action::Admin(AdminAction::EntryWrite);
    let admin = RequestForExplain {
        principal: Principal::local_user(0, None, &[]),
        ..question(action, Resource::trust_domain("example.org"))
    };
    assert_eq!(same(Effect::Allow, Reason::Permit, &["role-operator"], true, admin), None);
    let differs =
        RequestForExplain { recorded: Some(Recorded::new(Effect::Allow, Reason::Permit)), ..refund() };
    let explained = explain(&snapshot, &differs);
    let text = explained.to_text(&differs, &snapshot, &options());
    assert!(text.starts_with("ALLOW  web -> orders"), "the headline tells what happened: {text}");
    assert!(
        text.contains(" differs recorded allow, permit; the same policies now say deny, no_permit\n"),
        "{text}"
    );
    let document = explained.to_json(&differs, &snapshot, Some(ID));
    assert_eq!(
        (&document["recomputed"], &document["now"]["reason"]),
        (&"different".into(), &"no_permit".into())
    );
}

/// A question of each kind of denial, as the ledger would give it.
fn recorded(reason: Reason, detail: Option<&str>) -> RequestForExplain {
    let effect = if reason == Reason::Permit { Effect::Allow } else { Effect::Deny };
    let outcome = Recorded { detail: detail.map(str::to_owned), ..Recorded::new(effect, reason) };
    RequestForExplain {
        recorded: Some(outcome),
        ..question(Action::Grpc, Resource::method("shop.Orders/Refund"))
    }
}

#[test]
fn ex4_no_two_reasons_read_alike_and_each_says_what_it_means() {
    let policies = r#"@id("odd") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/Refund")
when { context.connection.tls + 9223372036854775800 > 0 };"#;
    let snapshot = shop_with(policies);
    let why = |reason| {
        let question = recorded(reason, None);
        explain(&snapshot, &question).cause(&question, &snapshot)
    };
    let mut said: Vec<String> = Reason::ALL.iter().map(|reason| why(*reason)).collect();
    assert!(said.iter().all(|why| why.len() > 15 && !why.ends_with(['.', ' ', ':'])), "{said:#?}");
    said.sort();
    let all = said.len();
    said.dedup();
    assert_eq!(said.len(), all, "two reasons read alike: {said:#?}");
    // Nothing but policies undoes a forbid, and no command un-revokes.
    for reason in [Reason::Forbid, Reason::IdentityRevoked, Reason::GateRefused, Reason::Permit] {
        assert_eq!(fix(reason, Some(ID)), None);
    }
    assert_eq!(fix(Reason::NoPermit, None), None, "a question nobody recorded");
    assert!(fix(Reason::NoIdentity, None).is_some());
}

#[test]
fn ex4_sentences_hold_the_values_of_the_call() {
    let snapshot = shop_with(ORDERS);
    let why = |question: &RequestForExplain| explain(&snapshot, question).cause(question, &snapshot);
    for (reason, detail, expected) in [
        (
            Reason::IdentityUntrusted,
            Some("unknown_trust_domain"),
            "the certificate of the caller is not trusted here: unknown trust domain (listener public)",
        ),
        (
            Reason::NotCanonical,
            Some("CC-03: an encoded slash"),
            "the request is not in canonical form: an encoded slash (rule CC-03, listener public)",
        ),
        (
            Reason::NotCanonical,
            Some("H1-19: too many fields"),
            "the request is above a limit: too many fields (rule H1-19, listener public)",
        ),
        (
            Reason::NotCanonical,
            Some("CC-03"),
            "the request is not in canonical form: rule CC-03 (listener public)",
        ),
        (Reason::UnknownMethod, None, "no service offers shop.Orders/Refund (listener public)"),
        (
            Reason::UnknownRoute,
            None,
            "no route matches POST /shop.Orders/Refund on host orders (listener public)",
        ),
        (
            Reason::AuthorityMismatch,
            None,
            "server name, authority and certificate disagree: sni is absent, authority is orders (listener public)",
        ),
        (
            Reason::RevokedByChange,
            Some("policies v42"),
            "a change of policies or entities ended this stream: policies v42",
        ),
        (Reason::PolicyStale, None, "the last policies are older than their limit: policies v41"),
    ] {
        assert_eq!(why(&recorded(reason, detail)), expected);
    }
    let gone = RequestForExplain {
        resource: Resource::method("shop.Orders/Gone"),
        recorded: None,
        ..recorded(Reason::EntityMissing, None)
    };
    assert_eq!(why(&gone), r#"the policies know nothing of Method "shop.Orders/Gone""#);
    // What never became a call.
    let nothing = RequestForExplain {
        principal: Principal::anonymous(),
        action: Action::TcpConnect,
        resource: Resource::unknown(),
        facts: OwnedFacts::local("public"),
        ..recorded(Reason::NoIdentity, None)
    };
    let text = explain(&snapshot, &nothing).to_text(&nothing, &snapshot, &TextOptions::default());
    assert!(text.starts_with("DENY  anonymous -> listener public  handshake   policies v41\n"), "{text}");
    let odd = RequestForExplain { action: Action::HttpOther, ..nothing };
    let text = explain(&snapshot, &odd).to_text(&odd, &snapshot, &TextOptions::default());
    assert!(text.starts_with("DENY  anonymous -> listener public  malformed request "), "{text}");
}

#[test]
fn ex4_a_forbid_that_fails_shows_attribute_entity_and_clause() {
    let policies = r#"@id("other-units") @owner("risk")
forbid (principal is Workload, action == Action::"grpc", resource)
when { context.connection.mtls && !(principal.hasTag("no") && principal.getTag("no") == "x") && principal.getTag("unit") == "eu" };
"#;
    // Strict validation asks for `hasTag`; entities alone can still lack what a schema makes optional.
    let found = snapshot_of(&[("p.cedar", policies)], shop()).map(|_| ());
    assert!(found.is_err(), "the validator takes an unguarded tag");
    let policies = r#"@id("sum") @owner("risk")
forbid (principal is Workload, action == Action::"grpc", resource)
when { context.connection.mtls && context.connection.tls + 9223372036854775800 > 0 };
"#;
    let snapshot = shop_with(policies);
    let question = recorded(Reason::ForbidError, None);
    let text = explain(&snapshot, &question).to_text(&question, &snapshot, &options());
    assert!(
        text.contains(" why    forbid could not be evaluated: sum: integer overflow while attempting to add"),
        "{text}"
    );
    assert!(text.contains("          condition  context.connection.mtls"), "{text}");
    assert!(text.contains("error: integer overflow"), "{text}");
    assert!(text.contains("\n who    risk\n"), "{text}");
}

#[test]
fn ex1_who_tells_how_often_since_when_and_after_which_version() {
    let snapshot = shop_with(ORDERS);
    let question = recorded(Reason::NoPermit, None);
    let mut explained = explain(&snapshot, &question);
    let repeats = Repeats { count: 1, is_more: false, since: noon(), policies: Some(40) };
    explained.repeats = Some(repeats);
    assert!(!explained.to_text(&question, &snapshot, &options()).contains("\n who "), "once is no repeat");
    explained.repeats = Some(Repeats { count: 14, ..repeats });
    let text = explained.to_text(&question, &snapshot, &options());
    let line =
        " who    refused 14 times in the last hour, since 2026-11-22T12:00:00Z, first by policies v40\n fix ";
    assert!(text.contains(line), "{text}");
    let who = explained.to_json(&question, &snapshot, Some(ID))["who"].clone();
    let since = noon().to_string();
    let expected = serde_json::json!({ "owner": null, "last_hour": 14, "is_more": false, "since": since, "policies": 40 });
    assert_eq!(who, expected);
}

#[test]
fn a_shadow_verdict_stands_beside_what_happened() {
    let snapshot = shop_with(ORDERS);
    let would = Would {
        effect: Effect::Deny,
        reason: Reason::Forbid,
        determining: vec!["no-gets".into()].into(),
        errors: Vec::new(),
        version: None,
    };
    let outcome = Recorded {
        determining: vec!["orders-read".into()],
        would: Some(would.clone()),
        ..Recorded::new(Effect::Allow, Reason::Permit)
    };
    let question = RequestForExplain {
        recorded: Some(outcome.clone()),
        ..question(Action::Grpc, Resource::method("shop.Orders/Get"))
    };
    let text = explain(&snapshot, &question).to_text(&question, &snapshot, &options());
    assert!(text.starts_with("ALLOW  web"), "{text}");
    assert!(text.contains("\n would  deny, forbid: no-gets  (with the shadow policies)\n"), "{text}");
    let would = Would { version: Some(42), ..would };
    let question =
        RequestForExplain { recorded: Some(Recorded { would: Some(would), ..outcome }), ..question };
    let text = explain(&snapshot, &question).to_text(&question, &snapshot, &options());
    assert!(text.contains("(policies v42, in shadow)\n"), "{text}");
}

#[test]
fn failed_conditions_show_time_attributes_and_tags() {
    let policies = r#"@id("weekdays")
permit (principal is Workload, action == Action::"grpc", resource is Method)
when { context.time.weekday < 6 && principal.path == "/api" && principal.hasTag("team") && principal.getTag("team") == "red" && resource.service != "orders" };
"#;
    let text = text_of(policies, &question(Action::Grpc, Resource::method("shop.Orders/Get")), &options());
    for failed in [
        "failed: time.weekday is 7",
        r#"failed: principal.path is "/web""#,
        r#"failed: principal.team is "blue""#,
        r#"failed: resource.service is "orders""#,
    ] {
        assert!(text.contains(failed), "`{failed}` is not said: {text}");
    }
}
