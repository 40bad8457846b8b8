//! One policy after compilation: its text, its scope, its conditions, its annotations, its place. Cedar's own form of it
//! takes several times the room and is made when somebody asks.

use crate::{Audit, Effect, Reason, compile::Conditions, logic::Logic, scope::Scope, walk::Reads};
use base_ports::UnixTime;
use cedar_policy::{EntityUid, Policy, PolicyId};
use std::sync::Arc;

/// A checked policy.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) effect: Effect,
    /// As it is written, without slots: a link is its template with the values in place.
    pub(crate) text: Arc<str>,
    /// Where stock Cedar judges each call.
    pub(crate) kept: Option<Box<Policy>>,
    pub(crate) scope: Arc<Scope>,
    /// Its conditions.
    pub(crate) logic: Logic,
    /// What its conditions read of the context; `None` when it has no conditions.
    pub(crate) reads: Option<Reads>,
    /// The conditions, as all policies have them that write the same.
    pub(crate) conditions: Option<Arc<Conditions>>,
    pub(crate) notes: Arc<Notes>,
    /// For a link, where its template stands.
    pub(crate) place: Place,
    pub(crate) is_baseline: bool,
    /// Id of the template it is a link of.
    pub(crate) template: Option<Arc<str>>,
}

/// Where a policy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    /// Line of the effect keyword.
    pub(crate) line: usize,
}

/// The reserved annotations of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Notes {
    pub(crate) owner: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) advice: Option<String>,
    pub(crate) audit: Option<Audit>,
    pub(crate) is_shadow: bool,
    pub(crate) expires: Option<UnixTime>,
}

impl Rule {
    pub(crate) fn is_permit(&self) -> bool {
        self.effect == Effect::Allow
    }

    pub(crate) fn has_conditions(&self) -> bool {
        self.reads.is_some()
    }

    /// Every entity it names, as often as it does.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &EntityUid> {
        let conditions = self.conditions.iter().flat_map(|conditions| &conditions.literals);
        self.scope.uids().chain(conditions)
    }

    /// Cedar's form of it, with its id.
    pub(crate) fn policy(&self) -> Result<Policy, Reason> {
        if let Some(kept) = &self.kept {
            return Ok(Policy::clone(kept));
        }
        Policy::parse(Some(PolicyId::new(&self.id)), &self.text).map_err(|cause| {
            tracing::error!(%cause, policy = %self.id, "a policy of a snapshot cannot be parsed");
            Reason::EngineFault
        })
    }

    /// The same in Cedar's JSON; null where it cannot be had.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.policy().ok().and_then(|policy| policy.to_json().ok()).unwrap_or_default()
    }

    /// A permit grants nothing from that instant on.
    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        self.notes.expires.is_some_and(|expires| now >= expires)
    }
}
