//! One test per way a verdict comes about.

use super::*;
use std::sync::Arc;

const READ: &str = r#"
@id("orders-read")
permit (principal in Group::"frontends", action == Action::"grpc", resource is Method in RpcService::"shop.Orders")
when { resource in [Method::"shop.Orders/Get", Method::"shop.Orders/List"] };
@id("home")
permit (principal, action in Action::"http:read", resource == Route::"home");
"#;

fn refund() -> Resource {
    Resource::method("shop.Orders/Refund")
}

#[test]
fn a_permit_allows_and_is_named() {
    let snapshot = shop_with(READ);
    let decision = ask(&snapshot, &web(), Action::Grpc, &get());
    assert_eq!((decision.effect, decision.reason), (Effect::Allow, Reason::Permit));
    assert_eq!((ids(&decision), decision.evaluated), (vec!["orders-read"], Evaluated::Constant));
    let decision = ask(&snapshot, &Principal::anonymous(), Action::HttpGet, &Resource::route("home"));
    assert_eq!((ids(&decision), decision.evaluated), (vec!["home"], Evaluated::Constant));
}

#[test]
fn rw1_no_permit_forbid_error_and_missing_target_are_four_words() {
    let text = READ.to_owned()
        + r#"@id("no-refunds") @owner("money") forbid (principal, action, resource == Method::"shop.Orders/Refund");
             @id("wide") permit (principal in Group::"money", action, resource);
             @id("guard") forbid (principal, action == Action::"http:POST", resource is Route)
             when { context.request.segment_count + 9223372036854775807 > 0 };"#;
    let snapshot = shop_with(&text);
    let billing = Principal::workload("spiffe://example.org/billing");
    let no_permit = ask(&snapshot, &Principal::workload("spiffe://example.org/other"), Action::Grpc, &get());
    assert_eq!((no_permit.effect, no_permit.reason), (Effect::Deny, Reason::NoPermit));
    assert!(no_permit.determining.is_empty());
    let forbid = ask(&snapshot, &billing, Action::Grpc, &refund());
    assert_eq!((forbid.reason, ids(&forbid)), (Reason::Forbid, vec!["no-refunds"]));
    let missing = ask(&snapshot, &billing, Action::HttpGet, &Resource::route("nowhere"));
    assert_eq!(missing.reason, Reason::EntityMissing);
    assert_eq!(ask(&snapshot, &billing, Action::Grpc, &Resource::unknown()).reason, Reason::EntityMissing);

    let post = |path: &str| {
        let request = OwnedRequest { method: "POST".into(), path: path.into(), ..OwnedRequest::default() };
        let facts = OwnedFacts::local("public").with_request(request);
        let (action, resource) = (Action::HttpPost, Resource::route("home"));
        snapshot.decide(&AccessRequest {
            principal: &billing,
            action,
            resource: &resource,
            facts: &facts,
            now: noon(),
            extra: None,
        })
    };
    let error = post("/a/b");
    assert_eq!((error.effect, error.reason), (Effect::Deny, Reason::ForbidError), "se1");
    assert_eq!((&*error.errors[0].policy, error.errors[0].class), ("guard", ErrorClass::Overflow));
    assert!(error.determining.is_empty());
    assert_eq!(post("/").reason, Reason::Forbid, "without overflow the forbid simply matches");
}

#[test]
fn se2_a_permit_that_errors_grants_nothing_and_is_listed() {
    let text = r#"@id("odd") permit (principal, action == Action::"grpc", resource)
        when { context.connection.tls + 9223372036854775800 > 0 };
        @id("plain") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get");"#;
    let snapshot = shop_with(text);
    let allowed = ask(&snapshot, &web(), Action::Grpc, &get());
    assert_eq!((ids(&allowed), allowed.errors.len()), (vec!["plain"], 1));
    let denied = ask(&snapshot, &web(), Action::Grpc, &refund());
    assert_eq!((denied.reason, denied.errors.len()), (Reason::NoPermit, 1));
}

#[test]
fn facts_that_are_absent_or_impossible_deny() {
    let snapshot = shop_with(
        r#"@id("p") permit (principal, action, resource is Route) when { context.request.host == "x" || (context.request has length && context.request.length > 9) };"#,
    );
    let (principal, resource) = (web(), Resource::route("home"));
    let ask = |facts: &OwnedFacts, action| {
        let request = AccessRequest {
            principal: &principal,
            action,
            resource: &resource,
            facts,
            now: noon(),
            extra: None,
        };
        snapshot.decide(&request).reason
    };
    assert_eq!(ask(&OwnedFacts::local("public"), Action::HttpGet), Reason::ContextIncomplete);
    let huge = OwnedRequest { length: Some(u64::MAX), ..OwnedRequest::default() };
    assert_eq!(ask(&OwnedFacts::local("public").with_request(huge), Action::HttpGet), Reason::ContextInvalid);
    let issue = Action::Admin(AdminAction::IdentityIssue);
    let agent = Principal::agent("spiffe://example.org/portcullis/agent/n1");
    assert_eq!(
        super::ask(&snapshot, &agent, issue, &Resource::workload("spiffe://example.org/web")).reason,
        Reason::ContextIncomplete
    );
}

