//! Differences between snapshots made from text.

use super::*;
use crate::{
    AccessRequest, ConnectionFacts, EntitySet, Facts, MethodEntity, OwnedFacts, RouteEntity, WorkloadEntity,
    affected, tests,
};
use proptest::prelude::*;

fn shop_with(policies: &str) -> Arc<Snapshot> {
    tests::shop_with(policies)
}

fn cells(old: &str, new: &str) -> Vec<String> {
    let text = diff(&shop_with(old), &shop_with(new)).to_text();
    text.lines().filter(|line| line.contains(" call ")).map(str::to_owned).collect()
}

fn kinds(old: &str, new: &str) -> Vec<(String, ChangeKind, bool)> {
    let difference = diff(&shop_with(old), &shop_with(new));
    difference.policies.iter().map(|c| (c.id.to_string(), c.kind, c.loosens)).collect()
}

const READ: &str = "@id(\"read\") permit (principal, action == Action::\"grpc\", resource);";
const STOP: &str = "@id(\"stop\") @owner(\"ops\") forbid (principal is Workload, action, resource) when { context.connection.tls < 13 };";

#[test]
fn im1_a_policy_is_added_removed_changed_annotated_or_moved() {
    let one = |old: &str, new: &str| kinds(old, new).into_iter().map(|(_, kind, _)| kind).collect::<Vec<_>>();
    assert_eq!(one(READ, READ), []);
    assert_eq!(one("", READ), [ChangeKind::Added]);
    assert_eq!(one(READ, ""), [ChangeKind::Removed]);
    assert_eq!(one(READ, &format!("\n{READ}")), [ChangeKind::Moved]);
    assert_eq!(one(READ, &READ.replace(", ", " ,")), [], "layout means nothing");
    assert_eq!(one(READ, &READ.replace("permit", "@owner(\"x\") permit")), [ChangeKind::Annotated]);
    assert_eq!(one(READ, &READ.replace("principal,", "principal is User,")), [ChangeKind::Changed]);
    assert_eq!(one(STOP, &STOP.replace("13", "12")), [ChangeKind::Changed]);
}

#[test]
fn im1_a_forbid_removed_or_narrowed_and_a_loosened_annotation_widen() {
    let loosens = |old: &str, new: &str| kinds(old, new).iter().any(|(_, _, loosens)| *loosens);
    assert!(loosens(STOP, ""));
    assert!(!loosens("", STOP));
    assert!(loosens(STOP, &STOP.replace("13", "12")));
    assert!(loosens(STOP, &STOP.replace("is Workload", "is User")));
    assert!(loosens(STOP, &STOP.replace("forbid", "@mode(\"shadow\") forbid")));
    assert!(!loosens(STOP, &STOP.replace("principal is Workload", "principal")), "wider");
    assert!(!loosens(STOP, &STOP.replace(" when { context.connection.tls < 13 }", "")), "unconditional");
    let with = |annotation: &str| READ.replace("permit", &format!("{annotation} permit"));
    assert!(loosens(&with("@mode(\"shadow\")"), READ));
    assert!(!loosens(READ, &with("@mode(\"shadow\")")));
    let (soon, late) = ("@expires(\"2027-01-01T00:00:00Z\")", "@expires(\"2028-01-01T00:00:00Z\")");
    assert!(loosens(&with(soon), &with(late)) && loosens(&with(soon), READ));
    assert!(!loosens(&with(late), &with(soon)) && !loosens(READ, &with(soon)));
    assert!(loosens(&with("@audit(\"durable\")"), &with("@audit(\"required\")")));
    assert!(!loosens(&with("@audit(\"required\")"), &with("@audit(\"durable\")")));
}

#[test]
fn the_text_names_policy_place_and_verdict() {
    let text = diff(&shop_with(READ), &shop_with(STOP)).to_text();
    assert!(text.contains("- removed   permit read  [policies/orders.cedar:1]"), "{text}");
    assert!(text.contains("+ added     forbid stop  [policies/orders.cedar:1]"), "{text}");
}

const WEB: &str = "principal == Workload::\"spiffe://example.org/web\", action == Action::\"grpc\"";

