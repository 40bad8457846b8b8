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
