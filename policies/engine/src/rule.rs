//! One policy after compilation: its text form for Cedar, its scope, its annotations, its place.

use crate::{Audit, Effect, logic::Logic, scope::Scope, walk::Reads};
use base_ports::UnixTime;
use cedar_policy::{EntityUid, Policy};
use std::sync::Arc;

/// A checked policy.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) effect: Effect,
    /// Without slots: a link is its template with the values in place.
    pub(crate) policy: Policy,
    pub(crate) scope: Arc<Scope>,
    /// Its conditions.
    pub(crate) logic: Logic,
    /// What its conditions read of the context; `None` when it has no conditions.
    pub(crate) reads: Option<Reads>,
    /// Every entity it names.
    pub(crate) literals: Arc<[EntityUid]>,
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
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) owner: Option<String>,
    pub(crate) advice: Option<String>,
    pub(crate) audit: Option<Audit>,
    pub(crate) is_shadow: bool,
    pub(crate) expires: Option<UnixTime>,
}

impl Rule {
    pub(crate) fn is_permit(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// A permit grants nothing from that instant on.
    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        self.notes.expires.is_some_and(|expires| now >= expires)
    }
}
