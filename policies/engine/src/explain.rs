//! Why a decision came out as it did, recomputed by stock Cedar from the record's own facts (EX1 to EX7).

mod cause;
mod circumstances;
pub(crate) mod expression;
mod fault;
mod fix;
mod json;
mod parts;
mod recorded;
pub(crate) mod terms;
mod text;

pub(crate) use circumstances::circumstances;
pub(crate) use fault::describe;
pub use fix::{Fix, fix};
pub use recorded::{Recorded, Repeats};

use crate::{
    AccessRequest, Action, AdminContext, Decision, Effect, ErrorClass, OwnedFacts, Principal, Reason,
    Resource, Snapshot,
    rule::Rule,
    scope::{Scope, Triple},
    stock::{self, Answer},
};
use base_ports::UnixTime;
use parts::Bench;
use std::{cmp::Reverse, sync::Arc};

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
    /// What the record says came of it; `None` for a question that nobody decided yet.
    pub recorded: Option<Recorded>,
}

impl RequestForExplain {
    /// The same question as the engine takes it.
    #[must_use]
    pub fn access(&self) -> AccessRequest<'_> {
        AccessRequest {
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts: &self.facts,
            now: self.now,
            extra: self.extra.as_ref(),
        }
    }
}

/// An explained decision.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What happened by the record, else what stock Cedar says now.
    pub effect: Effect,
    /// Its reason.
    pub reason: Reason,
    /// What stock Cedar says to the same question; `None` where policies alone did not decide, or the record does not
    /// hold all they read.
    pub recomputed: Option<Recomputed>,
    /// The determining policies, part by part.
    pub determining: Vec<Candidate>,
    /// Policies that could not be evaluated, part by part.
    pub errors: Vec<Failure>,
    /// The permits that came nearest to a default deny, best first; at most three.
    pub nearest: Vec<Candidate>,
    /// How often the same call was refused before; filled in by who knows the ledger.
    pub repeats: Option<Repeats>,
}

/// The verdict again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recomputed {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// By which policies.
    pub determining: Arc<[Arc<str>]>,
    /// Whether the record says the same; `None` when nothing is on record.
    pub is_same: Option<bool>,
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which, part by part.
    pub candidate: Candidate,
    /// Kind of error.
    pub class: ErrorClass,
    /// What is missing where, for people.
    pub message: String,
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
    /// For a link, the template that stands there.
    pub template: Option<Arc<str>>,
}

/// A policy part by part.
#[derive(Debug, Clone)]
pub struct Candidate {
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
    /// What the text shows of it: the policy's term where it matched, else the request's value.
    pub shown: String,
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
    /// Print three candidates instead of one, and the clauses of what decided.
    pub all: bool,
}

/// Permits that are taken apart, and those that are kept.
const CANDIDATES: usize = 200;
const KEPT: usize = 3;

/// Explains what `snapshot` says to that request: the verdict again by stock Cedar, the policies that took part, and
/// for a default deny the permits that came nearest (EX3).
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &RequestForExplain) -> Explanation {
    let access = request.access();
    let answer = stock::judge(snapshot, &access).unwrap_or_else(Answer::refusal);
    let decision = &answer.decision;
    let recorded = request.recorded.as_ref();
    let recomputed = recorded.is_none_or(|recorded| recorded.is_recomputable(decision, request));
    let recomputed = recomputed.then(|| Recomputed {
        effect: decision.effect,
        reason: decision.reason,
        determining: Arc::clone(&decision.determining),
        is_same: recorded.map(|recorded| recorded.is_same(decision)),
    });
    let (effect, reason) =
        recorded.map_or((decision.effect, decision.reason), |recorded| (recorded.effect, recorded.reason));
    let mut explanation = Explanation {
        effect,
        reason,
        determining: Vec::new(),
        errors: Vec::new(),
        nearest: Vec::new(),
        recomputed,
        repeats: None,
    };
    if let Ok(cast) = snapshot.cast(&access) {
        let bench = Bench::new(snapshot, request, &access, &cast);
        let determining: Vec<&str> = match recorded {
            Some(recorded) => recorded.determining.iter().map(|id| &**id).collect(),
            None => decision.determining.iter().map(|id| &**id).collect(),
        };
        explanation.determining =
            determining.iter().filter_map(|id| snapshot.rule(id)).map(|rule| bench.candidate(rule)).collect();
        if explanation.recomputed.is_some() {
            explanation.errors = failures(&answer, &bench);
        }
        if reason == Reason::NoPermit {
            explanation.nearest = nearest(&bench);
        }
    }
    explanation
}