#[test]
fn im1_a_permit_that_comes_is_a_gain_and_one_that_goes_a_loss() {
    let refund =
        format!("@id(\"orders-refund\")\npermit ({WEB}, resource == Method::\"shop.Orders/Refund\");");
    let gain = "+ web may now call shop.Orders/Refund (grpc)  by orders-refund [policies/orders.cedar:2]";
    assert_eq!(cells("", &refund), [gain]);
    assert_eq!(cells(&refund, ""), [gain.replace("+ ", "- ").replace("may now", "may no longer")]);
    let difference = diff(&shop_with(""), &shop_with(&refund));
    assert!(difference.widens && difference.counts.gains == 1);
    assert!(!diff(&shop_with(&refund), &shop_with("")).widens);
}

#[test]
fn im1_what_another_permit_allows_already_is_no_gain() {
    let all = "@id(\"all\") permit (principal is Workload, action == Action::\"grpc\", resource);";
    let one = format!("{all}\n@id(\"one\") permit ({WEB}, resource == Method::\"shop.Orders/Get\");");
    let difference = diff(&shop_with(all), &shop_with(&one));
    assert_eq!((difference.counts.gains, difference.widens, difference.policies.len()), (0, false, 1));
}

#[test]
fn im1_conditions_that_differ_are_shown_with_their_clause() {
    let with = |version: u8| {
        format!(
            "@id(\"a\") permit ({WEB}, resource == Method::\"shop.Orders/Get\") when {{ context.connection.tls >= {version} }};"
        )
    };
    let difference = diff(&shop_with(&with(12)), &shop_with(&with(13)));
    assert_eq!((difference.counts.depends, difference.cells.len()), (1, 1));
    let clause = difference.cells[0].clause.clone().unwrap();
    assert_eq!(
        clause,
        "permit a when { context.connection.tls >= 13 }; before: permit a when { context.connection.tls >= 12 }"
    );
    assert!(difference.widens, "nobody proved that it is stricter");
    let narrowed = diff(
        &shop_with(&with(12).replace(" when { context.connection.tls >= 12 }", "")),
        &shop_with(&with(12)),
    );
    assert!(narrowed.cells[0].kind == CellKind::Depends && !narrowed.widens, "{narrowed:?}");
}

#[test]
fn im1_what_entities_decide_is_folded() {
    let with = |service: &str| {
        format!("@id(\"a\") permit ({WEB}, resource) when {{ resource in Service::\"{service}\" }};")
    };
    assert_eq!(
        cells(&with("orders"), &with("none")),
        [
            "- web may no longer call shop.Orders/Get, shop.Orders/List, shop.Orders/Refund (grpc)  by a [policies/orders.cedar:1]"
        ]
    );
    assert_eq!(cells("", &with("none")), Vec::<String>::new());
}

#[test]
fn callers_and_targets_that_change_alike_share_a_line() {
    let policy = "@id(\"a\") permit (principal in Namespace::\"shop\", action in Action::\"http:read\", resource in Service::\"site\");";
    assert_eq!(
        cells("", policy),
        [
            "+ billing, web may now call admin, home (http:GET, http:HEAD, http:OPTIONS, http:QUERY)  by a [policies/orders.cedar:1]"
        ]
    );
    let conditional = policy.replace(");", ") when { context.connection.mtls };");
    assert_eq!(
        cells("", &conditional),
        [
            "~ billing, web may call admin, home (http:GET, http:HEAD, http:OPTIONS, http:QUERY) under other conditions  by a [policies/orders.cedar:1]"
        ]
    );
}

#[test]
fn im1_lists_are_bounded_and_the_rest_is_counted() {
    let all = "@id(\"all\") permit (principal, action, resource);";
    let (old, new) = (shop_with(""), shop_with(all));
    let whole = compare(&old, &new, usize::MAX, usize::MAX);
    assert_eq!(whole.counts.gains, whole.cells.len() - whole.counts.depends);
    let short = compare(&old, &new, 100, 10);
    assert_eq!(short.cells.len(), 10);
    assert!(short.counts.unexamined > 0 && short.widens && short.counts.gains <= 100);
    assert!(short.to_text().contains("were not compared"), "{}", short.to_text());
    let document = whole.to_json();
    assert_eq!(document["counts"]["gains"], whole.counts.gains);
    assert_eq!(document["widens"], true);
}

