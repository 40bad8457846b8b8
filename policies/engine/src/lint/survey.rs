//! What the rules of lint ask about all policies and entities, gathered once so that each policy costs no walk over them.

use super::LintInput;
use crate::{Action, PolicyCoverage, Snapshot, rule::Rule, scope::Lineage, uid::cedar_uid};
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

    /// Without any service nobody said what is offered.
    pub(crate) fn knows_targets(&self) -> bool {
        self.has("Service")
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
