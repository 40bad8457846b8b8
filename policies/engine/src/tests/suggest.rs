//! A suggested permit validates and turns the denial into an allow, for that request only.

use super::*;

#[test]
fn s27_a_suggestion_validates_and_flips_exactly_that_decision() {
    let user = Principal::local_user(1000, None, &[]);
    let cases = [
        (web(), Action::Grpc, Resource::method("shop.Orders/Refund"), true),
        (
            Principal::workload("spiffe://other.org/a/\"b\\c"),
            Action::HttpDelete,
            Resource::route("home"),
            true,
        ),
        (Principal::anonymous(), Action::HttpGet, Resource::route("home"), false),
        (web(), Action::TcpConnect, Resource::service_named("orders"), true),
        (user, Action::Admin(AdminAction::PolicyRead), Resource::policy_scope("/shop"), false),
    ];
    for (principal, action, resource, mtls) in cases {
        let before = ask(&shop_with(""), &principal, action, &resource);
        assert_eq!(before.reason, Reason::NoPermit, "{principal}");
        let text = suggest(&principal, action, &resource, mtls);
        let snapshot = shop_with(&text);
        assert!(snapshot.warnings().is_empty(), "{:?}", snapshot.warnings());
        let after = ask(&snapshot, &principal, action, &resource);
        assert!(after.is_allowed(), "{text}");
        assert!(
            !ask(&snapshot, &Principal::workload("spiffe://example.org/else"), action, &resource)
                .is_allowed()
        );
        if mtls {
            let facts = OwnedFacts::assumed(action, &resource);
            let open = ConnectionFacts { mtls: false, ..facts.connection().clone() };
            let facts = facts.with_connection(open);
            let request = AccessRequest {
                principal: &principal,
                action,
                resource: &resource,
                facts: &facts,
                now: noon(),
                extra: None,
            };
            assert!(!snapshot.decide(&request).is_allowed());
        }
    }
}

#[test]
fn the_suggested_text_is_readable() {
    let text = suggest(&web(), Action::Grpc, &Resource::method("shop.Orders/Refund"), true);
    assert_eq!(
        text,
        r#"@id("allow-web-shop.orders-refund-grpc")
permit (
  principal == Workload::"spiffe://example.org/web",
  action == Action::"grpc",
  resource == Method::"shop.Orders/Refund"
)
when { context.connection.mtls };
"#
    );
    let long = suggest(
        &Principal::workload(&format!("spiffe://a/{}", "x".repeat(300))),
        Action::Grpc,
        &Resource::route("r"),
        false,
    );
    assert!(long.lines().next().unwrap().len() <= "@id(\"\")".len() + 128);
}

#[test]
fn te3_a_recorded_decision_becomes_a_case_that_passes() {
    let policies = r#"@id("read") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get") when { context.connection.mtls && context.time.weekday == 7 };
@id("odd") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/List")
when { context.connection.tls + 9223372036854775800 > 0 };
@id("who") permit (principal is Portcullis::LocalUser, action == Portcullis::Action::"policy:publish", resource) when { !context.change.widens };"#;
    let snapshot = shop_with(policies);
    let user = Principal::local_user(1000, None, &[]);
    let change =
        AdminContext::Change(ChangeContext { scope: "/".into(), coverage: 90, ..ChangeContext::default() });
    for (principal, action, resource, extra, reason) in [
        (web(), Action::Grpc, Resource::method("shop.Orders/Get"), None, Reason::Permit),
        (web(), Action::Grpc, Resource::method("shop.Orders/Refund"), None, Reason::NoPermit),
        (web(), Action::Grpc, Resource::method("shop.Orders/List"), None, Reason::ForbidError),
        (Principal::anonymous(), Action::HttpGet, Resource::route("home"), None, Reason::NoPermit),
        (web(), Action::TcpConnect, Resource::service_named("orders"), None, Reason::NoPermit),
        (
            user,
            Action::Admin(AdminAction::PolicyPublish),
            Resource::policy_scope("/"),
            Some(change),
            Reason::Permit,
        ),
    ] {
        let facts = OwnedFacts::assumed(action, &resource);
        let question = crate::explain::RequestForExplain {
            principal,
            action,
            resource,
            facts,
            now: noon(),
            extra,
            recorded: None,
        };
        let decision = snapshot.decide(&question.access());
        assert_eq!(decision.reason, reason);
        let case = case_of("recorded", &question, &Expected::of(&decision));
        let text = serde_json::json!([case]).to_string();
        let outcomes = run_cases(&snapshot, &text, &|_| Err("no file".into())).unwrap();
        assert_eq!(outcomes[0].failure, None, "{text}");
        // A case that expects something else fails.
        let wrong = Expected { effect: Effect::Allow, reason: Reason::Forbid, ..Expected::of(&decision) };
        let text = serde_json::json!([case_of("wrong", &question, &wrong)]).to_string();
        assert!(run_cases(&snapshot, &text, &|_| Err("no file".into())).unwrap()[0].failure.is_some());
    }
}

#[test]
fn ex8_a_suggestion_has_an_id_of_its_own_and_a_case_that_it_passes() {
    let question = |principal: Principal| {
        let (action, resource) = (Action::Grpc, Resource::method("shop.Orders/Refund"));
        let facts = OwnedFacts::assumed(action, &resource);
        crate::explain::RequestForExplain {
            principal,
            action,
            resource,
            facts,
            now: noon(),
            extra: None,
            recorded: None,
        }
    };
    let asked = question(web());
    let first = suggestion(&shop_with(""), &asked);
    assert_eq!(first.id, "allow-web-shop.orders-refund-grpc");
    assert_eq!(first.case["name"], "web may grpc shop.Orders/Refund");
    // The same id stands for something else already.
    let taken = format!("@id(\"{}\") permit (principal is Anonymous, action, resource);", first.id);
    let second = suggestion(&shop_with(&taken), &asked);
    assert_eq!(second.id, "allow-web-shop.orders-refund-grpc-2");
    let both = shop_with(&format!("{taken}\n{}", second.policy));
    let outcomes = run_cases(&both, &serde_json::json!([second.case]).to_string(), &|_| Err("none".into()));
    assert_eq!(outcomes.unwrap()[0].failure, None);
    // Without the permit the case fails.
    let outcomes =
        run_cases(&shop_with(""), &serde_json::json!([second.case]).to_string(), &|_| Err("none".into()));
    assert!(outcomes.unwrap()[0].failure.is_some());
    let long = question(Principal::workload(&format!("spiffe://a/{}", "x".repeat(300))));
    let long_id = suggestion(&shop_with(""), &long).id;
    let taken = format!("@id(\"{long_id}\") permit (principal is Anonymous, action, resource);");
    let next = suggestion(&shop_with(&taken), &long).id;
    assert!(next.len() <= 128 && next.ends_with("-2"), "{next}");
}
