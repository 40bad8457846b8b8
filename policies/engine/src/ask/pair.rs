//! One caller, one action, one resource: which policies are left, and the verdict that follows (SE1).

use super::{
    Condition, Verdict, Who,
    class::shares,
    fold::{Folded, Known, Tree},
};
use crate::{
    AccessRequest, Action, OwnedFacts, Resource, Snapshot,
    cast::{Cast, Stage},
    explain::PolicyPlace,
    rule::Rule,
    stock,
};
use base_ports::UnixTime;
use cedar_policy::{Context, Request};
use serde_json::{Value, json};
use std::{
    cell::OnceCell,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// One pair, as it is asked.
pub(super) struct Asked<'a> {
    pub(super) who: &'a Who,
    pub(super) action: Action,
    pub(super) resource: &'a Resource,
    pub(super) facts: &'a OwnedFacts,
}

/// Answers pairs of one snapshot; conditions are taken apart once.
pub(super) struct Pairs<'a> {
    snapshot: &'a Snapshot,
    now: UnixTime,
    trees: HashMap<usize, Option<Arc<Tree>>>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, now: UnixTime) -> Pairs<'a> {
        Pairs { snapshot, now, trees: HashMap::new() }
    }

    /// The verdict with the policies behind it; `None` when every call is denied.
    pub(super) fn standing(&mut self, asked: &Asked<'_>) -> Option<(Verdict, Vec<PolicyPlace>)> {
        let snapshot = self.snapshot;
        let request = AccessRequest {
            principal: asked.who.principal(),
            action: asked.action,
            resource: asked.resource,
            facts: asked.facts,
            now: self.now,
            extra: None,
        };
        let cast = snapshot.cast(&request).ok()?;
        let found = snapshot.parts().index.find(&cast.triple.principal, &cast.triple.resource);
        let scene = OnceCell::new();
        let mut granting: Vec<&Rule> = Vec::new();
        let mut open: Vec<(&Rule, Value)> = Vec::new();
        for at in found {
            let Some(rule) = snapshot.parts().rules.get(at) else { continue };
            if !self.is_in_force(rule) || !cast.triple.action.matches_action(&rule.scope.action) {
                continue;
            }
            let folded = match self.tree(at, rule) {
                Some(tree) => fold(&tree, snapshot, asked, &cast, &scene),
                None => Folded::True,
            };
            match folded {
                Folded::True if rule.is_permit() => granting.push(rule),
                Folded::True | Folded::Failed if !rule.is_permit() => return None,
                Folded::Open(left) => open.push((rule, left)),
                // A forbid that fails denies; a permit that fails grants nothing.
                Folded::FalseOrFailed(left) if !rule.is_permit() => open.push((rule, left)),
                _ => {}
            }
        }
        let (permits, forbids): (Vec<_>, Vec<_>) = open.into_iter().partition(|(rule, _)| rule.is_permit());
        if granting.is_empty() && permits.is_empty() {
            return None;
        }
        let place = |rule: &&Rule| PolicyPlace::of(rule);
        if !granting.is_empty() && forbids.is_empty() {
            return Some((Verdict::Allow, granting.iter().map(place).collect()));
        }
        let permits = if granting.is_empty() { permits } else { Vec::new() };
        let behind = granting.iter().copied().chain(permits.iter().chain(&forbids).map(|(rule, _)| *rule));
        let policies = behind.map(PolicyPlace::of).collect();
        let left = |open: Vec<(&Rule, Value)>| open.into_iter().map(|(_, left)| left).collect();
        let condition =
            Condition { is_permitted: !granting.is_empty(), permits: left(permits), forbids: left(forbids) };
        Some((Verdict::Depends(condition), policies))
    }

    pub(super) fn is_in_force(&self, rule: &Rule) -> bool {
        !rule.notes.is_shadow && !rule.is_expired(self.now)
    }

    /// The conditions of a rule as one expression; `None` where it has none.
    pub(super) fn tree(&mut self, at: usize, rule: &Rule) -> Option<Arc<Tree>> {
        match self.trees.entry(at) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                place.insert(condition(rule).map(|whole| Arc::new(Tree::of(&whole)))).clone()
            }
        }
    }
}

/// Bodies of `when`, and of `unless` turned round, as one conjunction.
fn condition(rule: &Rule) -> Option<Value> {
    if !rule.has_conditions() {
        return None;
    }
    let json = rule.json();
    let body = |condition: &Value| {
        let body = condition.get("body")?.clone();
        let is_unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
        Some(if is_unless { json!({ "!": { "arg": body } }) } else { body })
    };
    let bodies = json.get("conditions").and_then(Value::as_array)?.iter().filter_map(body);
    bodies.reduce(|left, right| json!({ "&&": { "left": left, "right": right } }))
}

fn fold(
    tree: &Tree,
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    cast: &Cast,
    scene: &OnceCell<Option<(Stage, Request)>>,
) -> Folded {
    let make = || {
        let stage = snapshot.stage(cast).ok()?;
        let question = stock::question(&stage, Context::empty()).ok()?;
        Some((stage, question))
    };
    tree.fold(&Known {
        triple: &cast.triple,
        scene: &|| scene.get_or_init(make).as_ref(),
        knows: &|attribute| match asked.who {
            Who::One(_) => true,
            Who::All { class, .. } => shares(class, attribute),
        },
        is_one: matches!(asked.who, Who::One(_)),
    })
}
