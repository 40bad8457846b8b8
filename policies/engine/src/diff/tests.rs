//! Differences between snapshots made from text.

use super::*;
use crate::tests::shop_with;

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