fn failures(answer: &Answer, bench: &Bench<'_>) -> Vec<Failure> {
    let message =
        |id: &Arc<str>| answer.messages.iter().find(|(of, _)| of == id).map(|(_, text)| text.clone());
    let failure = |error: &crate::PolicyError| {
        let rule = bench.snapshot.rule(&error.policy)?;
        Some(Failure {
            candidate: bench.candidate(rule),
            class: error.class,
            message: message(&error.policy).unwrap_or_default(),
        })
    };
    answer.decision.errors.iter().filter_map(failure).collect()
}

/// The permits that differ in the fewest parts, best first. Taken apart in the order of the best rank their scope still
/// lets them have, until none that is left can come before those that are kept.
fn nearest(bench: &Bench<'_>) -> Vec<Candidate> {
    let (parts, triple) = (bench.snapshot.parts(), &bench.cast.triple);
    let near = parts.index.near(&triple.principal, &triple.resource);
    let permits = near.filter_map(|at| parts.rules.get(at)).filter(|rule| rule.is_permit());
    let mut near: Vec<(Rank, &Rule)> = permits
        .filter_map(|rule| {
            let best = best_rank(triple, &rule.scope)?;
            Some(((best, Reverse(rule.scope.specificity()), Arc::clone(&rule.id)), &**rule))
        })
        .collect();
    near.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut kept: Vec<(Rank, Candidate)> = Vec::new();
    for ((best, specificity, id), rule) in near.into_iter().take(CANDIDATES) {
        let possible = (best, specificity, id);
        if kept.len() >= KEPT && kept.last().is_some_and(|(worst, _)| *worst <= possible) {
            break;
        }
        let candidate = bench.candidate(rule);
        kept.push(((rank(&candidate.parts), possible.1, possible.2), candidate));
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        kept.truncate(KEPT);
    }
    kept.into_iter().map(|(_, candidate)| candidate).collect()
}

type Rank = ((usize, usize), Reverse<u32>, Arc<str>);

/// What may fail, from what is changed first to what is changed last.
const ORDER: [&str; 4] = ["resource", "action", "condition", "principal"];

/// Number of failed parts, then resource before action before condition before principal.
fn rank(parts: &[Part]) -> (usize, usize) {
    let order = |part: &Part| ORDER.iter().position(|name| *name == part.name).unwrap_or(ORDER.len());
    let count = parts::failures(parts).count();
    (count, parts::failures(parts).map(order).max().unwrap_or_default())
}

/// The best rank a permit of that scope can have; `None` when more than one part of the scope does not match. One that
/// matches fails in a condition, and a condition may be about any part.
fn best_rank(triple: &Triple, scope: &Scope) -> Option<(usize, usize)> {
    let fails = [
        (0, !triple.resource.matches(&scope.resource)),
        (1, !triple.action.matches_action(&scope.action)),
        (3, !triple.principal.matches(&scope.principal)),
    ];
    let mut failed = fails.into_iter().filter(|(_, fails)| *fails).map(|(order, _)| order);
    match (failed.next(), failed.next()) {
        (None, _) => Some((1, 0)),
        (Some(order), None) => Some((1, order)),
        (Some(_), Some(_)) => None,
    }
}

impl Answer {
    fn refusal(reason: Reason) -> Answer {
        Answer { decision: Decision::refusal(reason), messages: Vec::new() }
    }
}

impl PolicyPlace {
    pub(crate) fn of(rule: &Rule) -> PolicyPlace {
        PolicyPlace {
            policy: Arc::clone(&rule.id),
            effect: rule.effect,
            file: Arc::clone(&rule.place.file),
            line: rule.place.line,
            owner: rule.notes.owner.clone(),
            template: rule.template.clone(),
        }
    }
}

/// One policy taken apart, for the tests.
#[cfg(test)]
pub(crate) fn parts_of(snapshot: &Snapshot, question: &RequestForExplain, rule: &Rule) -> Vec<Part> {
    let access = question.access();
    match snapshot.cast(&access) {
        Ok(cast) => Bench::new(snapshot, question, &access, &cast).candidate(rule).parts,
        Err(_) => Vec::new(),
    }
}