#[test]
fn mo6_an_unknown_workload_is_judged_from_its_id_and_inherits_nothing_else() {
    let text = r#"
        @id("domain") permit (principal in TrustDomain::"example.org", action == Action::"grpc", resource == Method::"shop.Orders/Get");
        @id("path") permit (principal is Workload, action == Action::"grpc", resource) when { principal.path == "/new" };
        @id("group") permit (principal in Namespace::"shop", action, resource == Method::"shop.Orders/Refund");"#;
    let snapshot = shop_with(text);
    let new = Principal::workload("spiffe://example.org/new");
    assert_eq!(ids(&ask(&snapshot, &new, Action::Grpc, &get())), ["domain", "path"]);
    assert_eq!(ids(&ask(&snapshot, &new, Action::Grpc, &refund())), ["path"]);
    let foreign = Principal::workload("spiffe://other.org/old");
    assert_eq!(ask(&snapshot, &foreign, Action::Grpc, &get()).reason, Reason::NoPermit);
    assert_eq!(
        ask(&snapshot, &Principal::workload("not an id"), Action::Grpc, &get()).reason,
        Reason::EntityMissing
    );
    assert_eq!(ids(&ask(&snapshot, &web(), Action::Grpc, &refund())), ["group"]);
}

#[test]
fn what_the_schema_does_not_offer_is_denied_whatever_policies_say() {
    let snapshot = shop_with(r#"@id("all") permit (principal, action, resource);"#);
    let read = Action::Admin(AdminAction::PolicyRead);
    assert_eq!(
        ask(&snapshot, &Principal::anonymous(), read, &Resource::policy_scope("/")).reason,
        Reason::NoPermit
    );
    assert_eq!(ask(&snapshot, &web(), Action::Grpc, &Resource::route("home")).reason, Reason::NoPermit);
    assert!(ask(&snapshot, &web(), Action::Grpc, &get()).is_allowed());
}

#[test]
fn a_local_user_has_the_roles_that_are_facts() {
    let snapshot = shop_with("");
    let write = Action::Admin(AdminAction::EntryWrite);
    let domain = Resource::trust_domain("example.org");
    let decision = ask(&snapshot, &Principal::local_user(0, Some("root"), &[Role::Operator]), write, &domain);
    assert_eq!((ids(&decision), decision.audit), (vec!["role-operator"], Audit::Durable));
    assert_eq!(
        ask(&snapshot, &Principal::local_user(1000, None, &[]), write, &domain).reason,
        Reason::NoPermit
    );
    assert_eq!(
        ask(&snapshot, &Principal::local_user(1000, None, &[Role::Viewer]), write, &domain).reason,
        Reason::NoPermit
    );
}

#[test]
fn a_permit_ends_at_its_instant_even_from_a_cached_plan() {
    let text = r#"@id("a") @expires("2026-11-22T12:00:00Z") permit (principal, action == Action::"grpc", resource);
                  @id("b") @expires("2026-11-22T12:00:00Z") permit (principal, action == Action::"grpc", resource) when { context.connection.mtls };"#;
    let mut engine = Engine::new(shop_with(text));
    let (principal, resource) = (web(), get());
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let mut at = |time: &str| {
        let now = UnixTime::parse_rfc3339(time).unwrap();
        engine.decide(&AccessRequest {
            principal: &principal,
            action: Action::Grpc,
            resource: &resource,
            facts: &facts,
            now,
            extra: None,
        })
    };
    assert_eq!(ids(&at("2026-11-22T11:59:59.999Z")), ["a", "b"]);
    assert_eq!(at("2026-11-22T12:00:00Z").reason, Reason::NoPermit);
    assert_eq!(ids(&at("2026-11-22T11:00:00Z")), ["a", "b"]);
}

#[test]
fn sh1_shadow_policies_change_what_would_happen_and_nothing_else() {
    let text = r#"
        @id("live") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get");
        @id("stop") @mode("shadow") forbid (principal, action, resource == Method::"shop.Orders/Get");
        @id("grant") @mode("shadow") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Refund")
        when { context.connection.mtls };
        @id("broken") @mode("shadow") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/List")
        when { context.connection.tls + 9223372036854775800 > 0 };"#;
    let snapshot = shop_with(text);
    let stopped = ask(&snapshot, &web(), Action::Grpc, &get());
    let would = stopped.would.as_ref().unwrap();
    assert_eq!((stopped.effect, would.effect, would.reason), (Effect::Allow, Effect::Deny, Reason::Forbid));
    assert_eq!((ids(&stopped), &*would.determining[0]), (vec!["live"], "stop"));
    let granted = ask(&snapshot, &web(), Action::Grpc, &refund());
    assert_eq!((granted.effect, granted.would.unwrap().effect), (Effect::Deny, Effect::Allow));
    let broken = ask(&snapshot, &web(), Action::Grpc, &Resource::method("shop.Orders/List"));
    assert_eq!((broken.reason, broken.errors.len()), (Reason::NoPermit, 0));
    assert_eq!(broken.would.unwrap().reason, Reason::ForbidError);
    assert_eq!(ask(&snapshot, &web(), Action::HttpGet, &Resource::route("home")).would, None);
}

#[test]
fn sh4_observe_softens_engine_denials_and_nothing_else() {
    let text = READ.to_owned()
        + r#"@id("site-forbid") @owner("x") forbid (principal, action, resource == Method::"shop.Orders/Refund");
             @id("guard") forbid (principal, action == Action::"http:POST", resource) when { context.request.segment_count + 9223372036854775807 > 0 };"#;
    let snapshot = shop_with(&text);
    let denied = ask(&snapshot, &web(), Action::Grpc, &refund());
    let passed = observe(denied.clone(), &snapshot);
    assert_eq!((passed.effect, passed.reason), (Effect::Allow, Reason::Forbid));
    let would = passed.would.unwrap();
    assert_eq!(
        (would.effect, would.reason, would.determining),
        (Effect::Deny, Reason::Forbid, denied.determining)
    );
    let no_permit = ask(&snapshot, &Principal::workload("spiffe://other.org/x"), Action::Grpc, &get());
    assert!(observe(no_permit, &snapshot).is_allowed());

    let facts = OwnedFacts::local("public")
        .with_request(OwnedRequest { path: "/a".into(), ..OwnedRequest::default() });
    let (principal, resource) = (web(), Resource::route("home"));
    let request = AccessRequest {
        principal: &principal,
        action: Action::HttpPost,
        resource: &resource,
        facts: &facts,
        now: noon(),
        extra: None,
    };
    let error = snapshot.decide(&request);
    assert_eq!(error.reason, Reason::ForbidError);
    assert_eq!(observe(error.clone(), &snapshot), error);
    for reason in Reason::ALL
        .iter()
        .filter(|reason| !matches!(reason, Reason::NoPermit | Reason::Forbid | Reason::Permit))
    {
        assert!(!observe(Decision::refusal(*reason), &snapshot).is_allowed(), "{reason}");
    }
    let shipped = Decision {
        determining: Arc::from([Arc::from("agents-issue-own-entries")]),
        ..Decision::refusal(Reason::Forbid)
    };
    assert!(!observe(shipped, &snapshot).is_allowed(), "baseline forbids stand");
}

#[test]
fn en7_unknown_callers_and_targets_make_no_plans_of_their_own() {
    let mut engine = Engine::new(shop_with(READ));
    let facts = OwnedFacts::assumed(Action::Grpc, &get());
    let mut ask = |principal: &Principal, resource: &Resource| {
        let _decision = engine.decide(&AccessRequest {
            principal,
            action: Action::Grpc,
            resource,
            facts: &facts,
            now: noon(),
            extra: None,
        });
        engine.plan_count()
    };
    for n in 0..50 {
        assert_eq!(ask(&Principal::workload(&format!("spiffe://example.org/x{n}")), &get()), 1);
        assert_eq!(
            ask(&Principal::workload("spiffe://example.org/x"), &Resource::method(&format!("a.B/C{n}"))),
            1
        );
    }
    assert_eq!(ask(&web(), &get()), 2);
    assert_eq!(ask(&web(), &get()), 2);
}

#[test]
fn va3_the_facts_fit_the_schema_for_every_action() {
    let snapshot = shop_with("");
    let lines = |line: &str| vec![line.to_owned(), line.to_owned()];
    let request = OwnedRequest {
        method: "POST".into(),
        host: "orders".into(),
        path: "/a/b/c/d/e/f/g/h/i/j/k/l/m/n".into(),
        query: [("tenant".to_owned(), lines("t"))].into(),
        query_names: ["other".to_owned()].into(),
        headers: [("x-tenant".to_owned(), lines("t")), ("user-agent".to_owned(), lines("u"))].into(),
        params: [("id".to_owned(), "7".to_owned())].into(),
        media_type: Some("text/plain".into()),
        length: Some(3),
    };
    let full = OwnedFacts::assumed(Action::Grpc, &get()).with_request(request);
    let bare = OwnedFacts::local("socket").with_request(OwnedRequest::default()).with_rpc("", "");
    let issue = AdminContext::Issue(IssueContext::default());
    let change = AdminContext::Change(ChangeContext::default());
    let (principal, resource) = (web(), get());
    for action in Action::CALLS.iter().copied().chain(AdminAction::ALL.iter().copied().map(Action::Admin)) {
        let extra = match action {
            Action::Admin(AdminAction::IdentityIssue) => Some(&issue),
            Action::Admin(
                AdminAction::PolicyApprove
                | AdminAction::PolicySign
                | AdminAction::PolicyPublish
                | AdminAction::PolicyRollback,
            ) => Some(&change),
            _ => None,
        };
        for facts in [&full, &bare] {
            let request = AccessRequest {
                principal: &principal,
                action,
                resource: &resource,
                facts,
                now: noon(),
                extra,
            };
            let context = context::build(&request, walk::Reads::ALL, &snapshot.versions().declared).unwrap();
            let uid = uid::cedar_uid(action.entity_type(), action.as_str());
            let checked = context.validate(&snapshot.parts().schema, &uid);
            assert!(checked.is_ok(), "{action}: {checked:?}");
        }
    }
}

#[test]
fn versions_name_what_judged() {
    let one = shop_with(READ);
    let versions = one.versions();
    assert_eq!(versions.numbers, Numbers { epoch: 1, snapshot: 1207, policies: 41 });
    assert_eq!(&*versions.engine, "portcullis 0.1.0 cedar 4.14.1");
    assert!(versions.declared.headers.contains("x-tenant"));
    let other = shop_with(&READ.replace("home", "admin"));
    assert_ne!(versions.manifest, other.versions().manifest);
    assert_eq!((versions.schema, versions.entities), (other.versions().schema, other.versions().entities));
}

/// Facts that count how often their headers are looked at.
#[derive(Debug)]
struct Counted(OwnedFacts, std::sync::atomic::AtomicUsize);

impl Facts for Counted {
    fn connection(&self) -> &ConnectionFacts {
        self.0.connection()
    }

    fn request(&self) -> Option<RequestView<'_>> {
        self.0.request()
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.0.rpc()
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.header(name, each);
    }
}

