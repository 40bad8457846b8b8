//! The nearest permits, and policies that come from templates, as explanations show them (EX3).

use super::explain::question;
use super::*;
use crate::explain::*;

#[test]
fn a_link_is_explained_by_its_template() {
    let files = [
        (
            "policies/team.cedar",
            "@id(\"stop\") @owner(\"risk\")\nforbid (principal == ?principal, action, resource);",
        ),
        (
            "policies/team.links.json",
            r#"[{ "id": "no-web", "template": "stop", "principal": "Workload::\"spiffe://example.org/web\"" }]"#,
        ),
    ];
    let snapshot = snapshot_of(&files, shop()).unwrap();
    let question = question(Action::Grpc, Resource::method("shop.Orders/Get"));
    let explained = explain(&snapshot, &question);
    let why = explained.cause(&question, &snapshot);
    assert_eq!(why, "forbid matched: no-web [policies/team.cedar:2, link of stop]");
    let document = explained.to_json(&question, &snapshot, None);
    assert_eq!(
        (&document["determining"][0]["template"], &document["who"]["owner"]),
        (&"stop".into(), &"risk".into())
    );
}

/// Every permit taken apart, and then ranked: what the early end must not change.
#[test]
fn ex3_the_nearest_three_are_those_of_a_full_ranking() {
    let mut policies = String::new();
    for n in 0..60 {
        let principal = [
            "principal",
            r#"principal == Workload::"spiffe://example.org/web""#,
            r#"principal in Group::"money""#,
        ][n % 3];
        let action =
            [r#"action in Action::"call""#, r#"action == Action::"grpc""#, r#"action == Action::"http:GET""#]
                [n / 3 % 3];
        let resource =
            ["resource", r#"resource == Method::"shop.Orders/Get""#, r#"resource in Service::"orders""#]
                [n / 9 % 3];
        let condition = [
            "context.connection.tls == 12",
            r#"resource in [Method::"shop.Orders/Get", Method::"shop.Orders/List"]"#,
            "!context.connection.mtls && context.time.weekday == 1",
            r#"principal in Group::"money" && context.connection.tls == 12"#,
        ][n / 27 % 4];
        policies +=
            &format!("@id(\"p{n:02}\") permit ({principal}, {action}, {resource}) when {{ {condition} }};\n");
    }
    let snapshot = shop_with(&policies);
    for method in ["Get", "List", "Refund"] {
        let question = question(Action::Grpc, Resource::method(&format!("shop.Orders/{method}")));
        let explained = explain(&snapshot, &question);
        if explained.reason != Reason::NoPermit {
            continue;
        }
        let found: Vec<String> = explained.nearest.iter().map(|near| near.place.policy.to_string()).collect();
        assert_eq!(found, full_ranking(&snapshot, &question), "{method}");
    }
}

fn full_ranking(snapshot: &Snapshot, question: &RequestForExplain) -> Vec<String> {
    let access = question.access();
    let cast = snapshot.cast(&access).unwrap();
    let mut all: Vec<_> = snapshot
        .parts()
        .rules
        .iter()
        .filter(|rule| rule.is_permit() && cast.triple.distance(&rule.scope) <= 1)
        .map(|rule| {
            let parts = parts_of(snapshot, question, rule);
            let failed: Vec<&str> = parts
                .iter()
                .filter(|part| matches!(part.result, PartResult::Failed(_) | PartResult::Error(_)))
                .map(|part| part.name)
                .collect();
            let order = |name: &&str| {
                ["resource", "action", "condition", "principal"].iter().position(|one| one == name)
            };
            let worst = failed.iter().filter_map(order).max();
            (failed.len(), worst, std::cmp::Reverse(rule.scope.specificity()), rule.id.to_string())
        })
        .collect();
    all.sort();
    all.into_iter().take(3).map(|(.., id)| id).collect()
}