const POLICIES: [&str; 16] = [
    "permit (principal, action, resource)",
    "permit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"grpc\", resource)",
    "permit (principal == Workload::\"spiffe://example.org/named\", action in Action::\"http\", resource)",
    "permit (principal in Group::\"frontends\", action, resource in Service::\"orders\")",
    "permit (principal in TrustDomain::\"example.org\", action in Action::\"call\", resource)",
    "permit (principal is Workload, action, resource is Method) when { context.connection.mtls }",
    "permit (principal, action == Action::\"grpc\", resource) when { resource in RpcService::\"shop.Orders\" && context.connection.tls >= 13 }",
    "permit (principal is Workload, action == Action::\"grpc\", resource) when { principal has attested_by && principal.path like \"/w*\" }",
    "permit (principal == Anonymous::\"anonymous\", action in Action::\"http:read\", resource == Route::\"home\")",
    "permit (principal is Portcullis::LocalUser in Portcullis::Role::\"viewer\", action in Portcullis::Action::\"admin\", resource)",
    "permit (principal == Portcullis::LocalUser::\"1000\", action in Portcullis::Action::\"admin:read\", resource in Portcullis::PolicyScope::\"/shop\")",
    "forbid (principal in Portcullis::Role::\"author\", action, resource)",
    "forbid (principal, action, resource == Route::\"home\")",
    "forbid (principal, action, resource in Service::\"orders\") unless { context.connection.mtls }",
    "forbid (principal is Workload, action == Action::\"grpc\", resource) when { context.connection.tls + 9223372036854775800 > 0 }",
    "forbid (principal in Namespace::\"shop\", action, resource is Route)",
];
const NOTES: [&str; 4] = ["", "@mode(\"shadow\") ", "@audit(\"durable\") ", "@owner(\"x\") "];
const EXPIRES: &str = "@expires(\"2026-11-22T12:00:00Z\") ";

/// Policies by number, with an annotation, and the entities.
type Picks = (Vec<(usize, usize, bool)>, usize);

fn picks() -> impl Strategy<Value = Picks> {
    let one =
        (0..POLICIES.len(), prop_oneof![3 => Just(0_usize), 1 => 0..NOTES.len()], prop::bool::weighted(0.2));
    (prop::collection::vec(one, 0..6), 0_usize..5)
}

fn text(picks: &Picks) -> String {
    let mut text = String::new();
    for (at, (policy, note, expires)) in picks.0.iter().enumerate() {
        let body = POLICIES[*policy];
        let expires = if *expires && body.starts_with("permit") { EXPIRES } else { "" };
        text += &format!("@id(\"p{at}\") {}{expires}{body};\n", NOTES[*note]);
    }
    text
}

fn entities(number: usize) -> EntitySet {
    let mut set = tests::shop();
    match number {
        1 => set.workloads[0].groups.clear(),
        2 => set.methods.push(MethodEntity {
            id: "shop.Orders/Cancel".into(),
            service: "orders".into(),
            ..MethodEntity::default()
        }),
        3 => set.routes.push(RouteEntity { name: "new".into(), service: "orders".into(), sensitivity: None }),
        4 => {
            set.workloads[0].attested_by.clear();
            set.workloads.push(WorkloadEntity {
                id: "spiffe://example.org/new".into(),
                groups: vec!["frontends".into()],
                ..WorkloadEntity::default()
            });
        }
        _ => {}
    }
    set
}

fn compiled(picks: &Picks) -> Arc<Snapshot> {
    tests::snapshot_of(&[("a.cedar", &text(picks))], entities(picks.1)).unwrap().into()
}

fn principals() -> Vec<Principal> {
    let workload = |id: &str| Principal::workload(&format!("spiffe://{id}"));
    let named = [
        "example.org/web",
        "example.org/billing",
        "example.org/named",
        "example.org/new",
        "example.org/who",
        "other.org/web",
    ];
    let mut all: Vec<Principal> = named.into_iter().map(workload).collect();
    all.push(Principal::anonymous());
    all.push(Principal::agent("spiffe://example.org/portcullis/agent/n"));
    all.push(Principal::parse("User::\"corp/alice\"").unwrap());
    for (uid, roles) in
        [(1000, &[][..]), (1000, &[Role::Viewer]), (7, &[Role::Viewer]), (7, &[Role::Viewer, Role::Author])]
    {
        all.push(Principal::local_user(uid, None, roles));
    }
    all
}