#[test]
fn en4_a_condition_that_many_policies_have_is_asked_once() {
    let text: String = (0..50)
        .map(|at| {
            let effect = if at % 2 == 0 { "permit" } else { r#"@owner("a") forbid"# };
            format!(
                r#"@id("p{at:02}") {effect} (principal, action in Action::"http:read", resource == Route::"home")
                   when {{ context.request.headers has "x-tenant" && context.request.headers["x-tenant"].contains("acme") }};"#
            )
        })
        .collect();
    let snapshot = shop_with(&text);
    let mut engine = Engine::new(Arc::clone(&snapshot));
    let (principal, resource) = (web(), Resource::route("home"));
    let facts = Counted(OwnedFacts::local("public").with_request(OwnedRequest::default()), 0.into());
    for _ in 0..3 {
        let request = AccessRequest {
            principal: &principal,
            action: Action::HttpGet,
            resource: &resource,
            facts: &facts,
            now: noon(),
            extra: None,
        };
        assert_eq!(engine.decide(&request).reason, Reason::NoPermit);
    }
    assert_eq!(facts.1.into_inner(), 3);
    let headers = [("x-tenant".to_owned(), vec!["acme".to_owned()])].into();
    let tenant =
        OwnedFacts::local("public").with_request(OwnedRequest { headers, ..OwnedRequest::default() });
    let request = AccessRequest {
        principal: &principal,
        action: Action::HttpGet,
        resource: &resource,
        facts: &tenant,
        now: noon(),
        extra: None,
    };
    let decision = engine.decide(&request);
    assert_eq!((decision.reason, decision.determining.len()), (Reason::Forbid, 25));
}

#[test]
fn en11_a_call_that_would_take_too_many_operations_is_denied_at_once() {
    let one = |at: usize, tests: usize| {
        let tests: Vec<_> =
            (0..tests).map(|nth| format!("context.request.path != \"/{at}/{nth}\"")).collect();
        format!(
            "@id(\"p{at:04}\") permit (principal, action in Action::\"http:read\", resource == Route::\"home\") when {{ {} }};\n",
            tests.join(" && ")
        )
    };
    let ask = |policies: usize| {
        let text: String = (0..policies).map(|at| one(at, 60)).collect();
        let snapshot = shop_with(&text);
        ask(&snapshot, &web(), Action::HttpGet, &Resource::route("home"))
    };
    // Each test is three operations, and two tests are joined by a further one.
    assert_eq!(ask(20_000 / 239).reason, Reason::Permit);
    let denied = ask(20_000 / 239 + 1);
    assert_eq!((denied.effect, denied.reason), (Effect::Deny, Reason::EngineFault));
}
