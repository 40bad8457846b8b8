//! Least-privilege policies from recorded denials (policy EX8): what was denied because no permit matched, also where
//! observe mode let it pass, becomes permits for exactly those callers, actions and targets.
//!
//! `portcullis` hands each record of a range to [`Mining::see`]; the policies in force judge it once more, so that what
//! is allowed by now is not proposed again. A permit speaks of a group only where all its members were denied alike,
//! and lists the methods of a service one by one (MO12). What a forbid denied is told with its owner: no forbid is
//! ever proposed away. Nobody who proved nothing is given anything.

mod denials;
mod proposal;
mod simplify;
mod text;

pub use proposal::Proposal;

use crate::{
    Action, DecisionId, Declared, Facts, OwnedFacts, Principal, PrincipalKind, Reason, Resource, Snapshot,
    case_of,
    explain::RequestForExplain,
    impact::{Recorded, again::Again},
    suggest::Expected,
};
use denials::Denials;
use serde_json::Value;
use std::sync::Arc;

/// Records as they come in.
#[derive(Debug)]
pub struct Mining {
    again: Again,
    denials: Denials,
    counts: Counts,
}

/// What came of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Denied as no permit matched, and covered by what is proposed.
    pub denied: u64,
    /// Denied then, allowed by what is in force now.
    pub allowed_now: u64,
    /// Denied by a forbid.
    pub forbidden: u64,
    /// Callers who proved nothing: never proposed.
    pub anonymous: u64,
    /// The record lacks a fact that the policies read.
    pub undecided: u64,
    /// No policy can be about it, or there was no room for more.
    pub left_out: u64,
}

/// What was mined.
#[derive(Debug, Clone)]
pub struct Mined {
    /// Least-privilege permits.
    pub proposals: Vec<Proposal>,
    /// Calls that forbids denied, the most first.
    pub forbidden: Vec<Forbidden>,
    /// What came of the records.
    pub counts: Counts,
    samples: Vec<RequestForExplain>,
}

/// Calls of one caller on one target that a forbid denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The forbids.
    pub policies: Vec<Arc<str>>,
    /// Whom to ask: `@owner` of the first that has one.
    pub owner: Option<String>,
    /// The caller.
    pub principal: Principal,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: Resource,
    /// How many calls.
    pub count: u64,
    /// One of them.
    pub example: DecisionId,
}

impl Mining {
    /// Mining over the policies in force.
    #[must_use]
    pub fn new(in_force: Arc<Snapshot>) -> Mining {
        Mining { again: Again::new(in_force), denials: Denials::default(), counts: Counts::default() }
    }

    /// Takes one record; what is no denial by policies is passed over.
    pub fn see(&mut self, recorded: &Recorded<'_>) {
        let is_denial = matches!(recorded.reason, Reason::NoPermit | Reason::Forbid | Reason::ForbidError);
        if !is_denial || matches!(recorded.action, Action::Admin(_)) {
            return;
        }
        let Ok(decision) = self.again.judge(recorded) else {
            self.counts.undecided += 1;
            return;
        };
        let (counts, snapshot) = (&mut self.counts, self.again.snapshot());
        let is_taken = match decision.reason {
            Reason::Permit => {
                counts.allowed_now += 1;
                return;
            }
            Reason::Forbid | Reason::ForbidError => {
                counts.forbidden += 1;
                self.denials.forbidden(recorded, &decision, snapshot);
                return;
            }
            Reason::NoPermit if recorded.principal.kind() == PrincipalKind::Anonymous => {
                counts.anonymous += 1;
                return;
            }
            Reason::NoPermit if can_be_permitted(recorded, snapshot) => self.denials.denied(recorded),
            _ => false,
        };
        if is_taken {
            counts.denied += 1;
        } else {
            counts.left_out += 1;
        }
    }

    /// The proposals.
    #[must_use]
    pub fn finish(self) -> Mined {
        let snapshot = Arc::clone(self.again.snapshot());
        let proposals = simplify::proposals(self.denials.triples(), &snapshot);
        let declared = &snapshot.versions().declared;
        Mined {
            proposals,
            samples: self.denials.samples(declared),
            forbidden: self.denials.into_forbidden(),
            counts: self.counts,
        }
    }
}

impl Mined {
    /// One case per caller, action and target: allowed by `candidate`, which has the proposals.
    #[must_use]
    pub fn cases(&self, candidate: &Snapshot) -> Vec<Value> {
        let case = |sample: &RequestForExplain| {
            let decision = candidate.decide(&sample.access());
            let name = format!("{} {} {}", sample.principal.id(), sample.action, sample.resource.id());
            case_of(&name, sample, &Expected::of(&decision))
        };
        self.samples.iter().map(case).collect()
    }
}

/// Whether the schema lets a policy speak about such a call.
fn can_be_permitted(recorded: &Recorded<'_>, snapshot: &Snapshot) -> bool {
    let environment = (recorded.principal.kind(), recorded.action, recorded.resource.kind());
    snapshot.parts().environments.contains(&environment)
}

/// Facts of a record, owned.
fn owned(facts: Option<&dyn Facts>, declared: &Declared) -> OwnedFacts {
    facts.map_or_else(|| OwnedFacts::local("unknown"), |facts| OwnedFacts::copy(facts, declared))
}