fn targets() -> Vec<(Action, Resource)> {
    let mut all = vec![
        (Action::TcpConnect, Resource::service_named("orders")),
        (Action::Grpc, Resource::method("shop.Orders/Get")),
        (Action::Grpc, Resource::method("shop.Orders/Cancel")),
    ];
    for route in ["home", "admin", "new"] {
        all.extend([Action::HttpGet, Action::HttpPost].map(|action| (action, Resource::route(route))));
    }
    let admin = |word: &str| Action::parse(word).unwrap();
    all.push((admin("system:read"), Resource::system()));
    all.extend(["/", "/shop", "/shop/eu"].map(|scope| (admin("policy:read"), Resource::policy_scope(scope))));
    all
}

/// Verdicts on both sides, for some facts and one instant before and one after `EXPIRES`.
fn asked(
    old: &Snapshot,
    new: &Snapshot,
    principal: &Principal,
    action: Action,
    resource: &Resource,
) -> Vec<(Effect, Effect)> {
    let mut all = Vec::new();
    for (mtls, tls, late) in [(true, 13, 0), (false, 13, 0), (true, 0, 0), (true, 12, 2)] {
        let assumed = OwnedFacts::assumed(action, resource);
        let connection = ConnectionFacts { mtls, tls, ..assumed.connection().clone() };
        let facts = assumed.with_connection(connection);
        let now = base_ports::UnixTime::from_secs(tests::noon().as_secs() - 1 + late);
        let request = AccessRequest { principal, action, resource, facts: &facts, now, extra: None };
        all.push((old.decide(&request).effect, new.decide(&request).effect));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn im1_every_verdict_that_flips_is_in_a_cell_and_every_cell_is_true(before in picks(), after in picks(), keep in any::<bool>()) {
        let after = if keep { (before.0.iter().chain(after.0.iter().take(1)).copied().collect(), after.1) } else { after };
        let (old, new) = (compiled(&before), compiled(&after));
        let whole = compare(&old, &new, usize::MAX, usize::MAX);
        let classes = Classes::of([&old, &new]);
        let touched = affected(&old, &new);
        for principal in principals() {
            for (action, resource) in targets() {
                let verdicts = asked(&old, &new, &principal, action, &resource);
                // Neither knows it: both refuse.
                let Some((caller, target)) = classes.find(&principal, &resource) else {
                    prop_assert!(verdicts.iter().all(|both| *both == (Effect::Deny, Effect::Deny)));
                    continue;
                };
                let (caller, target) = (&classes.callers[caller].0, &classes.targets[target].0);
                let cell = whole.cells.iter().find(|cell| (&cell.principal, cell.action, &cell.resource) == (caller, action, target));
                for (was, is) in verdicts {
                    let told = format!("{principal} {action} {resource}: {was} {is}, {cell:?}\n--\n{}--\n{}", text(&before), text(&after));
                    if was != is {
                        prop_assert!(touched.concerns(&principal, action, &resource), "{}", told);
                        prop_assert!(cell.is_some(), "{}", told);
                        prop_assert!(is == Effect::Deny || whole.widens && cell.is_some_and(|cell| cell.may_gain), "{}", told);
                    }
                    match cell.map(|cell| cell.kind) {
                        Some(CellKind::Gains) => prop_assert!(was == Effect::Deny && is == Effect::Allow, "{}", told),
                        Some(CellKind::Loses) => prop_assert!(was == Effect::Allow && is == Effect::Deny, "{}", told),
                        Some(CellKind::Depends) | None => {}
                    }
                }
            }
        }
    }
}

#[test]
fn a_difference_with_itself_is_none() {
    let snapshot = shop_with(POLICIES_OF_SHOP);
    let difference = diff(&snapshot, &snapshot);
    assert!(difference.is_empty() && !difference.widens);
    assert_eq!(difference.to_text(), "no difference\n");
}

const POLICIES_OF_SHOP: &str = "@id(\"a\") permit (principal, action == Action::\"grpc\", resource);";
