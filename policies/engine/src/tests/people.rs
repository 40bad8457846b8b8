//! People by their tokens (MO2, MO5): which plans they share, and how cases tell of them.

use super::*;
use std::sync::Arc;

const POLICIES: &str = r#"
    @id("refunds")
    permit (principal in UserGroup::"corp/refunds", action == Action::"grpc", resource == Method::"shop.Orders/Refund")
    when { context has jwt && context.jwt.scopes.contains("orders") };

    @id("sales")
    permit (principal is User, action == Action::"grpc", resource == Method::"shop.Orders/Get")
    when { principal.hasTag("department") && principal.getTag("department").contains("sales") };

    @id("blocked")
    forbid (principal is User, action, resource)
    when { principal has email && principal.email like "*@old.test" };
"#;

fn token(subject: &str, groups: &[&str]) -> Token {
    let mut token = Token::new("corp", subject, UnixTime::from_secs(0), UnixTime::from_secs(60));
    token.scopes = vec!["orders".to_owned()];
    token.in_groups(groups.iter().copied())
}

fn asks(engine: &mut Engine, method: &str, token: Token) -> Decision {
    let (principal, resource) = (Principal::user(&token), Resource::method(method));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource).with_token(Arc::new(token));
    let request = AccessRequest {
        principal: &principal,
        action: Action::Grpc,
        resource: &resource,
        facts: &facts,
        now: noon(),
        extra: None,
    };
    let decision = engine.decide(&request);
    assert_eq!(decision.evaluated, Evaluated::Compiled, "stock Cedar has nothing to do here");
    decision
}

#[test]
fn mo5_people_of_the_same_groups_share_a_plan_and_are_told_apart_by_their_tokens() {
    let mut engine = Engine::new(shop_with(POLICIES));
    let refund = "shop.Orders/Refund";
    for subject in ["1", "2", "3"] {
        assert!(asks(&mut engine, refund, token(subject, &["refunds"])).is_allowed());
    }
    assert_eq!(engine.plan_count(), 1);
    assert!(
        !asks(&mut engine, refund, token("1", &["guests"])).is_allowed(),
        "the same person, by another token"
    );
    assert!(asks(&mut engine, refund, token("1", &["guests", "refunds"])).is_allowed());
    assert_eq!(engine.plan_count(), 3);
    let mut without = token("1", &["refunds"]);
    without.scopes.clear();
    assert!(!asks(&mut engine, refund, without).is_allowed());
    let mut old = token("1", &["refunds"]);
    old.email = Some("ann@old.test".to_owned());
    assert_eq!(asks(&mut engine, refund, old).reason, Reason::Forbid);
    let of = |department: &str| {
        let mut token = token("1", &[]);
        token.claims.insert("department".to_owned(), vec![department.to_owned()]);
        token
    };
    assert!(asks(&mut engine, "shop.Orders/Get", of("sales")).is_allowed());
    assert!(!asks(&mut engine, "shop.Orders/Get", of("stock")).is_allowed());
    assert!(!asks(&mut engine, "shop.Orders/Get", token("1", &[])).is_allowed());
}

#[test]
fn te1_a_case_tells_of_a_person_by_the_token_and_its_entity() {
    let case = |groups: &str, scopes: &str, decision: &str| {
        format!(
            r#"{{"name":"x","request":{{"principal":"User::\"corp/1\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Refund\"",
  "context":{{"connection":{{"mtls":false,"tls":13,"source_ip":{{"fn":"ip","arg":"10.0.0.7"}},"listener":"public","protocol":{{"type":"Protocol","id":"grpc"}}}},
   "request":{{"method":"POST","host":"orders","path":"/","segments":{{}},"segment_count":0,"params":{{}},"query":{{}},"query_names":[],"headers":{{}}}},
   "jwt":{{"user":{{"type":"User","id":"corp/1"}},"issuer":"corp","subject":"1","audience":["shop"],"scopes":[{scopes}],
    "issued":{{"fn":"datetime","arg":"2026-11-22T07:00:00Z"}},"expires":{{"fn":"datetime","arg":"2026-11-22T08:00:00Z"}},"claims":{{}}}},
   "time":{{"now":{{"fn":"datetime","arg":"2026-11-22T07:00:00Z"}},"weekday":7,"minute":420}},"rpc":{{"service":"shop.Orders","method":"Refund"}}}}}},
  "entities":[{{"uid":{{"type":"User","id":"corp/1"}},"attrs":{{"issuer":"corp","subject":"1"}},"parents":[{groups}]}}],
  "decision":"{decision}","reason":[],"num_errors":0}}"#
        )
    };
    let refunds = r#"{"type":"UserGroup","id":"corp/refunds"}"#;
    let cases =
        [case(refunds, "\"orders\"", "allow"), case("", "\"orders\"", "deny"), case(refunds, "", "deny")];
    let outcomes =
        run_cases(&shop_with(POLICIES), &format!("[{}]", cases.join(",")), &|file| Err(file.to_owned()));
    for outcome in outcomes.unwrap() {
        assert_eq!(outcome.failure, None);
    }
}
