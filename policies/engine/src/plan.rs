//! What is left to do for one (principal, action, resource): a constant verdict where scopes and entities decide
//! everything, else the folded conditions of the candidates, and stock Cedar for those that could not be lowered (EN4).

mod outcome;
mod pool;
mod slow;

use crate::{
    AccessRequest, Decision, ErrorClass, Evaluated, Reason, Snapshot, Would,
    cast::Cast,
    logic::{Expr, Fold, Layout, Logic, Scene, Steps},
    rule::Rule,
    tally::Tally,
};
use base_ports::UnixTime;
use outcome::{Outcomes, Packing};
use slow::Slow;
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub(crate) use outcome::Outcome;
pub(crate) use pool::Pool;
pub(crate) use slow::class_of;

/// Operations that the conditions of one plan may need, so that no call has to be timed (EN11).
const OPERATIONS: usize = 20_000;
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
    /// Conditions of live policies, and of shadow policies.
    live: Steps,
    shadow: Steps,
    /// The verdict by what came of the conditions, so that a known outcome costs no allocation; the first one lies here.
    first: Option<(Outcomes, Decision)>,
    #[expect(
        clippy::box_collection,
        reason = "most plans have one outcome; an empty list shall cost a word"
    )]
    known: Option<Box<Vec<(Outcomes, Decision)>>>,
    /// Whether outcomes tell verdicts apart.
    is_remembered: bool,
    rest: Box<Rest>,
}

/// What a plan needs for a verdict it did not give before.
#[derive(Debug)]
struct Rest {
    /// What does not depend on the call.
    fixed: Box<[Noted]>,
    /// Number of a condition, and a policy that has it; conditions of live policies come first.
    clauses: Box<[(u32, u32)]>,
    lives: usize,
    count: usize,
    slow: Option<Box<Slow>>,
    has_shadow: bool,
    reads_time: bool,
}

/// A policy whose outcome is known when the plan is made.
#[derive(Debug, Clone, Copy)]
struct Noted {
    rule: u32,
    is_shadow: bool,
    outcome: Outcome,
}

