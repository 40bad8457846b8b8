//! What a policy says about one variable, from its scope or from a conjunct that constrains nothing else, and how that
//! reads: as Cedar for documents, as words for people.

use crate::{
    scope::{Lineage, Term},
    uid::{format_uid, type_of},
};
use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid};
use serde_json::{Map, Value};

/// A constraint on principal, action or resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VarTerm {
    Any,
    Eq(EntityUid),
    /// `in X`, or `in [X, Y]`.
    In(Vec<EntityUid>),
    /// `[X, Y].contains(..)`.
    OneOf(Vec<EntityUid>),
    Is(EntityTypeName, Vec<EntityUid>),
}

/// Names of entities that are listed before `and N more`.
const LISTED: usize = 5;

impl VarTerm {
    pub(crate) fn of_scope(term: &Term) -> VarTerm {
        match term {
            Term::Any => VarTerm::Any,
            Term::Eq(uid) => VarTerm::Eq(uid.clone()),
            Term::In(uid) => VarTerm::In(vec![uid.clone()]),
            Term::Is(kind) => VarTerm::Is(kind.clone(), Vec::new()),
            Term::IsIn(kind, uid) => VarTerm::Is(kind.clone(), vec![uid.clone()]),
        }
    }

    pub(crate) fn of_action(constraint: &ActionConstraint) -> VarTerm {
        match constraint {
            ActionConstraint::Any => VarTerm::Any,
            ActionConstraint::Eq(uid) => VarTerm::Eq(uid.clone()),
            ActionConstraint::In(uids) => VarTerm::In(uids.clone()),
        }
    }

    /// The variable and the constraint, when a conjunct in Cedar's JSON form is nothing but that (EX2).
    pub(crate) fn of_conjunct(conjunct: &Value) -> Option<(&str, VarTerm)> {
        let (operator, operands) = conjunct.as_object().and_then(only)?;
        let left = operands.get("left")?;
        let variable = |node: &'_ Value| variable(node).is_some();
        match operator {
            "==" => {
                let right = operands.get("right")?;
                let (var, other) = if variable(left) { (left, right) } else { (right, left) };
                Some((self::variable(var)?, VarTerm::Eq(literal(other)?)))
            }
            "in" => Some((self::variable(left)?, VarTerm::In(literals(operands.get("right")?)?))),
            "contains" => Some((self::variable(operands.get("right")?)?, VarTerm::OneOf(literals(left)?))),
            "is" => {
                let kind = type_of(operands.get("entity_type")?.as_str()?)?;
                let within = operands.get("in").map(literals);
                let within = match within {
                    Some(uids) => uids?,
                    None => Vec::new(),
                };
                Some((self::variable(left)?, VarTerm::Is(kind, within)))
            }
            _ => None,
        }
    }

    pub(crate) fn matches(&self, lineage: &Lineage) -> bool {
        let is_in_any = |uids: &[EntityUid]| uids.iter().any(|uid| lineage.is_in(uid));
        match self {
            VarTerm::Any => true,
            VarTerm::Eq(uid) => lineage.uid == *uid,
            VarTerm::In(uids) => is_in_any(uids),
            VarTerm::OneOf(uids) => uids.contains(&lineage.uid),
            VarTerm::Is(kind, uids) => {
                lineage.uid.type_name() == kind && (uids.is_empty() || is_in_any(uids))
            }
        }
    }

    /// As it stands in a policy, without the variable.
    pub(crate) fn to_cedar(&self) -> String {
        match self {
            VarTerm::Any => "any".to_owned(),
            VarTerm::Eq(uid) => format!("== {}", cedar(uid)),
            VarTerm::In(uids) | VarTerm::OneOf(uids) => format!("in {}", cedar_list(uids)),
            VarTerm::Is(kind, uids) if uids.is_empty() => format!("is {kind}"),
            VarTerm::Is(kind, uids) => format!("is {kind} in {}", cedar_list(uids)),
        }
    }

    /// For a matched line: the term in words.
    pub(crate) fn to_words(&self, is_action: bool) -> String {
        match self {
            VarTerm::Any => "any".to_owned(),
            VarTerm::Eq(uid) => words(uid, is_action),
            VarTerm::In(uids) | VarTerm::OneOf(uids) if is_action => listed(uids, None),
            VarTerm::In(uids) => format!("in {}", listed_words(uids)),
            VarTerm::OneOf(uids) => format!("one of {}", listed_words(uids)),
            VarTerm::Is(kind, uids) if uids.is_empty() => format!("any {kind}"),
            VarTerm::Is(kind, uids) => format!("{kind} in {}", listed_words(uids)),
        }
    }

    /// For a failed line: what the policy names, without repeating the type that `request` has.
    pub(crate) fn names(&self, request: &EntityUid) -> String {
        let kind = request.type_name();
        match self {
            VarTerm::Any => "any".to_owned(),
            VarTerm::Eq(uid) => listed(std::slice::from_ref(uid), Some(kind)),
            VarTerm::In(uids) | VarTerm::OneOf(uids) => listed(uids, Some(kind)),
            VarTerm::Is(wanted, uids) if wanted == kind && !uids.is_empty() => listed(uids, Some(kind)),
            VarTerm::Is(wanted, _) => format!("a {wanted}"),
        }
    }
}

/// Top-level conjuncts of a condition body, in order.
pub(crate) fn conjuncts(body: &Value) -> Vec<&Value> {
    match body.get("&&") {
        Some(and) => {
            ["left", "right"].into_iter().filter_map(|side| and.get(side)).flat_map(conjuncts).collect()
        }
        None => vec![body],
    }
}

