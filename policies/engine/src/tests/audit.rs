//! Whom a decision names, and how strongly it is recorded because of them.

use super::*;

#[test]
fn the_strongest_audit_of_policies_and_action_holds() {
    let text = r#"
        @id("get") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get");
        @id("list") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/List");
        @id("weak") @audit("best_effort") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/List");
        @id("home") permit (principal, action, resource == Route::"home");
        @id("strict") @audit("durable") permit (principal, action == Action::"http:GET", resource == Route::"admin");
        @id("stop") @audit("required") forbid (principal, action == Action::"http:PUT", resource);"#;
    let snapshot = shop_with(text);
    let audit = |action, resource: &Resource| ask(&snapshot, &web(), action, resource).audit;
    assert_eq!(audit(Action::Grpc, &get()), Audit::BestEffort, "read_only method");
    assert_eq!(audit(Action::Grpc, &Resource::method("shop.Orders/List")), Audit::Required);
    assert_eq!(audit(Action::HttpGet, &Resource::route("home")), Audit::BestEffort);
    assert_eq!(audit(Action::HttpPost, &Resource::route("home")), Audit::Required);
    assert_eq!(audit(Action::HttpGet, &Resource::route("admin")), Audit::Durable);
    assert_eq!(audit(Action::HttpPost, &Resource::route("admin")), Audit::BestEffort, "a default deny");
    assert_eq!(
        audit(Action::HttpPut, &Resource::route("home")),
        Audit::Required,
        "a determining forbid says more"
    );
}

#[test]
fn se4_all_policies_that_decide_are_told_and_the_strictest_record_among_them_is_kept() {
    let text = r#"
        @id("a") permit (principal, action == Action::"grpc", resource);
        @id("b") @audit("durable") permit (principal, action, resource) when { context.connection.mtls };
        @id("c") permit (principal, action, resource) unless { context.connection.mtls };"#;
    let decision = ask(&shop_with(text), &web(), Action::Grpc, &get());
    assert_eq!((decision.effect, ids(&decision)), (Effect::Allow, vec!["a", "b"]));
    assert_eq!(decision.audit, Audit::Durable, "a later one asks for it");
}
