//! Replay of records against candidates: equal to evaluating each by stock Cedar, and never a guess (IM2).

use super::*;
use crate::impact::{Carried, Change, Impact, Recorded, Replay, Seen};
use proptest::prelude::*;
use std::sync::Arc;

const SCOPES: [&str; 6] = [
    r#"principal, action in Action::"call", resource"#,
    r#"principal == Workload::"spiffe://example.org/web", action in Action::"call", resource"#,
    r#"principal in Group::"frontends", action == Action::"grpc", resource in RpcService::"shop.Orders""#,
    r#"principal in TrustDomain::"example.org", action in Action::"http", resource in Service::"site""#,
    r#"principal, action == Action::"http:GET", resource == Route::"home""#,
    r#"principal is Workload in Namespace::"shop", action in Action::"call", resource == Method::"shop.Orders/Refund""#,
];

/// Over every kind of fact that a record may lack.
const CONDITIONS: [&str; 12] = [
    "true",
    "context.connection.mtls",
    r#"context.connection has sni && context.connection.sni == "orders""#,
    r#"context has request && context.request.headers has "x-tenant" && context.request.headers["x-tenant"].contains("blue")"#,
    "context has request && context.request.headers == context.request.headers",
    r#"context has request && context.request.query has tenant && context.request.query.tenant == ["blue"]"#,
    r#"context has request && context.request.query_names.contains("debug")"#,
    r#"context has request && context.request.segments has "0" && context.request.segments["0"] == "shop.Orders""#,
    r#"context has request && context.request.path like "*Refund""#,
    "context has request && context.request has length && context.request.length > 100",
    r#"context has request && context.request has media_type && context.request.media_type == "application/grpc""#,
    "context.time.minute < 800 && 9223372036854775807 + context.connection.tls > 0",
];

pub(super) fn policies() -> impl Strategy<Value = String> {
    let one = (
        prop::bool::weighted(0.3),
        prop::sample::select(&SCOPES[..]),
        prop::sample::select(&CONDITIONS[..]),
        any::<bool>(),
    );
    prop::collection::vec(one, 0..7).prop_map(|policies| {
        let text = |(at, (is_forbid, scope, condition, is_when)): (usize, _)| {
            let (effect, word) =
                (if is_forbid { "forbid" } else { "permit" }, if is_when { "when" } else { "unless" });
            format!("@id(\"p{at}\") {effect} ({scope})\n{word} {{ {condition} }};\n")
        };
        policies.into_iter().enumerate().map(text).collect()
    })
}

/// Without the baseline, which has nothing to say about calls and would be validated again each time.
pub(super) fn alone(text: &str) -> Arc<Snapshot> {
    let (schema, declared) = &*SCHEMA;
    let policies = vec![PolicySource::new("policies/orders.cedar", text)];
    let input = SnapshotInput { policies, ..input(&[], shop()) };
    let compiled = compile::with_schema(schema.clone(), declared.clone(), input);
    Arc::new(compiled.unwrap_or_else(|found| panic!("{found:?}\n{text}")))
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) principal: Principal,
    pub(super) action: Action,
    pub(super) resource: Resource,
    pub(super) facts: OwnedFacts,
}

pub(super) fn call() -> impl Strategy<Value = Call> {
    let principal = prop::sample::select(vec![
        web(),
        Principal::workload("spiffe://example.org/billing"),
        Principal::workload("spiffe://other.org/x"),
        Principal::anonymous(),
    ]);
    let target = prop::sample::select(vec![
        (Action::Grpc, Resource::method("shop.Orders/Get")),
        (Action::Grpc, Resource::method("shop.Orders/Refund")),
        (Action::HttpGet, Resource::route("home")),
        (Action::HttpPost, Resource::route("admin")),
        (Action::TcpConnect, Resource::service_named("orders")),
    ]);
    let values = prop::option::of(prop::sample::select(vec!["blue", "red"]));
    let query = values.clone();
    (principal, target, any::<bool>(), values, query, prop::option::of(0_u64..200), any::<bool>()).prop_map(
        |(principal, (action, resource), mtls, tenant, query, length, sni)| {
            let facts = OwnedFacts::assumed(action, &resource);
            let sni = sni.then(|| "orders".into());
            let connection = ConnectionFacts { mtls, sni, ..facts.connection().clone() };
            let request = facts.owned_request().cloned();
            let mut facts = facts.with_connection(connection);
            if let Some(mut request) = request {
                request.length = length;
                request.headers.extend(tenant.map(|name| ("x-tenant".into(), vec![name.into()])));
                request.query.extend(query.map(|name| ("tenant".into(), vec![name.into()])));
                request.query_names.extend(length.map(|_| "debug".into()));
                facts = facts.with_request(request);
            }
            Call { principal, action, resource, facts }
        },
    )
}

