//! Mined permits turn exactly the mined denials into allows, and nothing else (EX8).

use super::{
    impact::{Call, alone, call, policies},
    *,
};
use crate::{
    impact::Carried,
    mining::{Mined, Mining},
};
use proptest::prelude::*;
use std::sync::Arc;

fn mine(in_force: &Arc<Snapshot>, calls: &[Call]) -> Mined {
    let declared = Arc::clone(&in_force.versions().declared);
    let carried = Carried { declared: Some(&declared), cut: &[] };
    let mut mining = Mining::new(Arc::clone(in_force));
    for call in calls {
        let decision = in_force.decide(&call.request());
        call.recorded(&decision, &call.facts, carried, |recorded| mining.see(recorded));
    }
    mining.finish()
}

/// Everything anybody might ask: all callers on all targets, with and without proof on the connection.
fn questions() -> Vec<Call> {
    let callers = ["example.org/web", "example.org/billing", "example.org/new", "other.org/x"];
    let callers = callers.map(|id| Principal::workload(&format!("spiffe://{id}")));
    let targets = [
        (Action::Grpc, Resource::method("shop.Orders/Get")),
        (Action::Grpc, Resource::method("shop.Orders/List")),
        (Action::Grpc, Resource::method("shop.Orders/Refund")),
        (Action::HttpGet, Resource::route("home")),
        (Action::HttpPost, Resource::route("home")),
        (Action::HttpPost, Resource::route("admin")),
        (Action::TcpConnect, Resource::service_named("orders")),
    ];
    let mut all = Vec::new();
    for principal in callers.iter().chain(&[Principal::anonymous()]) {
        for (action, resource) in &targets {
            for mtls in [true, false] {
                let facts = OwnedFacts::assumed(*action, resource);
                let connection = ConnectionFacts { mtls, ..facts.connection().clone() };
                all.push(Call {
                    principal: principal.clone(),
                    action: *action,
                    resource: resource.clone(),
                    facts: facts.with_connection(connection),
                });
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ex8_mined_permits_allow_exactly_the_mined_denials(
        text in policies(), calls in prop::collection::vec(call(), 1..14),
    ) {
        let in_force = alone(&text);
        let mined = mine(&in_force, &calls);
        let candidate = alone(&format!("{text}\n{}", mined.policies()));
        prop_assert_eq!(candidate.warnings().len(), in_force.warnings().len(), "{}", mined.policies());
        let is_mined = |call: &Call, decision: &Decision| {
            decision.reason == Reason::NoPermit && call.principal.kind() != PrincipalKind::Anonymous
        };
        let mut wanted = 0;
        for call in &calls {
            let (before, after) = (in_force.decide(&call.request()), candidate.decide(&call.request()));
            let expected = if is_mined(call, &before) { Effect::Allow } else { before.effect };
            wanted += u64::from(is_mined(call, &before));
            prop_assert_eq!(after.effect, expected, "{:?}\n{}", call, mined.policies());
        }
        prop_assert_eq!(mined.counts.denied, wanted);
        prop_assert_eq!(mined.proposals.iter().map(|one| one.count()).sum::<u64>(), wanted);
        // What nobody was denied stays as it is.
        for question in questions() {
            let is_same = |call: &&Call| (&call.principal, call.action, &call.resource)
                == (&question.principal, question.action, &question.resource);
            let denied: Vec<&Call> =
                calls.iter().filter(is_same).filter(|call| is_mined(call, &in_force.decide(&call.request()))).collect();
            let is_covered = !denied.is_empty()
                && (question.facts.connection().mtls || denied.iter().any(|call| !call.facts.connection().mtls));
            let (before, after) = (in_force.decide(&question.request()), candidate.decide(&question.request()));
            let expected = if is_covered && before.reason == Reason::NoPermit { Effect::Allow } else { before.effect };
            prop_assert_eq!(after.effect, expected, "{:?}\n{}", question, mined.policies());
        }
        // Its cases pass on engine and stock Cedar.
        let cases = serde_json::to_string(&mined.cases(&candidate)).unwrap();
        let outcomes = run_cases(&candidate, &cases, &|_| Err("no files".to_owned())).unwrap();
        for outcome in &outcomes {
            prop_assert_eq!(&outcome.failure, &None, "{}", outcome.name);
        }
        prop_assert_eq!(outcomes.is_empty(), mined.proposals.is_empty());
    }
}

fn over(principal: &str, action: Action, resource: Resource) -> Call {
    let facts = OwnedFacts::assumed(action, &resource);
    Call {
        principal: Principal::workload(&format!("spiffe://example.org/{principal}")),
        action,
        resource,
        facts,
    }
}

#[test]
fn ex8_methods_become_a_list_and_a_whole_namespace_becomes_one_permit() {
    let method = |name: &str| Resource::method(&format!("shop.Orders/{name}"));
    let calls = [
        over("web", Action::Grpc, method("Get")),
        over("web", Action::Grpc, method("Refund")),
        over("web", Action::Grpc, method("Refund")),
        over("web", Action::HttpGet, Resource::route("home")),
        over("billing", Action::HttpGet, Resource::route("home")),
        over("web", Action::HttpPost, Resource::route("admin")),
        over("web", Action::HttpPut, Resource::route("admin")),
    ];
    let mined = mine(&alone(""), &calls);
    assert_eq!(
        mined.policies(),
        r#"// Proposed from recorded denials by portcullis policy suggest. Read before use.

// 2 denied calls
@id("allow-shop-home-http-get")
permit (
  principal is Workload in Namespace::"shop",
  action == Action::"http:GET",
  resource == Route::"home"
)
when { context.connection.mtls };

// 2 denied calls
@id("allow-web-admin-http-post-http-put")
permit (
  principal == Workload::"spiffe://example.org/web",
  action in [Action::"http:POST", Action::"http:PUT"],
  resource == Route::"admin"
)
when { context.connection.mtls };

// 3 denied calls
@id("allow-web-shop.orders-grpc")
permit (
  principal == Workload::"spiffe://example.org/web",
  action == Action::"grpc",
  resource is Method in RpcService::"shop.Orders"
)
when { context.connection.mtls && resource in [Method::"shop.Orders/Get", Method::"shop.Orders/Refund"] };
"#
    );
}

#[test]
fn ex8_forbids_are_told_with_their_owner_and_never_proposed_away() {
    let in_force = alone(
        r#"@id("no-refunds") @owner("money") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/Refund");"#,
    );
    let refund = over("web", Action::Grpc, Resource::method("shop.Orders/Refund"));
    let nobody =
        Call { principal: Principal::anonymous(), ..over("web", Action::HttpGet, Resource::route("home")) };
    let mined = mine(&in_force, &[refund.clone(), refund, nobody]);
    assert!(mined.proposals.is_empty() && mined.cases(&in_force).is_empty());
    assert_eq!((mined.counts.forbidden, mined.counts.anonymous, mined.counts.denied), (2, 1, 0));
    let told = &mined.forbidden[0];
    assert_eq!((told.owner.as_deref(), told.count, &*told.policies[0]), (Some("money"), 2, "no-refunds"));
    assert!(mined.summary().contains("web  grpc shop.Orders/Refund  2 calls  no-refunds  owner money"));
}

#[test]
fn ex8_an_id_that_is_taken_gets_a_number() {
    let taken = alone(
        r#"@id("allow-web-home-http-get") permit (principal == Workload::"spiffe://example.org/other", action, resource);"#,
    );
    let mined = mine(&taken, &[over("web", Action::HttpGet, Resource::route("home"))]);
    assert_eq!(mined.proposals[0].id(), "allow-web-home-http-get-2");
}

#[test]
fn ex8_what_is_allowed_by_now_is_not_proposed_again() {
    let then = alone("");
    let now =
        alone(r#"@id("home") permit (principal, action == Action::"http:GET", resource == Route::"home");"#);
    let call = over("web", Action::HttpGet, Resource::route("home"));
    let mut mining = Mining::new(Arc::clone(&now));
    let carried = Carried { declared: Some(&now.versions().declared), cut: &[] };
    let denial = then.decide(&call.request());
    call.recorded(&denial, &call.facts, carried, |recorded| mining.see(recorded));
    let mined = mining.finish();
    assert_eq!((mined.counts.allowed_now, mined.proposals.len()), (1, 0));
}