/// Plans and judges once.
pub(crate) fn decide(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Decision {
    contained(|| {
        let cast = snapshot.cast(request)?;
        let pool = &mut Pool::default();
        Plan::build(snapshot, request, &cast, true, pool)?.judge(snapshot, request, pool)
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
        pool: &mut Pool,
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
        let mut fixed = std::mem::take(&mut live.fixed);
        fixed.append(&mut shadow.fixed);
        if live.clauses.is_empty() && shadow.clauses.is_empty() && slow.is_empty() {
            let verdict = Verdict::of(&fixed, has_shadow, snapshot);
            return Ok(Plan::Constant(verdict.decision(snapshot, request, Evaluated::Constant, pool).into()));
        }
        let slow =
            if slow.is_empty() { None } else { Some(Box::new(Slow::new(snapshot, cast, &slow, is_own)?)) };
        let reads_time = live.clauses.iter().any(Clause::reads_time)
            || slow.as_ref().is_some_and(|slow| slow.reads_time());
        let (lives, count) = (live.clauses.len(), live.clauses.len() + shadow.clauses.len());
        let rules = live.rules(0).chain(shadow.rules(lives)).collect();
        let ((steps, cost), (mut shadows, shadow_cost)) = (live.steps(pool), shadow.steps(pool));
        if cost > OPERATIONS {
            tracing::error!(
                action = %request.action,
                resource = %request.resource,
                policies = lives,
                "the policies about this take more than {OPERATIONS} operations, so it is denied; simplify them"
            );
            return Err(Reason::EngineFault);
        }
        if shadow_cost > OPERATIONS {
            // What shadow policies would say is not worth a call that waits; the verdict stands without them.
            shadows = Steps::default();
        }
        Ok(Plan::Open(Box::new(Open {
            live: steps,
            shadow: shadows,
            first: None,
            known: None,
            is_remembered: count <= Outcomes::MOST && slow.is_none(),
            rest: Box::new(Rest {
                fixed: fixed.into(),
                has_shadow,
                clauses: rules,
                lives,
                count,
                slow,
                reads_time,
            }),
        })))
    }

    pub(crate) fn judge(
        &mut self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        pool: &mut Pool,
    ) -> Result<Decision, Reason> {
        match self {
            Plan::Constant(decision) => Ok(Decision::clone(decision)),
            Plan::Open(open) => open.judge(snapshot, request, pool),
        }
    }

    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Plan>()
            + match self {
                Plan::Constant(_) => size_of::<Decision>(),
                Plan::Open(open) => {
                    size_of::<Open>()
                        + size_of::<Rest>()
                        + open.live.weight()
                        + open.shadow.weight()
                        + size_of_val(&*open.rest.clauses)
                        + size_of_val(&*open.rest.fixed)
                        + REMEMBERED.min(1 << open.rest.count.min(4)) * size_of::<(Outcomes, Decision)>()
                        + open.rest.slow.as_ref().map_or(0, |slow| slow.weight())
                }
            }
    }
}

impl Open {
    fn judge(
        &mut self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        pool: &mut Pool,
    ) -> Result<Decision, Reason> {
        if !self.is_remembered {
            let mut all = Vec::with_capacity(self.rest.count);
            self.ask(request, |outcome| all.push(outcome))?;
            return self.rest.conclude(snapshot, request, &all, pool);
        }
        let mut packing = Packing::default();
        self.ask(request, |outcome| packing.push(outcome))?;
        let outcomes = packing.finish();
        let mut known = self.first.iter().chain(self.known.iter().flat_map(|known| known.iter()));
        if let Some((_, decision)) = known.find(|(known, _)| *known == outcomes) {
            return Ok(decision.clone());
        }
        let decision = self.rest.conclude(snapshot, request, &outcomes.to_vec(self.rest.count), pool)?;
        if self.first.is_none() {
            self.first = Some((outcomes, decision.clone()));
        } else {
            let known = self.known.get_or_insert_default();
            if known.len() < REMEMBERED {
                known.reserve_exact(1);
                known.push((outcomes, decision.clone()));
            }
        }
        Ok(decision)
    }

    /// What comes of every condition, in order.
    fn ask(&self, request: &AccessRequest<'_>, mut came: impl FnMut(Outcome)) -> Result<(), Reason> {
        let scene = Scene::new(request);
        self.live.run(scene, |outcome| {
            came(outcome?);
            Ok(())
        })?;
        if self.shadow.is_empty() {
            return Ok(());
        }
        // SH2: whatever comes of shadow policies, the verdict above stands.
        let mut left = self.rest.count - self.rest.lives;
        let judged = catch_unwind(AssertUnwindSafe(|| {
            self.shadow.run(scene, |outcome| {
                left = left.saturating_sub(1);
                came(outcome.unwrap_or(Outcome::Unsatisfied));
                Ok(())
            })
        }));
        if judged.is_err() {
            (0..left).for_each(|_| came(Outcome::Unsatisfied));
        }
        Ok(())
    }
}

impl Rest {
    fn conclude(
        &self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        outcomes: &[Outcome],
        pool: &mut Pool,
    ) -> Result<Decision, Reason> {
        let mut verdict = Verdict::of(&self.fixed, self.has_shadow, snapshot);
        for (number, rule) in &self.clauses {
            let number = *number as usize;
            if let Some(outcome) = outcomes.get(number) {
                verdict.note(*rule as usize, number >= self.lives, *outcome, snapshot);
            }
        }
        if let Some(slow) = &self.slow {
            for (at, outcome) in slow.judge(snapshot, request)? {
                verdict.note(at, is_shadow(snapshot, at), outcome, snapshot);
            }
        }
        let evaluated = match (&self.slow, self.count) {
            (Some(_), _) => Evaluated::Fallback,
            (None, 0) => Evaluated::Constant,
            (None, _) => Evaluated::Compiled,
        };
        let reads_time = self.reads_time;
        Ok(Decision { reads_time, ..verdict.decision(snapshot, request, evaluated, pool) })
    }
}

/// What the live policies say, and what they would say together with the shadow policies.
struct Verdict {
    live: Tally,
    all: Option<Tally>,
}

impl Verdict {
    fn of(fixed: &[Noted], has_shadow: bool, snapshot: &Snapshot) -> Verdict {
        let mut verdict = Verdict { live: Tally::default(), all: has_shadow.then(Tally::default) };
        for noted in fixed {
            verdict.note(noted.rule as usize, noted.is_shadow, noted.outcome, snapshot);
        }
        verdict
    }

    fn note(&mut self, at: usize, is_shadow: bool, outcome: Outcome, snapshot: &Snapshot) {
        let Some(rule) = snapshot.parts().rules.get(at) else { return };
        if !is_shadow {
            self.live.note(at, rule, outcome);
        }
        if let Some(all) = &mut self.all {
            all.note(at, rule, outcome);
        }
    }

    fn decision(
        self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        evaluated: Evaluated,
        pool: &mut Pool,
    ) -> Decision {
        let live = self.live.decision(snapshot, request, evaluated, pool);
        let would = self.all.map(|all| all.decision(snapshot, request, evaluated, pool));
        let would = would.and_then(|would| would.unlike(&live, None));
        Decision { would, ..live }
    }
}

/// Candidates of one kind, while a plan is made.
#[derive(Debug, Default)]
struct Draft {
    fixed: Vec<Noted>,
    clauses: Vec<Clause>,
    /// Number of the clause with that condition and end.
    numbers: HashMap<(Option<Arc<Expr>>, Option<UnixTime>), usize>,
}

/// A condition that each call decides, `None` where only its end does, and all policies that have it.
#[derive(Debug)]
struct Clause {
    when: Option<Arc<Expr>>,
    expires: Option<UnixTime>,
    rules: Vec<usize>,
}

impl Clause {
    fn reads_time(&self) -> bool {
        self.expires.is_some() || self.when.as_ref().is_some_and(|when| when.reads_time())
    }
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
            (Some(outcome), None) => {
                self.fixed.push(Noted { rule: short(at), is_shadow: rule.notes.is_shadow, outcome });
            }
            (Some(Outcome::Satisfied), expires) => self.clause(at, None, expires),
            (_, expires) => self.clause(at, when, expires),
        }
    }

    fn clause(&mut self, at: usize, when: Option<Arc<Expr>>, expires: Option<UnixTime>) {
        let number = *self.numbers.entry((when.clone(), expires)).or_insert(self.clauses.len());
        match self.clauses.get_mut(number) {
            Some(clause) => clause.rules.push(at),
            None => self.clauses.push(Clause { when, expires, rules: vec![at] }),
        }
    }

    /// Numbers of conditions, counted from `first`, each with a policy that has it.
    fn rules(&self, first: usize) -> impl Iterator<Item = (u32, u32)> {
        let numbered = self.clauses.iter().zip(first..);
        numbered
            .flat_map(|(clause, number)| clause.rules.iter().map(move |rule| (short(number), short(*rule))))
    }

    fn steps(&self, pool: &mut Pool) -> (Steps, usize) {
        let mut share = |condition: &Arc<Expr>| pool.condition(condition);
        let mut layout = Layout::new(&mut share);
        self.clauses.iter().for_each(|clause| layout.add(clause.when.as_ref(), clause.expires));
        layout.finish()
    }

    fn is_empty(&self) -> bool {
        self.clauses.is_empty() && self.fixed.is_empty()
    }
}

fn is_shadow(snapshot: &Snapshot, at: usize) -> bool {
    snapshot.parts().rules.get(at).is_some_and(|rule| rule.notes.is_shadow)
}

/// INVARIANT: a snapshot has at most 100,000 policies (VA4).
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
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