impl Call {
    pub(super) fn request(&self) -> AccessRequest<'_> {
        AccessRequest {
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts: &self.facts,
            now: noon(),
            extra: None,
        }
    }

    /// Replays this call as `before` judged it, with `facts` on record.
    fn replay(
        &self,
        replay: &mut Replay,
        before: &Decision,
        facts: &OwnedFacts,
        carried: Carried<'_>,
    ) -> Seen {
        self.recorded(before, facts, carried, |recorded| replay.see(recorded))
    }

    /// This call as a record of what `before` says.
    pub(super) fn recorded<T>(
        &self,
        before: &Decision,
        facts: &OwnedFacts,
        carried: Carried<'_>,
        see: impl FnOnce(&Recorded<'_>) -> T,
    ) -> T {
        let determining: Vec<&str> = before.determining.iter().map(|id| &**id).collect();
        see(&Recorded {
            id: DecisionId::new(1, 2, 3),
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts: Some(facts),
            now: noon(),
            reason: before.reason,
            determining: &determining,
            carried,
        })
    }
}

fn seen(before: &Decision, after: &Decision) -> Seen {
    match (before.effect, after.effect) {
        (Effect::Allow, Effect::Deny) => Seen::Changed(Change::AllowToDeny),
        (Effect::Deny, Effect::Allow) => Seen::Changed(Change::DenyToAllow),
        _ if before.reason == after.reason && before.determining == after.determining => Seen::Same,
        _ => Seen::Changed(Change::Reason),
    }
}

/// What a record loses, and the field that says so.
fn lose(facts: &OwnedFacts, field: &str) -> OwnedFacts {
    let mut connection = facts.connection().clone();
    if field == "connection.sni" {
        connection.sni = connection.sni.map(|_| "o".into());
    }
    let request = facts.owned_request().cloned();
    let rpc = facts.rpc().map(|(service, method)| (service.to_owned(), method.to_owned()));
    let mut left = OwnedFacts::new(connection);
    if let Some(mut request) = request {
        match field {
            "request.path" => request.path.truncate(1),
            "request.headers" => request.headers.clear(),
            "request.headers.x-tenant" => drop(request.headers.insert("x-tenant".into(), vec!["bl".into()])),
            "request.query" => request.query.clear(),
            "request.query_names" => request.query_names.clear(),
            "request.length" => request.length = None,
            "request.media_type" => request.media_type = Some("a".into()),
            _ => {}
        }
        left = left.with_request(request);
    }
    match rpc {
        Some((service, method)) => left.with_rpc(&service, &method),
        None => left,
    }
}

