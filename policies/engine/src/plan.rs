//! What is left to do for one (principal, action, resource): a constant verdict where scopes and entities decide
//! everything, else the folded conditions of the candidates, and stock Cedar for those that could not be lowered (EN4).

mod outcome;
mod slow;

use crate::{
    AccessRequest, Decision, ErrorClass, Evaluated, Reason, Snapshot, Would,
    cast::Cast,
    logic::{Expr, Fold, Logic, Scene, Stop, truth},
    rule::Rule,
    tally::Tally,
};
use base_ports::UnixTime;
use outcome::Outcomes;
use slow::Slow;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub(crate) use outcome::Outcome;
pub(crate) use slow::class_of;

/// Verdicts a plan remembers.
const REMEMBERED: usize = 16;

/// Plan of one triple.
#[derive(Debug)]
pub(crate) enum Plan {
    Constant(Box<Decision>),
    Open(Box<Open>),
}

/// A plan with conditions.
#[derive(Debug)]
pub(crate) struct Open {
    /// What does not depend on the call, of the live policies.
    fixed: Tally,
    /// The same with the shadow policies, where there are any.
    fixed_with_shadow: Option<Tally>,
    /// Conditions of live policies, then of shadow policies.
    clauses: Box<[Clause]>,
    live: usize,
    slow: Option<Slow>,
    /// The verdict by what came of the clauses, so that a known outcome costs no allocation; the first one lies here.
    first: Option<(Outcomes, Decision)>,
    known: Vec<(Outcomes, Decision)>,
}

/// A candidate that each call decides.
#[derive(Debug)]
struct Clause {
    rule: usize,
    /// `None`: satisfied until it expires.
    when: Option<Arc<Expr>>,
    expires: Option<UnixTime>,
}

/// Plans and judges once.
pub(crate) fn decide(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Decision {
    contained(|| {
        let cast = snapshot.cast(request)?;
        Plan::build(snapshot, request, &cast, true)?.judge(snapshot, request)
    })
}

/// Runs one evaluation; refusals become decisions, and a panic is a denial, `engine_fault` (EN11).
pub(crate) fn contained(judge: impl FnOnce() -> Result<Decision, Reason>) -> Decision {
    match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(Ok(decision)) => decision,
        Ok(Err(reason)) => Decision::refusal(reason),
        Err(_) => {
            tracing::error!("a policy evaluation panicked");
            Decision::refusal(Reason::EngineFault)
        }
    }
}

impl Plan {
    /// The plan of `cast`; `is_own` when no other principal shares it.
    pub(crate) fn build(
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        cast: &Cast,
        is_own: bool,
    ) -> Result<Plan, Reason> {
        let parts = snapshot.parts();
        let fold = Fold::new(snapshot, cast, request, is_own);
        let mut drafts = [Draft::default(), Draft::default()];
        let [live, shadow] = &mut drafts;
        let mut slow = Vec::new();
        for at in parts.index.find(&cast.triple.principal, &cast.triple.resource) {
            let Some(rule) = parts.rules.get(at) else { continue };
            if !cast.triple.action.matches_action(&rule.scope.action) {
                continue;
            }
            let draft = if rule.notes.is_shadow { &mut *shadow } else { &mut *live };
            match &rule.logic {
                Logic::Slow(_) => slow.push(at),
                Logic::When(_) if snapshot.is_distrusted(at) => slow.push(at),
                Logic::Always => draft.add(at, rule, None),
                Logic::When(when) => draft.add(at, rule, Some(fold.fold(when))),
            }
        }
        let has_shadow = !shadow.is_empty() || slow.iter().any(|at| is_shadow(snapshot, *at));
        let fixed_with_shadow = has_shadow.then(|| live.fixed.and(&shadow.fixed));
        if live.clauses.is_empty() && shadow.clauses.is_empty() && slow.is_empty() {
            let mut decision = live.fixed.decision(snapshot, request, Evaluated::Constant);
            decision.would = fixed_with_shadow.and_then(|tally| would(snapshot, request, &tally, &decision));
            return Ok(Plan::Constant(decision.into()));
        }
        let slow = if slow.is_empty() { None } else { Some(Slow::new(snapshot, cast, &slow, is_own)?) };
        let fixed = std::mem::take(&mut live.fixed);
        let lives = live.clauses.len();
        let clauses = drafts.into_iter().flat_map(|draft| draft.clauses).collect();
        Ok(Plan::Open(Box::new(Open {
            fixed,
            fixed_with_shadow,
            clauses,
            live: lives,
            slow,
            first: None,
            known: Vec::new(),
        })))
    }

    pub(crate) fn judge(
        &mut self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
    ) -> Result<Decision, Reason> {
        match self {
            Plan::Constant(decision) => Ok(Decision::clone(decision)),
            Plan::Open(open) => open.judge(snapshot, request),
        }
    }

    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        const CONDITION: usize = 256;
        size_of::<Plan>()
            + match self {
                Plan::Constant(_) => size_of::<Decision>(),
                Plan::Open(open) => {
                    size_of::<Open>()
                        + open.clauses.len() * (size_of::<Clause>() + CONDITION)
                        + REMEMBERED.min(1 << open.clauses.len().min(4)) * size_of::<(Outcomes, Decision)>()
                        + open.slow.as_ref().map_or(0, Slow::weight)
                }
            }
    }
}

