//! Denials by caller, action and target, in bounded number.

use super::{Forbidden, owned};
use crate::{
    Action, Decision, Declared, OwnedFacts, Principal, Reason, Resource, Snapshot,
    explain::RequestForExplain, impact::Recorded,
};
use base_ports::UnixTime;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Triples that are held.
const TRIPLES: usize = 10_000;
/// Groups of forbidden calls that are held.
const FORBIDDEN: usize = 1_000;
/// Triples that get a case.
const CASES: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Denials {
    /// By their names, so that the outcome does not depend on the order of records.
    denied: BTreeMap<(String, Action, String), Denial>,
    forbidden: HashMap<Key, Forbidden>,
}

/// Which calls are one group: the forbids, the caller, what was asked for, the target.
type Key = (Vec<Arc<str>>, Principal, Action, Resource);

#[derive(Debug)]
struct Denial {
    triple: Triple,
    facts: OwnedFacts,
    now: UnixTime,
}

/// Who was denied what, and what all those calls had in common.
#[derive(Debug, Clone)]
pub(super) struct Triple {
    pub(super) principal: Principal,
    pub(super) action: Action,
    pub(super) resource: Resource,
    /// Every one of the calls came over a connection on which the caller proved itself.
    pub(super) is_mtls: bool,
    pub(super) count: u64,
}

impl Denials {
    /// Takes a denial by no permit; `false` when there is no room.
    pub(super) fn denied(&mut self, recorded: &Recorded<'_>) -> bool {
        let is_mtls = recorded.facts.is_some_and(|facts| facts.connection().mtls);
        let key = (recorded.principal.to_string(), recorded.action, recorded.resource.to_string());
        if let Some(denial) = self.denied.get_mut(&key) {
            denial.triple.count += 1;
            denial.triple.is_mtls &= is_mtls;
            return true;
        }
        if self.denied.len() >= TRIPLES {
            return false;
        }
        let triple = Triple {
            principal: recorded.principal.clone(),
            action: recorded.action,
            resource: recorded.resource.clone(),
            is_mtls,
            count: 1,
        };
        let all = recorded.carried.declared.map(Arc::as_ref).cloned().unwrap_or_default();
        let facts = owned(recorded.facts, &all);
        self.denied.insert(key, Denial { triple, facts, now: recorded.now });
        true
    }

    pub(super) fn forbidden(&mut self, recorded: &Recorded<'_>, decision: &Decision, snapshot: &Snapshot) {
        let is_forbid = |id: &Arc<str>| snapshot.rule(id).is_some_and(|rule| !rule.is_permit());
        let failed = decision.errors.iter().map(|error| Arc::clone(&error.policy)).filter(is_forbid);
        let policies: Vec<Arc<str>> = match decision.reason {
            Reason::ForbidError => failed.collect(),
            _ => decision.determining.to_vec(),
        };
        let key = (policies, recorded.principal.clone(), recorded.action, recorded.resource.clone());
        let is_full = self.forbidden.len() >= FORBIDDEN;
        if let Some(known) = self.forbidden.get_mut(&key) {
            known.count += 1;
        } else if !is_full {
            let forbidden = Forbidden {
                policies: key.0.clone(),
                owner: key.0.iter().find_map(|id| snapshot.rule(id)?.notes.owner.clone()),
                principal: recorded.principal.clone(),
                action: recorded.action,
                resource: recorded.resource.clone(),
                count: 1,
                example: recorded.id,
            };
            self.forbidden.insert(key, forbidden);
        }
    }

    pub(super) fn triples(&self) -> impl Iterator<Item = &Triple> {
        self.denied.values().map(|denial| &denial.triple)
    }

    /// One call of each triple, as a question.
    pub(super) fn samples(&self, declared: &Declared) -> Vec<RequestForExplain> {
        let sample = |denial: &Denial| RequestForExplain {
            principal: denial.triple.principal.clone(),
            action: denial.triple.action,
            resource: denial.triple.resource.clone(),
            facts: OwnedFacts::copy(&denial.facts, declared),
            now: denial.now,
            extra: None,
            recorded: None,
        };
        self.denied.values().take(CASES).map(sample).collect()
    }

    pub(super) fn into_forbidden(self) -> Vec<Forbidden> {
        let mut all: Vec<Forbidden> = self.forbidden.into_values().collect();
        all.sort_by_cached_key(|one| {
            (
                Reverse(one.count),
                one.principal.to_string(),
                one.action,
                one.resource.to_string(),
                one.policies.clone(),
            )
        });
        all
    }
}
