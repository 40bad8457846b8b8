//! The engine's answer to one access request, and how observe mode turns it into an outcome.

use crate::{Reason, snapshot::Snapshot};
use std::{fmt, sync::Arc};

/// What happened, or should happen, to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// It does not pass.
    Deny,
    /// It passes.
    Allow,
}

impl Effect {
    /// `deny` or `allow`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Deny => "deny",
            Effect::Allow => "allow",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether denials are carried out or only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Mode {
    /// Denials are carried out.
    #[default]
    Enforce,
    /// Denials of the engine pass and are recorded as would-be denials (SH4).
    Observe,
}

impl Mode {
    /// `enforce` or `observe`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        }
    }
}

/// How strongly the record of a decision must be kept before its effect (`decisions.md` 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audit {
    /// A slot in the lane; an exact gap otherwise.
    BestEffort,
    /// Accepted by the kernel before the first byte goes upstream.
    Required,
    /// Synced before the first byte goes upstream.
    Durable,
}

impl Audit {
    /// The word of `@audit`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Audit::BestEffort => "best_effort",
            Audit::Required => "required",
            Audit::Durable => "durable",
        }
    }

    /// The strength of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Audit> {
        [Audit::BestEffort, Audit::Required, Audit::Durable].into_iter().find(|audit| audit.as_str() == word)
    }
}

/// How the verdict was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evaluated {
    /// Everything was decided by scopes; no fact was read.
    Constant,
    /// By compiled conditions.
    Compiled,
    /// By stock Cedar over the remaining candidates.
    Fallback,
}

impl Evaluated {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Evaluated::Constant => "constant",
            Evaluated::Compiled => "compiled",
            Evaluated::Fallback => "fallback",
        }
    }
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Its id.
    pub policy: Arc<str>,
    /// What went wrong.
    pub class: ErrorClass,
}

/// Kinds of evaluation error (policy SE3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the word is the meaning")]
pub enum ErrorClass {
    Overflow,
    MissingAttribute,
    MissingEntity,
    MissingTag,
    Extension,
    Type,
}

impl ErrorClass {
    /// The word in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Overflow => "overflow",
            ErrorClass::MissingAttribute => "missing_attribute",
            ErrorClass::MissingEntity => "missing_entity",
            ErrorClass::MissingTag => "missing_tag",
            ErrorClass::Extension => "extension",
            ErrorClass::Type => "type",
        }
    }

    /// The class of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<ErrorClass> {
        const ALL: [ErrorClass; 6] = [
            ErrorClass::Overflow,
            ErrorClass::MissingAttribute,
            ErrorClass::MissingEntity,
            ErrorClass::MissingTag,
            ErrorClass::Extension,
            ErrorClass::Type,
        ];
        ALL.into_iter().find(|class| class.as_str() == word)
    }
}

/// What another rule set would have said: shadow policies on top of the live ones, or enforcing instead of observing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Would {
    /// Its verdict.
    pub effect: Effect,
    /// Its reason.
    pub reason: Reason,
    /// Its determining policies.
    pub determining: Arc<[Arc<str>]>,
    /// Its errors.
    pub errors: Vec<PolicyError>,
    /// Policies number of a candidate version; `None` for the version in force.
    pub version: Option<u64>,
}

/// The verdict of one snapshot on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// All satisfied policies of the deciding effect, sorted; empty on default deny.
    pub determining: Arc<[Arc<str>]>,
    /// Every policy that could not be evaluated, whatever the verdict.
    pub errors: Vec<PolicyError>,
    /// What the live policies together with the shadow policies would say, where that differs in any way.
    pub would: Option<Box<Would>>,
    /// How it was reached.
    pub evaluated: Evaluated,
    /// How strongly it must be recorded.
    pub audit: Audit,
    /// The same call may be judged otherwise later though nothing changed: a policy in its reach reads the clock or ends
    /// some day. Whoever holds the call open asks again (CT-03).
    pub reads_time: bool,
}

impl Decision {
    /// A refusal that no policy took part in, e.g. `no_policy`, `unknown_route`, `no_identity`.
    #[must_use]
    pub fn refusal(reason: Reason) -> Decision {
        Decision {
            effect: Effect::Deny,
            reason,
            determining: no_policies(),
            errors: Vec::new(),
            would: None,
            evaluated: Evaluated::Constant,
            audit: Audit::BestEffort,
            reads_time: false,
        }
    }

    /// Whether the call passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }
}

/// The outcome under observe mode (SH4): a denial by `no_permit` or by a forbid that is not of the baseline becomes an
/// allow that keeps its denial word and carries `would` = the denial. Every other decision stays as it is:
/// errors in forbids, missing policies, unknown targets, baseline forbids are never softened.
#[must_use]
pub fn observe(decision: Decision, snapshot: &Snapshot) -> Decision {
    let is_softened = decision.effect == Effect::Deny
        && decision.reason.is_softened_by_observe()
        && !decision.determining.iter().any(|id| snapshot.is_baseline(id));
    if !is_softened {
        return decision;
    }
    let would = Would {
        effect: Effect::Deny,
        reason: decision.reason,
        determining: Arc::clone(&decision.determining),
        errors: decision.errors.clone(),
        version: None,
    };
    Decision { effect: Effect::Allow, would: Some(Box::new(would)), ..decision }
}

/// The empty list, shared.
pub(crate) fn no_policies() -> Arc<[Arc<str>]> {
    static EMPTY: std::sync::LazyLock<Arc<[Arc<str>]>> = std::sync::LazyLock::new(|| Arc::from([]));
    Arc::clone(&EMPTY)
}
