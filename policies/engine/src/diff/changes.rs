//! Which policies differ, and in what. Compares what policies mean, not how they are written.

use super::{ChangeKind, PolicyChange};
use crate::{
    Audit, Snapshot,
    explain::expression,
    rule::Rule,
    scope::{Scope, Term},
};
use cedar_policy::{ActionConstraint, Policy, pst::Clause};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// Changed policies, by id.
pub(super) fn policies(old: &Snapshot, new: &Snapshot) -> Vec<PolicyChange> {
    let others = |of: &Snapshot, other: &Snapshot| {
        let is_other = |rule: &&Arc<Rule>| {
            !other.rule(&rule.id).is_some_and(|twin| std::ptr::eq(twin, Arc::as_ptr(rule)))
        };
        of.parts().rules.iter().filter(is_other).map(|rule| Arc::clone(&rule.id)).collect::<Vec<_>>()
    };
    let all: BTreeSet<Arc<str>> = others(old, new).into_iter().chain(others(new, old)).collect();
    all.iter().filter_map(|id| change(old.rule(id), new.rule(id))).collect()
}

fn change(old: Option<&Rule>, new: Option<&Rule>) -> Option<PolicyChange> {
    let (kind, parts, loosens) = match (old, new) {
        (Some(old), Some(new)) => compare(old, new)?,
        (None, Some(_)) => (ChangeKind::Added, Vec::new(), false),
        (Some(old), None) => (ChangeKind::Removed, Vec::new(), is_live(old) && !old.is_permit()),
        (None, None) => return None,
    };
    let shown = new.or(old)?;
    Some(PolicyChange {
        id: Arc::clone(&shown.id),
        kind,
        effect: shown.effect,
        is_baseline: [old, new].into_iter().flatten().any(|rule| rule.is_baseline),
        file: Arc::clone(&shown.place.file),
        line: shown.place.line,
        owner: shown.notes.owner.clone(),
        parts,
        loosens,
    })
}

fn is_live(rule: &Rule) -> bool {
    !rule.notes.is_shadow
}

/// Whether both judge the same calls alike, whatever their layout, place and other annotations.
pub(super) fn judges_alike(old: &Rule, new: &Rule) -> bool {
    let is_alike = old.notes.expires == new.notes.expires && is_live(old) == is_live(new);
    is_alike && meaning(old, new, has_same_conditions(old, new)).next().is_none()
}

/// What differs between two readings of one policy; `None` when nothing does.
fn compare(old: &Rule, new: &Rule) -> Option<(ChangeKind, Vec<String>, bool)> {
    if std::ptr::eq(old, new) {
        return None;
    }
    let has_same_conditions = has_same_conditions(old, new);
    let mut parts: Vec<String> = meaning(old, new, has_same_conditions).map(str::to_owned).collect();
    let is_other = !parts.is_empty();
    let annotations = annotations(old, new);
    let is_annotated = !annotations.is_empty();
    parts.extend(annotations);
    if old.place != new.place {
        parts.push("place".to_owned());
    }
    let kind = match (is_other, is_annotated, parts.is_empty()) {
        (true, _, _) => ChangeKind::Changed,
        (false, true, _) => ChangeKind::Annotated,
        (false, false, false) => ChangeKind::Moved,
        (false, false, true) => return None,
    };
    let loosens = loosens(old, new, has_same_conditions);
    Some((kind, parts, loosens))
}

