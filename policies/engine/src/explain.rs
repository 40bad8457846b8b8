//! Why a decision came out as it did, recomputed by stock Cedar from the record's own facts (EX1 to EX7).

use crate::{Action, AdminContext, Effect, ErrorClass, OwnedFacts, Principal, Reason, Resource, Snapshot};
use base_ports::UnixTime;
use serde_json::Value;
use std::sync::Arc;

/// The question behind a decision, owned.
#[derive(Debug, Clone)]
pub struct RequestForExplain {
    /// The caller.
    pub principal: Principal,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: Resource,
    /// The facts as recorded.
    pub facts: OwnedFacts,
    /// The clock as the policies saw it.
    pub now: UnixTime,
    /// Context of our own actions.
    pub extra: Option<AdminContext>,
    /// Reason word of the record, where it is not one of the engine's own; explained by its sentence.
    pub recorded: Option<(Effect, Reason)>,
}

/// An explained decision.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Verdict of the recomputation, or the recorded one where no policy took part.
    pub effect: Effect,
    /// Its reason.
    pub reason: Reason,
    /// Whether the recomputed verdict equals the recorded one; `None` when nothing was recorded.
    pub is_same: Option<bool>,
    /// Its determining policies.
    pub determining: Vec<PolicyPlace>,
    /// Policies that could not be evaluated, with Cedar's message.
    pub errors: Vec<(PolicyPlace, ErrorClass, String)>,
    /// The permits that came nearest, best first; at most three.
    pub nearest: Vec<Nearest>,
}

/// Where a policy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPlace {
    /// Its id.
    pub policy: Arc<str>,
    /// Permit or forbid.
    pub effect: Effect,
    /// Its file.
    pub file: Arc<str>,
    /// Line of the effect keyword.
    pub line: usize,
    /// `@owner`.
    pub owner: Option<String>,
}

/// A policy that was near, part by part.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Which.
    pub place: PolicyPlace,
    /// Its parts in order.
    pub parts: Vec<Part>,
}

/// One part of a policy against the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `principal`, `action`, `resource` or `condition`.
    pub name: &'static str,
    /// What came of it.
    pub result: PartResult,
    /// What the policy names, as Cedar.
    pub policy: String,
    /// What the request has, as Cedar; empty for a condition.
    pub request: String,
}

/// What came of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartResult {
    /// It holds.
    Matched,
    /// It does not; why.
    Failed(String),
    /// It could not be evaluated; why.
    Error(String),
    /// An earlier condition already failed.
    NotReached,
}

/// What the layout needs to know besides the explanation.
#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    /// Full decision id.
    pub decision: Option<String>,
    /// How long ago, e.g. `3 s ago`.
    pub age: Option<String>,
    /// Name of the enforcer.
    pub enforcer: Option<String>,
    /// Name of the called service.
    pub service: Option<String>,
    /// Shorten ids, for a terminal (EX5).
    pub shorten: bool,
    /// Print three candidates instead of one.
    pub all: bool,
    /// The call passed although this was the verdict.
    pub is_observed: bool,
}

/// Explains what `snapshot` says to that request.
#[must_use]
pub fn explain(_snapshot: &Snapshot, _request: &RequestForExplain) -> Explanation {
    Explanation {
        effect: Effect::Deny,
        reason: Reason::NoPolicy,
        is_same: None,
        determining: Vec::new(),
        errors: Vec::new(),
        nearest: Vec::new(),
    }
}

impl Explanation {
    /// The layout of EX1, ready to print.
    #[must_use]
    pub fn to_text(
        &self,
        _request: &RequestForExplain,
        _snapshot: &Snapshot,
        _options: &TextOptions,
    ) -> String {
        String::new()
    }

    /// The document of EX7.
    #[must_use]
    pub fn to_json(&self, _snapshot: &Snapshot, _decision: Option<&str>) -> Value {
        Value::Null
    }
}
