//! What the ledger knows of an explained decision, as values: the outcome on record, and how often the same call was
//! refused. Filled in by `portcullis`, which knows the ledger; this crate does not.

use super::RequestForExplain;
use crate::{Decision, Effect, PrincipalKind, Reason, Would};
use base_ports::UnixTime;
use std::sync::Arc;

/// The outcome on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What happened to the call.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// Rule id or refusal word behind the reason.
    pub detail: Option<String>,
    /// The determining policies.
    pub determining: Vec<Arc<str>>,
    /// What enforcing, a shadow policy or a candidate version would have said.
    pub would: Option<Would>,
    /// No fact was cut to its cap, so everything the policies read is there.
    pub is_whole: bool,
}

/// How often the same caller was refused the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Denials within the hour that ends with this one, itself included.
    pub count: u64,
    /// More than were counted.
    pub is_more: bool,
    /// When the first of them was.
    pub since: UnixTime,
    /// The policies that gave the first of them.
    pub policies: Option<u64>,
}

impl Recorded {
    /// An outcome with nothing else on record.
    #[must_use]
    pub fn new(effect: Effect, reason: Reason) -> Recorded {
        Recorded { effect, reason, detail: None, determining: Vec::new(), would: None, is_whole: true }
    }

    /// The call passed although the policies said no (SH4).
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.effect == Effect::Allow && self.reason != Reason::Permit
    }

    /// Whether policies alone gave the recorded reason, and the record holds all they read: it has neither the roles of
    /// a local user nor what issuance and publishing add to the context, nor the rest of a value that was cut.
    pub(super) fn is_recomputable(&self, decision: &Decision, request: &RequestForExplain) -> bool {
        let is_of_policies = matches!(
            self.reason,
            Reason::Permit | Reason::NoPermit | Reason::Forbid | Reason::ForbidError | Reason::EntityMissing
        );
        let lacks_roles =
            request.principal.kind() == PrincipalKind::LocalUser && request.principal.roles().is_empty();
        let lacks_context = decision.reason == Reason::ContextIncomplete && request.extra.is_none();
        is_of_policies && (self.is_same(decision) || !(lacks_roles || lacks_context || !self.is_whole))
    }

    pub(super) fn is_same(&self, decision: &Decision) -> bool {
        self.reason == decision.reason && *self.determining == *decision.determining
    }
}