const FIELDS: [&str; 8] = [
    "connection.sni",
    "request.path",
    "request.headers",
    "request.headers.x-tenant",
    "request.query",
    "request.query_names",
    "request.length",
    "request.media_type",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn im2_impact_is_what_stock_cedar_says_of_each_record(
        old in policies(), new in policies(), calls in prop::collection::vec(call(), 1..12),
    ) {
        let (old, new) = (alone(&old), alone(&new));
        let declared = Arc::clone(&old.versions().declared);
        let mut replay = Replay::new(Arc::clone(&new));
        let mut expected = Impact::default();
        for call in &calls {
            let before = old.decide(&call.request());
            let after = match stock::judge(&new, &call.request()) {
                Ok(answer) => answer.decision,
                Err(reason) => Decision::refusal(reason),
            };
            let wanted = seen(&before, &after);
            let carried = Carried { declared: Some(&declared), cut: &[] };
            prop_assert_eq!(call.replay(&mut replay, &before, &call.facts, carried), wanted, "{:?}", call);
            expected.considered += 1;
            match wanted {
                Seen::Same => expected.same += 1,
                Seen::Changed(Change::AllowToDeny) => expected.allow_to_deny += 1,
                Seen::Changed(Change::DenyToAllow) => expected.deny_to_allow += 1,
                Seen::Changed(Change::Reason) => expected.reason_changed += 1,
                Seen::Undecided | Seen::Outside => prop_assert!(false),
            }
        }
        let impact = replay.finish();
        let grouped: u64 = impact.groups.iter().map(|group| group.count).sum();
        prop_assert_eq!(grouped, impact.allow_to_deny + impact.deny_to_allow + impact.reason_changed);
        prop_assert_eq!(Impact { groups: Vec::new(), ..impact }, expected);
    }

    #[test]
    fn im2_a_record_that_lacks_a_fact_is_undecided_or_judged_right(
        old in policies(), new in policies(), calls in prop::collection::vec(call(), 1..6),
        field in prop::sample::select(&FIELDS[..]),
    ) {
        let (old, new) = (alone(&old), alone(&new));
        let declared = Arc::clone(&old.versions().declared);
        let mut replay = Replay::new(Arc::clone(&new));
        for call in &calls {
            let before = old.decide(&call.request());
            let truth = seen(&before, &new.decide(&call.request()));
            let cut = [field];
            let carried = Carried { declared: Some(&declared), cut: &cut };
            let told = call.replay(&mut replay, &before, &lose(&call.facts, field), carried);
            prop_assert!(told == Seen::Undecided || told == truth, "{:?} instead of {:?}: {:?}", told, truth, call);
        }
    }
}

const REFUNDS: &str = r#"
    @id("web-orders") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource in Service::"orders");
"#;

const NO_REFUNDS: &str = r#"
    @id("web-orders") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource in Service::"orders");
    @id("no-refunds") @owner("money") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/Refund");
"#;

const BY_TENANT: &str = r#"
    @id("by-tenant") permit (principal, action == Action::"grpc", resource == Method::"shop.Orders/Get")
    when { context.request.headers has "x-tenant" && context.request.headers["x-tenant"].contains("blue") };
"#;

fn grpc(method: &str) -> Call {
    let resource = Resource::method(method).within("orders", Some("shop"));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    Call { principal: web(), action: Action::Grpc, resource, facts }
}

#[test]
fn im2_the_text_tells_who_loses_what_by_which_policy() {
    let (old, new) = (shop_with(REFUNDS), shop_with(NO_REFUNDS));
    let declared = Arc::clone(&old.versions().declared);
    let mut replay = Replay::new(Arc::clone(&new));
    for method in ["shop.Orders/Get", "shop.Orders/Refund", "shop.Orders/Refund"] {
        let call = grpc(method);
        let before = old.decide(&call.request());
        call.replay(&mut replay, &before, &call.facts, Carried { declared: Some(&declared), cut: &[] });
    }
    let impact = replay.finish();
    assert_eq!(
        impact.to_text(&new),
        "3  decisions judged again\n\
         2  newly denied\n0  newly allowed\n0  other reason\n0  undecided\n1  same\n\n\
         allow -> deny  web -> orders  grpc shop.Orders/Refund  2 calls  e.g. 00000000010000000200000003\n               \
         was permit web-orders; now forbid no-refunds [policies/orders.cedar:3]\n"
    );
    let json = impact.to_json();
    assert_eq!(json["newly_denied"], 2);
    assert_eq!(json["groups"][0]["after"]["policies"][0], "no-refunds");
    assert_eq!(json["groups"][0]["service"], "orders");
}

