//! Changed and undecided decisions, gathered by who, what and why; the number of groups is bounded.

use super::{Cause, Change, Group, Impact, Lacking, Recorded};
use crate::{Action, Decision, DecisionId, Principal, Reason, Resource};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Most groups that are held.
const GROUPS: usize = 10_000;
/// Ids of decisions that a group shows.
const EXAMPLES: usize = 5;
/// Ids of policies that a group names.
const POLICIES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Groups {
    changed: HashMap<Key, Members>,
    ungrouped: u64,
    lacking: HashMap<(Arc<str>, Action, Resource), Members>,
    lacking_ungrouped: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    change: Change,
    reasons: (Reason, Reason),
    principal: Principal,
    action: Action,
    resource: Resource,
}

#[derive(Debug, Default)]
struct Members {
    count: u64,
    examples: Vec<DecisionId>,
    before: BTreeSet<Arc<str>>,
    after: BTreeSet<Arc<str>>,
}

impl Members {
    fn add(&mut self, id: DecisionId) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(id);
        }
    }
}

impl Groups {
    pub(super) fn changed(&mut self, change: Change, recorded: &Recorded<'_>, decision: &Decision) {
        let key = Key {
            change,
            reasons: (recorded.reason, decision.reason),
            principal: recorded.principal.clone(),
            action: recorded.action,
            resource: recorded.resource.clone(),
        };
        if self.changed.len() >= GROUPS && !self.changed.contains_key(&key) {
            self.ungrouped += 1;
            return;
        }
        let members = self.changed.entry(key).or_default();
        members.add(recorded.id);
        note(&mut members.before, recorded.determining.iter().copied());
        let failed = decision.errors.iter().map(|error| &*error.policy);
        let failed = failed.filter(|_| decision.reason == Reason::ForbidError);
        note(&mut members.after, decision.determining.iter().map(|id| &**id).chain(failed));
    }

    pub(super) fn lacking(&mut self, fact: Arc<str>, recorded: &Recorded<'_>) {
        let key = (fact, recorded.action, recorded.resource.clone());
        if self.lacking.len() >= GROUPS && !self.lacking.contains_key(&key) {
            self.lacking_ungrouped += 1;
            return;
        }
        self.lacking.entry(key).or_default().add(recorded.id);
    }

    pub(super) fn finish(self, impact: Impact) -> Impact {
        let group = |(key, members): (Key, Members)| Group {
            change: key.change,
            principal: key.principal,
            action: key.action,
            resource: key.resource,
            before: Cause { reason: key.reasons.0, policies: members.before.into_iter().collect() },
            after: Cause { reason: key.reasons.1, policies: members.after.into_iter().collect() },
            count: members.count,
            examples: members.examples,
        };
        let mut groups: Vec<Group> = self.changed.into_iter().map(group).collect();
        groups.sort_by_cached_key(|group| {
            let names = (group.principal.to_string(), group.action, group.resource.to_string());
            (group.change, Reverse(group.count), names, group.before.reason, group.after.reason)
        });
        let lacking = |((fact, action, resource), members): ((Arc<str>, Action, Resource), Members)| {
            Lacking { fact, action, resource, count: members.count, examples: members.examples }
        };
        let mut lacking: Vec<Lacking> = self.lacking.into_iter().map(lacking).collect();
        lacking.sort_by_cached_key(|group| {
            (Reverse(group.count), Arc::clone(&group.fact), group.action, group.resource.to_string())
        });
        Impact {
            groups,
            ungrouped: self.ungrouped,
            lacking,
            lacking_ungrouped: self.lacking_ungrouped,
            ..impact
        }
    }
}

fn note<'a>(policies: &mut BTreeSet<Arc<str>>, ids: impl Iterator<Item = &'a str>) {
    for id in ids {
        if policies.len() < POLICIES && !policies.contains(id) {
            policies.insert(id.into());
        }
    }
}
