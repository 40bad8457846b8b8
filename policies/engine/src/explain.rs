//! Why a decision came out as it did, recomputed by stock Cedar from the record's own facts (EX1 to EX7).

mod expression;
mod json;
mod parts;
mod terms;
mod text;

use crate::{
    AccessRequest, Action, AdminContext, Decision, Effect, ErrorClass, OwnedFacts, Principal, PrincipalKind,
    Reason, Resource, Snapshot,
    rule::Rule,
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
    /// Print three candidates instead of one.
    pub all: bool,
    /// The call passed although this was the verdict.
    pub is_observed: bool,
}

/// Permits that are taken apart, and those that are kept.
const CANDIDATES: usize = 200;
const KEPT: usize = 3;

/// Explains what `snapshot` says to that request: the verdict again, by stock Cedar over the whole set, and for a
/// default deny the permits that came nearest (EX3).
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &RequestForExplain) -> Explanation {
    let access = AccessRequest {
        principal: &request.principal,
        action: request.action,
        resource: &request.resource,
        facts: &request.facts,
        now: request.now,
        extra: request.extra.as_ref(),
    };
    let answer = stock::judge(snapshot, &access).unwrap_or_else(Answer::refusal);
    let decision = &answer.decision;
    let recorded = request.recorded.filter(|recorded| !is_recomputable(decision, request, recorded.1));
    let (effect, reason) = recorded.unwrap_or((decision.effect, decision.reason));
    let is_policy_verdict = recorded.is_none();
    let place = |id: &Arc<str>| snapshot.rule(id).map(PolicyPlace::of);
    let message =
        |id: &Arc<str>| answer.messages.iter().find(|(of, _)| of == id).map(|(_, text)| text.clone());
    let errors = decision.errors.iter().filter(|_| is_policy_verdict);
    Explanation {
        effect,
        reason,
        is_same: request
            .recorded
            .filter(|_| is_policy_verdict)
            .map(|(_, recorded)| recorded == decision.reason),
        determining: decision.determining.iter().filter(|_| is_policy_verdict).filter_map(place).collect(),
        errors: errors
            .filter_map(|e| Some((place(&e.policy)?, e.class, message(&e.policy).unwrap_or_default())))
            .collect(),
        nearest: if reason == Reason::NoPermit {
            nearest(snapshot, &access, &request.facts)
        } else {
            Vec::new()
        },
    }
}

/// Whether policies alone gave the recorded reason, and the record holds all they read: it has neither the roles of a
/// local user nor what issuance and publishing add to the context.
fn is_recomputable(decision: &Decision, request: &RequestForExplain, recorded: Reason) -> bool {
    let is_of_policies = matches!(
        recorded,
        Reason::Permit | Reason::NoPermit | Reason::Forbid | Reason::ForbidError | Reason::EntityMissing
    );
    let lacks_roles =
        request.principal.kind() == PrincipalKind::LocalUser && request.principal.roles().is_empty();
    let lacks_context = decision.reason == Reason::ContextIncomplete && request.extra.is_none();
    is_of_policies && (recorded == decision.reason || !(lacks_roles || lacks_context))
}

/// The permits that differ in the fewest parts, best first.
fn nearest(snapshot: &Snapshot, access: &AccessRequest<'_>, facts: &OwnedFacts) -> Vec<Nearest> {
    let Ok(cast) = snapshot.cast(access) else { return Vec::new() };
    let facts = facts.to_json();
    let bench = Bench { snapshot, request: access, cast: &cast, facts: &facts };
    let permits = snapshot.parts().rules.iter().filter(|rule| rule.is_permit());
    let near = permits.filter(|rule| cast.triple.distance(&rule.scope) <= 1).take(CANDIDATES);
    let mut ranked: Vec<(Rank, Nearest)> = near
        .map(|rule| {
            let parts = bench.parts(rule);
            let rank = (rank(&parts), Reverse(rule.scope.specificity()), Arc::clone(&rule.id));
            (rank, Nearest { place: PolicyPlace::of(rule), parts })
        })
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    ranked.truncate(KEPT);
    ranked.into_iter().map(|(_, nearest)| nearest).collect()
}

type Rank = ((usize, usize), Reverse<u32>, Arc<str>);

/// Number of failed parts, then resource before action before condition before principal.
fn rank(parts: &[Part]) -> (usize, usize) {
    const ORDER: [&str; 4] = ["resource", "action", "condition", "principal"];
    let order = |part: &Part| ORDER.iter().position(|name| *name == part.name).unwrap_or(ORDER.len());
    let count = parts::failures(parts).count();
    (count, parts::failures(parts).map(order).max().unwrap_or_default())
}

impl Answer {
    fn refusal(reason: Reason) -> Answer {
        Answer { decision: Decision::refusal(reason), messages: Vec::new() }
    }
}

impl PolicyPlace {
    fn of(rule: &Rule) -> PolicyPlace {
        PolicyPlace {
            policy: Arc::clone(&rule.id),
            effect: rule.effect,
            file: Arc::clone(&rule.place.file),
            line: rule.place.line,
            owner: rule.notes.owner.clone(),
        }
    }
}
