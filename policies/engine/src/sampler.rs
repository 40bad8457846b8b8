//! Production doubt (OR3): one of so many decisions is offered to somebody who judges it again by stock Cedar, off the
//! path. Where the two differ, the compiled conditions of that decision are no longer trusted in this snapshot.

use crate::{
    AccessRequest, Action, AdminContext, Costly, Decision, OwnedFacts, Principal, Reason, Resource, Snapshot,
    stock,
};
use base_ports::UnixTime;
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Every so many decisions of a worker.
pub(crate) const EVERY: u32 = 1_024;
/// At most 50 per second and worker.
pub(crate) const APART: Duration = Duration::from_millis(20);

/// Takes samples. Called by workers on the path of a call: it must not block, and may drop.
pub trait Samples: Send + Sync + fmt::Debug {
    /// Takes one.
    fn offer(&self, sample: Sample);

    /// The candidate beside the live policies costs more than it may (SH3).
    fn costly(&self, costly: Costly);
}

/// A decision with everything that led to it.
#[derive(Debug)]
pub struct Sample {
    snapshot: Arc<Snapshot>,
    principal: Principal,
    action: Action,
    resource: Resource,
    facts: OwnedFacts,
    now: UnixTime,
    extra: Option<AdminContext>,
    decision: Decision,
}

/// The engine and stock Cedar differ.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// Who.
    pub principal: Principal,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: Resource,
    /// The engine's answer, which was carried out.
    pub ours: Decision,
    /// Stock Cedar's.
    pub stock: Decision,
    /// Policies that stock Cedar judges from now on.
    pub moved: Vec<Arc<str>>,
}

impl Sample {
    pub(crate) fn new(snapshot: &Arc<Snapshot>, request: &AccessRequest<'_>, decision: &Decision) -> Sample {
        Sample {
            snapshot: Arc::clone(snapshot),
            principal: request.principal.clone(),
            action: request.action,
            resource: request.resource.clone(),
            facts: OwnedFacts::copy(request.facts, &snapshot.versions().declared),
            now: request.now,
            extra: request.extra.cloned(),
            decision: decision.clone(),
        }
    }

    /// Judges again. Takes as long as stock Cedar takes. On a difference the compiled conditions behind the decision are
    /// moved to stock Cedar for the rest of this snapshot's life.
    #[must_use]
    pub fn recheck(self) -> Option<Mismatch> {
        let request = AccessRequest {
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts: &self.facts,
            now: self.now,
            extra: self.extra.as_ref(),
        };
        // A refusal is not of the policies' making; a required fact that no condition read may be missing there.
        let Ok(answer) = stock::judge(&self.snapshot, &request) else { return None };
        let (ours, stock) = (self.decision, answer.decision);
        let is_same = ours.effect == stock.effect
            && ours.reason == stock.reason
            && ours.determining == stock.determining
            && ours.errors == stock.errors;
        if is_same || ours.reason == Reason::EngineFault {
            return None;
        }
        let moved = self.snapshot.distrust(&request);
        Some(Mismatch {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            ours,
            stock,
            moved,
        })
    }
}

/// Rules whose compiled conditions are not used any more.
#[derive(Debug, Default)]
pub(crate) struct Distrust {
    generation: AtomicU64,
    rules: Mutex<HashSet<usize>>,
}

impl Distrust {
    /// Grows with every rule that is moved.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, rule: usize) -> bool {
        self.generation() > 0 && self.rules.lock().contains(&rule)
    }

    fn add(&self, rules: impl IntoIterator<Item = usize>) {
        self.rules.lock().extend(rules);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Snapshot {
    /// Moves every candidate with conditions to stock Cedar.
    fn distrust(&self, request: &AccessRequest<'_>) -> Vec<Arc<str>> {
        let Ok(cast) = self.cast(request) else { return Vec::new() };
        let parts = self.parts();
        let found = parts.index.find(&cast.triple.principal, &cast.triple.resource);
        let moved: Vec<usize> = found
            .into_iter()
            .filter(|at| {
                parts.rules.get(*at).is_some_and(|rule| {
                    rule.reads.is_some() && cast.triple.action.matches_action(&rule.scope.action)
                })
            })
            .collect();
        parts.distrust.add(moved.iter().copied());
        moved.into_iter().filter_map(|at| parts.rules.get(at)).map(|rule| Arc::clone(&rule.id)).collect()
    }
}