#[test]
fn im2_a_header_that_was_not_declared_then_leaves_the_record_undecided() {
    let new = shop_with(BY_TENANT);
    let mut replay = Replay::new(Arc::clone(&new));
    let get = grpc("shop.Orders/Get");
    let before = Decision::refusal(Reason::NoPermit);
    let none = Arc::new(Declared::default());
    let unaware = Carried { declared: Some(&none), cut: &[] };
    assert_eq!(get.replay(&mut replay, &before, &get.facts, unaware), Seen::Undecided);
    // Twice: the second answer comes from what is remembered.
    assert_eq!(get.replay(&mut replay, &before, &get.facts, unaware), Seen::Undecided);
    let unknown = Carried { declared: None, cut: &[] };
    assert_eq!(get.replay(&mut replay, &before, &get.facts, unknown), Seen::Undecided);
    // The policy is not about this method, so what is missing does not matter.
    let list = grpc("shop.Orders/List");
    assert_eq!(list.replay(&mut replay, &before, &list.facts, unaware), Seen::Same);
    let aware = Carried { declared: Some(&new.versions().declared), cut: &[] };
    assert_eq!(get.replay(&mut replay, &before, &get.facts, aware), Seen::Same);
    let impact = replay.finish();
    assert_eq!((impact.undecided, impact.same, impact.considered), (3, 2, 5));
    assert_eq!(&*impact.lacking[0].fact, "request.headers.x-tenant");
    assert!(impact.to_text(&new).contains("3 records lack `request.headers.x-tenant`"));
}

#[test]
fn im2_what_is_no_verdict_on_a_call_is_outside() {
    let new = shop_with(REFUNDS);
    let mut replay = Replay::new(Arc::clone(&new));
    let call = grpc("shop.Orders/Get");
    let carried = Carried { declared: Some(&new.versions().declared), cut: &[] };
    for reason in [Reason::NotCanonical, Reason::NoIdentity, Reason::UnknownRoute, Reason::RevokedByChange] {
        let seen = call.replay(&mut replay, &Decision::refusal(reason), &call.facts, carried);
        assert_eq!(seen, Seen::Outside, "{reason}");
    }
    let admin = Call { action: Action::Admin(AdminAction::PolicyRead), ..call.clone() };
    assert_eq!(
        admin.replay(&mut replay, &Decision::refusal(Reason::NoPermit), &call.facts, carried),
        Seen::Outside
    );
    // What the candidate does not know any more is not its doing.
    let gone = grpc("shop.Orders/Gone");
    assert_eq!(
        gone.replay(&mut replay, &Decision::refusal(Reason::NoPermit), &gone.facts, carried),
        Seen::Undecided
    );
    let user = Call { principal: Principal::from_parts("User", "corp/1").unwrap(), ..call.clone() };
    assert_eq!(
        user.replay(&mut replay, &Decision::refusal(Reason::NoPermit), &user.facts, carried),
        Seen::Undecided
    );
    let nameless = Carried { cut: &["principal.id"], ..carried };
    assert_eq!(
        call.replay(&mut replay, &Decision::refusal(Reason::NoPermit), &call.facts, nameless),
        Seen::Undecided
    );
    let impact = replay.finish();
    assert_eq!((impact.outside, impact.considered, impact.undecided), (5, 3, 3));
}

#[test]
fn im2_the_number_of_groups_is_bounded_and_the_rest_is_counted() {
    let new = shop_with(NO_REFUNDS);
    let mut replay = Replay::new(Arc::clone(&new));
    let carried = Carried { declared: Some(&new.versions().declared), cut: &[] };
    let before =
        Decision { effect: Effect::Allow, reason: Reason::Permit, ..Decision::refusal(Reason::NoPermit) };
    for at in 0..10_050 {
        let principal = Principal::workload(&format!("spiffe://example.org/w{at}"));
        let call = Call { principal, ..grpc("shop.Orders/Get") };
        assert_eq!(
            call.replay(&mut replay, &before, &call.facts, carried),
            Seen::Changed(Change::AllowToDeny)
        );
    }
    let impact = replay.finish();
    assert_eq!((impact.groups.len(), impact.ungrouped, impact.allow_to_deny), (10_000, 50, 10_050));
    assert!(impact.to_text(&new).contains("9980 more groups"));
}