impl Open {
    fn judge(&mut self, snapshot: &Snapshot, request: &AccessRequest<'_>) -> Result<Decision, Reason> {
        let (live, shadow) = self.clauses.split_at_checked(self.live).unwrap_or((&self.clauses, &[]));
        let mut outcomes = Outcomes::default();
        for clause in live {
            outcomes.push(clause.judge(request)?);
        }
        if !shadow.is_empty() {
            // SH2: whatever comes of shadow policies, the verdict above stands.
            let judged = catch_unwind(AssertUnwindSafe(|| {
                shadow.iter().fold(outcomes, |mut all, clause| {
                    all.push(clause.judge(request).unwrap_or(Outcome::Unsatisfied));
                    all
                })
            }));
            outcomes = judged.unwrap_or_else(|_panic| outcomes.with_none(shadow.len()));
        }
        let is_short = self.clauses.len() <= Outcomes::MOST && self.slow.is_none();
        if is_short
            && let Some((_, decision)) =
                self.first.iter().chain(&self.known).find(|(known, _)| *known == outcomes)
        {
            return Ok(decision.clone());
        }
        let decision = self.conclude(snapshot, request, &outcomes)?;
        if is_short && self.first.is_none() {
            self.first = Some((outcomes, decision.clone()));
        } else if is_short && self.known.len() < REMEMBERED {
            self.known.push((outcomes, decision.clone()));
        }
        Ok(decision)
    }

    fn conclude(
        &self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        outcomes: &Outcomes,
    ) -> Result<Decision, Reason> {
        let mut live = self.fixed.clone();
        let mut all = self.fixed_with_shadow.clone();
        let mut note = |at: usize, is_live: bool, outcome: Outcome| {
            let Some(rule) = snapshot.parts().rules.get(at) else { return };
            if is_live {
                live.note(at, rule, outcome);
            }
            if let Some(all) = &mut all {
                all.note(at, rule, outcome);
            }
        };
        let long = outcomes.rest();
        for (number, clause) in self.clauses.iter().enumerate() {
            // Beyond what outcomes hold, the clause is judged again: long plans are rare and remember nothing.
            let outcome = match outcomes.at(number).filter(|_| !long) {
                Some(outcome) => outcome,
                None if number < self.live => clause.judge(request)?,
                None => clause.judge(request).unwrap_or(Outcome::Unsatisfied),
            };
            note(clause.rule, number < self.live, outcome);
        }
        if let Some(slow) = &self.slow {
            for (at, outcome) in slow.judge(snapshot, request)? {
                note(at, !is_shadow(snapshot, at), outcome);
            }
        }
        let evaluated = match (&self.slow, self.clauses.is_empty()) {
            (Some(_), _) => Evaluated::Fallback,
            (None, false) => Evaluated::Compiled,
            (None, true) => Evaluated::Constant,
        };
        let mut decision = live.decision(snapshot, request, evaluated);
        decision.would = all.and_then(|all| would(snapshot, request, &all, &decision));
        Ok(decision)
    }
}

impl Clause {
    fn judge(&self, request: &AccessRequest<'_>) -> Result<Outcome, Reason> {
        if self.expires.is_some_and(|expires| request.now >= expires) {
            return Ok(Outcome::Unsatisfied);
        }
        let Some(when) = &self.when else { return Ok(Outcome::Satisfied) };
        match truth(when, Scene { request }) {
            Ok(true) => Ok(Outcome::Satisfied),
            Ok(false) => Ok(Outcome::Unsatisfied),
            Err(Stop::Error(class)) => Ok(Outcome::Failed(class)),
            Err(Stop::Refused(reason)) => Err(reason),
        }
    }
}

/// Candidates of one kind, while a plan is made.
#[derive(Debug, Default)]
struct Draft {
    fixed: Tally,
    clauses: Vec<Clause>,
}

impl Draft {
    fn add(&mut self, at: usize, rule: &Rule, when: Option<Arc<Expr>>) {
        let known = match when.as_deref() {
            None => Some(Outcome::Satisfied),
            Some(Expr::Fail(class)) => Some(Outcome::Failed(*class)),
            Some(folded) => folded.known_truth().map(|truth| match truth {
                Ok(true) => Outcome::Satisfied,
                Ok(false) => Outcome::Unsatisfied,
                Err(class) => Outcome::Failed(class),
            }),
        };
        match (known, rule.notes.expires) {
            (Some(Outcome::Unsatisfied), _) => {}
            (Some(outcome), None) => self.fixed.note(at, rule, outcome),
            (Some(Outcome::Satisfied), expires) => {
                self.clauses.push(Clause { rule: at, when: None, expires })
            }
            (_, expires) => self.clauses.push(Clause { rule: at, when, expires }),
        }
    }

    fn is_empty(&self) -> bool {
        self.clauses.is_empty() && self.fixed.is_empty()
    }
}

fn is_shadow(snapshot: &Snapshot, at: usize) -> bool {
    snapshot.parts().rules.get(at).is_some_and(|rule| rule.notes.is_shadow)
}

/// What live and shadow policies together say, unless that is the same.
fn would(
    snapshot: &Snapshot,
    request: &AccessRequest<'_>,
    tally: &Tally,
    live: &Decision,
) -> Option<Box<Would>> {
    tally.decision(snapshot, request, live.evaluated).unlike(live, None)
}

impl Decision {
    /// This verdict as a would-be one, unless it is the same as `live`.
    pub(crate) fn unlike(self, live: &Decision, version: Option<u64>) -> Option<Box<Would>> {
        let Decision { effect, reason, determining, errors, .. } = self;
        let is_same = effect == live.effect
            && reason == live.reason
            && determining == live.determining
            && errors == live.errors;
        (!is_same).then(|| Box::new(Would { effect, reason, determining, errors, version }))
    }
}

impl Expr {
    /// What is left when folding decided everything.
    fn known_truth(&self) -> Option<Result<bool, ErrorClass>> {
        match self {
            Expr::Const(known) => Some(known.truth().ok_or(ErrorClass::Type)),
            Expr::Fail(class) => Some(Err(*class)),
            _ => None,
        }
    }
}