/// `Type::"id"` as this crate writes it.
pub(crate) fn cedar(uid: &EntityUid) -> String {
    format_uid(&uid.type_name().to_string(), uid.id().unescaped())
}

/// `Type "id"`, or the bare id of an action.
pub(crate) fn words(uid: &EntityUid, is_action: bool) -> String {
    let id = uid.id().unescaped();
    if is_action { id.to_owned() } else { format!("{} \"{id}\"", short_type(&uid.type_name().to_string())) }
}

/// A type without our own namespace.
pub(crate) fn short_type(kind: &str) -> &str {
    kind.trim_start_matches("Portcullis::")
}

fn cedar_list(uids: &[EntityUid]) -> String {
    match uids {
        [one] => cedar(one),
        many => format!("[{}]", many.iter().map(cedar).collect::<Vec<_>>().join(", ")),
    }
}

fn listed_words(uids: &[EntityUid]) -> String {
    shortened(uids.iter().map(|uid| words(uid, false)).collect())
}

/// Ids, with their type where it is not `kind`; what shares everything before the last `/` with its predecessor is cut there.
fn listed(uids: &[EntityUid], kind: Option<&EntityTypeName>) -> String {
    let mut before: Option<&str> = None;
    let mut names = Vec::new();
    for uid in uids {
        let id: &str = uid.id().unescaped();
        let stem = id.rfind('/').and_then(|at| id.split_at_checked(at));
        names.push(match stem {
            Some((stem, rest)) if before == Some(stem) => rest.to_owned(),
            _ if kind.is_none_or(|kind| kind == uid.type_name()) => id.to_owned(),
            _ => words(uid, false),
        });
        before = stem.map(|(stem, _)| stem);
    }
    shortened(names)
}

fn shortened(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let list = names.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

fn only(members: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, value) = members.iter().next()?;
    (members.len() == 1).then_some((name.as_str(), value))
}

fn variable(node: &Value) -> Option<&str> {
    node.get("Var")
        .and_then(Value::as_str)
        .filter(|name| matches!(*name, "principal" | "action" | "resource"))
}

/// `{"Value": {"__entity": {"type": .., "id": ..}}}`.
fn literal(node: &Value) -> Option<EntityUid> {
    let entity = node.get("Value")?.get("__entity")?;
    let kind = type_of(entity.get("type")?.as_str()?)?;
    Some(EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(entity.get("id")?.as_str()?)))
}

/// One literal, or a set of nothing else.
fn literals(node: &Value) -> Option<Vec<EntityUid>> {
    match node.get("Set").or_else(|| node.get("Value").filter(|value| value.is_array())) {
        Some(set) => set.as_array()?.iter().map(literal).collect(),
        None => Some(vec![literal(node)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn conjunct(text: &str) -> Value {
        let policy =
            Policy::parse(None, format!("permit(principal, action, resource) when {{ {text} }};")).unwrap();
        policy.to_json().unwrap().pointer("/conditions/0/body").unwrap().clone()
    }

    #[test]
    fn ex2_a_conjunct_about_one_variable_is_read_as_a_term() {
        let cases = [
            (r#"principal == Workload::"a""#, "principal", r#"== Workload::"a""#),
            (r#"Workload::"a" == principal"#, "principal", r#"== Workload::"a""#),
            (
                r#"resource in [Method::"a/B", Method::"a/C"]"#,
                "resource",
                r#"in [Method::"a/B", Method::"a/C"]"#,
            ),
            (
                r#"[Method::"a/B", Method::"a/C"].contains(resource)"#,
                "resource",
                r#"in [Method::"a/B", Method::"a/C"]"#,
            ),
            (r#"action in Action::"call""#, "action", r#"in Action::"call""#),
            ("principal is Workload", "principal", "is Workload"),
            (r#"principal is Workload in Group::"g""#, "principal", r#"is Workload in Group::"g""#),
        ];
        for (text, variable, cedar) in cases {
            let json = conjunct(text);
            let (found, term) = VarTerm::of_conjunct(&json).unwrap_or_else(|| panic!("{text}: {json}"));
            assert_eq!((found, term.to_cedar().as_str()), (variable, cedar), "{text}");
        }
        for other in ["context.connection.mtls", r#"principal == resource"#, r#"principal.path == "/a""#] {
            assert_eq!(VarTerm::of_conjunct(&conjunct(other)), None, "{other}");
        }
    }

    #[test]
    fn names_share_what_stands_before_the_last_slash() {
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let method = uid(r#"Method::"shop.Orders/Refund""#);
        let term =
            VarTerm::In(vec![uid(r#"Method::"shop.Orders/Get""#), uid(r#"Method::"shop.Orders/List""#)]);
        assert_eq!(term.names(&method), "shop.Orders/Get, /List");
        assert_eq!(
            VarTerm::In(vec![uid(r#"RpcService::"shop.Stock""#)]).names(&method),
            r#"RpcService "shop.Stock""#
        );
        let many = VarTerm::OneOf((0..8).map(|n| uid(&format!("Route::\"r{n}\""))).collect());
        assert_eq!(many.names(&uid(r#"Route::"x""#)), "r0, r1, r2, r3, r4 and 3 more");
    }

    #[test]
    fn conjuncts_keep_their_order() {
        let json = conjunct("context.a && (context.b || context.c) && context.d");
        assert_eq!(conjuncts(&json).len(), 3);
    }
}
