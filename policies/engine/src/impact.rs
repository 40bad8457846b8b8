//! Replay of recorded decisions against a candidate: what a change would have done (policy IM2).
//!
//! Pure: `portcullis` reads the ledger and hands each record to [`Replay::see`]; this room judges it by the candidate
//! and counts what differs. A record that lacks a fact which a policy in question reads is `undecided`, never guessed.
//! Only verdicts of the engine on calls are judged again; refusals before it (`not_canonical`, `no_identity`, ..) and
//! calls of our own API, whose context is not on record, are counted as outside.

pub(crate) mod again;
mod carried;
mod groups;
mod json;
mod needs;
mod replay;
mod text;

pub use carried::Carried;
pub use needs::needs;
pub use replay::Replay;

use crate::{Action, DecisionId, Effect, Facts, Principal, Reason, Resource};
use base_ports::UnixTime;
use std::sync::Arc;

/// One recorded decision, as far as judging it again needs it.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// Its id.
    pub id: DecisionId,
    /// The caller.
    pub principal: &'a Principal,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: &'a Resource,
    /// The facts on record; `None` when there are none.
    pub facts: Option<&'a dyn Facts>,
    /// The reading of the clock that the policies saw.
    pub now: UnixTime,
    /// The reason word. It tells the verdict of the policies also where observe mode let the call pass.
    pub reason: Reason,
    /// Policies that decided, sorted.
    pub determining: &'a [&'a str],
    /// What the record holds of the facts.
    pub carried: Carried<'a>,
}

/// What the candidate makes of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Allowed then, denied by the candidate.
    AllowToDeny,
    /// Denied then, allowed by the candidate.
    DenyToAllow,
    /// The same verdict for another reason or by other policies.
    Reason,
}

impl Change {
    /// The word in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Change::AllowToDeny => "allow_to_deny",
            Change::DenyToAllow => "deny_to_allow",
            Change::Reason => "reason",
        }
    }
}

/// What came of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Same verdict, same reason, same policies.
    Same,
    /// The candidate says something else.
    Changed(Change),
    /// The record lacks what the candidate reads.
    Undecided,
    /// No verdict of the engine on a call.
    Outside,
}

/// What a candidate would have done to the records of a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Impact {
    /// Decisions judged again, those without an answer included.
    pub considered: u64,
    /// Same verdict, same reason, same policies.
    pub same: u64,
    /// Without an answer, as the record lacks a fact.
    pub undecided: u64,
    /// Allowed then, denied by the candidate.
    pub allow_to_deny: u64,
    /// Denied then, allowed by the candidate.
    pub deny_to_allow: u64,
    /// Same verdict, other reason or policies.
    pub reason_changed: u64,
    /// Records that are no verdict of the engine on a call.
    pub outside: u64,
    /// The changed ones: newly denied first, then newly allowed, then other reasons; in each the most calls first.
    pub groups: Vec<Group>,
    /// Changed decisions for which there was no room among the groups.
    pub ungrouped: u64,
    /// The undecided ones by what they lack.
    pub lacking: Vec<Lacking>,
    /// Undecided decisions for which there was no room among those.
    pub lacking_ungrouped: u64,
}

/// Changed decisions of one caller on one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What changes.
    pub change: Change,
    /// The caller.
    pub principal: Principal,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: Resource,
    /// Why it was decided as it was.
    pub before: Cause,
    /// Why the candidate decides as it does.
    pub after: Cause,
    /// How many decisions.
    pub count: u64,
    /// Some of them, the first ones seen.
    pub examples: Vec<DecisionId>,
}

/// A reason word and the policies behind it, over all decisions of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The word.
    pub reason: Reason,
    /// Some of the policies, sorted.
    pub policies: Vec<Arc<str>>,
}

/// Undecided decisions on one target that lack the same fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The fact, as policies name it: `request.headers.x-tenant`.
    pub fact: Arc<str>,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: Resource,
    /// How many decisions.
    pub count: u64,
    /// Some of them, the first ones seen.
    pub examples: Vec<DecisionId>,
}

/// The verdict of the policies that a reason word stands for; `None` when the engine did not give it.
fn verdict(reason: Reason) -> Option<Effect> {
    match reason {
        Reason::Permit => Some(Effect::Allow),
        Reason::NoPermit
        | Reason::Forbid
        | Reason::ForbidError
        | Reason::EntityMissing
        | Reason::ContextInvalid
        | Reason::ContextIncomplete
        | Reason::EngineFault => Some(Effect::Deny),
        _ => None,
    }
}
