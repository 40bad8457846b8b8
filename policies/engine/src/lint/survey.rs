//! What the rules of lint ask about all policies and entities, gathered once so that each policy costs no walk over them.

use super::{LintInput, subject::target_kind};
use crate::{
    Action, PolicyCoverage, Snapshot,
    rule::Rule,
    scope::{Lineage, Term},
    uid::cedar_uid,
};
use cedar_policy::Entity;
use std::collections::{HashMap, HashSet};

pub(crate) struct Survey<'a> {
    /// Types of which there is an entity.
    kinds: HashSet<String>,
    /// Forbids in force that ask nothing but their scope.
    pub(crate) forbids: Vec<&'a Rule>,
    /// The calls of the data plane.
    pub(crate) calls: Vec<(Action, Lineage)>,
    /// By policy id.
    pub(crate) coverage: HashMap<&'a str, &'a PolicyCoverage>,
}

impl<'a> Survey<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, input: &LintInput<'a>) -> Survey<'a> {
        let parts = snapshot.parts();
        let rules = parts.rules.iter().map(|rule| &**rule);
        let is_absolute = |rule: &&Rule| !rule.is_permit() && !rule.notes.is_shadow && !rule.has_conditions();
        let lineage = |action: &Action| {
            let uid = cedar_uid(action.entity_type(), action.as_str());
            let up: Vec<_> = parts.entities.ancestors(&uid).into_iter().flatten().cloned().collect();
            (*action, Lineage::new(uid, up))
        };
        let covered = input.coverage.iter().flat_map(|(coverage, _)| &coverage.policies);
        Survey {
            kinds: kinds(snapshot),
            forbids: rules.filter(is_absolute).collect(),
            calls: Action::CALLS.iter().map(lineage).collect(),
            coverage: covered.map(|policy| (&*policy.id, policy)).collect(),
        }
    }

    /// Whether anything of that type exists.
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// Calls of the data plane that the scope of a policy covers.
    pub(crate) fn calls_of(&self, rule: &Rule) -> impl Iterator<Item = (Action, &Lineage)> + '_ {
        let scope = std::sync::Arc::clone(&rule.scope);
        let calls = self.calls.iter().map(|(action, lineage)| (*action, lineage));
        calls.filter(move |(action, lineage)| {
            lineage.matches_action(&scope.action) && is_about(&scope.resource, target_kind(*action))
        })
    }

    /// Whether there is a target for every call.
    pub(crate) fn has_all_targets(&self) -> bool {
        self.calls.iter().all(|(action, _)| self.has(target_kind(*action)))
    }

    /// Without any service nobody said what is offered.
    pub(crate) fn knows_targets(&self) -> bool {
        self.has("Service")
    }
}

/// Whether a resource scope leaves room for a target of that type.
fn is_about(resource: &Term, kind: &str) -> bool {
    match resource {
        Term::Any | Term::In(_) => true,
        Term::Eq(uid) => uid.type_name().to_string() == kind,
        Term::Is(name) | Term::IsIn(name, _) => name.to_string() == kind,
    }
}

/// Types of which there is an entity.
pub(crate) fn kinds(snapshot: &Snapshot) -> HashSet<String> {
    let mut kinds = HashSet::new();
    let mut seen = HashSet::new();
    for uid in snapshot.parts().entities.iter().map(Entity::uid) {
        if seen.insert(uid.type_name().clone()) {
            kinds.insert(uid.type_name().to_string());
        }
    }
    kinds
}