/// Names of the parts that mean something else.
fn meaning<'a>(old: &Rule, new: &Rule, has_same_conditions: bool) -> impl Iterator<Item = &'a str> {
    let differ = [
        ("effect", old.effect != new.effect),
        ("principal", old.scope.principal != new.scope.principal),
        ("action", old.scope.action != new.scope.action),
        ("resource", old.scope.resource != new.scope.resource),
        ("conditions", !has_same_conditions),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}

/// `@name` of every annotation that is not the same in both.
fn annotations(old: &Rule, new: &Rule) -> Vec<String> {
    let of = |rule: &Rule| {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let policy = rule.policy();
        policy.iter().flat_map(Policy::annotations).map(owned).collect::<BTreeSet<_>>()
    };
    let (old, new) = (of(old), of(new));
    let names: BTreeSet<String> =
        old.symmetric_difference(&new).map(|(name, _)| format!("@{name}")).collect();
    names.into_iter().filter(|name| name != "@id").collect()
}

/// Whether conditions read the same, whatever their layout.
pub(super) fn has_same_conditions(old: &Rule, new: &Rule) -> bool {
    if old.text == new.text || (old.reads.is_none() && new.reads.is_none()) {
        return true;
    }
    match (clauses(old), clauses(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// Its conditions as it writes them, on one line: `permit a when { .. }`.
pub(super) fn conditions(rule: &Rule) -> String {
    let effect = if rule.is_permit() { "permit" } else { "forbid" };
    let json = rule.json();
    let clause = |clause: &Value| {
        let kind = clause.get("kind").and_then(Value::as_str).unwrap_or("when");
        format!(" {kind} {{ {} }}", expression::to_text(clause.get("body").unwrap_or(&Value::Null)))
    };
    let clauses = json.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let clauses: String = clauses.map(clause).collect();
    let until = rule.notes.expires.map(|expires| format!(" until {expires}")).unwrap_or_default();
    format!("{effect} {}{clauses}{until}", rule.id)
}

fn clauses(rule: &Rule) -> Option<Vec<Clause>> {
    rule.policy().ok()?.to_pst().ok().map(|policy| policy.body().clauses().clone())
}

/// Judges or records less strictly by itself. What a wider permit opens shows in the cells.
fn loosens(old: &Rule, new: &Rule, has_same_conditions: bool) -> bool {
    let lost_audit = strength(old.notes.audit) > strength(new.notes.audit);
    let went_live = new.is_permit() && !is_live(old) && is_live(new);
    let lasts_longer = new.is_permit()
        && match (old.notes.expires, new.notes.expires) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(after)) => after > before,
        };
    let was_forbid = !old.is_permit() && is_live(old);
    let still_forbids = !new.is_permit()
        && is_live(new)
        && covers(&new.scope, &old.scope)
        && (has_same_conditions || new.reads.is_none());
    lost_audit || went_live || lasts_longer || (was_forbid && !still_forbids)
}

/// No word asks for less than the weakest word does.
fn strength(audit: Option<Audit>) -> u8 {
    match audit {
        None => 0,
        Some(Audit::BestEffort) => 1,
        Some(Audit::Required) => 2,
        Some(Audit::Durable) => 3,
    }
}

/// Whether `wide` certainly matches whatever `narrow` matches.
fn covers(wide: &Scope, narrow: &Scope) -> bool {
    let action = match (&*wide.action, &*narrow.action) {
        (ActionConstraint::Any, _) => true,
        (ActionConstraint::In(wide), ActionConstraint::In(narrow)) => {
            narrow.iter().all(|uid| wide.contains(uid))
        }
        (ActionConstraint::In(wide), ActionConstraint::Eq(uid)) => wide.contains(uid),
        (wide, narrow) => wide == narrow,
    };
    action && term_covers(&wide.principal, &narrow.principal) && term_covers(&wide.resource, &narrow.resource)
}

fn term_covers(wide: &Term, narrow: &Term) -> bool {
    match (wide, narrow) {
        (Term::Any, _) => true,
        (Term::Is(kind), Term::IsIn(narrow, _)) => kind == narrow,
        (Term::Is(kind), Term::Eq(uid)) => kind == uid.type_name(),
        (Term::In(wide), Term::Eq(uid) | Term::IsIn(_, uid)) => wide == uid,
        (wide, narrow) => wide == narrow,
    }
}
