//! What is left to do for one (principal, action, resource): a constant verdict where scopes decide everything, else
//! the candidates whose conditions stock Cedar evaluates (S31, EN4).

use crate::{
    AccessRequest, Decision, ErrorClass, Evaluated, Reason, Snapshot, Would,
    cast::{Cast, Stage},
    context, stock,
    tally::Tally,
    walk::Reads,
};
use cedar_policy::{Authorizer, EvaluationError, PolicySet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Plan of one triple.
#[derive(Debug)]
pub(crate) enum Plan {
    Constant(Decision),
    Open(Box<Open>),
}

/// A plan with conditions.
#[derive(Debug)]
pub(crate) struct Open {
    live: Candidates,
    /// Live and shadow policies together, where shadow policies apply.
    with_shadow: Option<Candidates>,
    /// `None` in plans that principals share: each call brings its own.
    stage: Option<Stage>,
}

/// Policies whose scope matches.
#[derive(Debug, Default)]
struct Candidates {
    /// Satisfied by their scope alone.
    fixed: Tally,
    /// Satisfied by their scope until they expire.
    timed: Vec<usize>,
    /// Those with conditions.
    conditional: PolicySet,
    reads: Reads,
}

/// Plans and judges once. A panic in evaluation is a denial, `engine_fault` (EN11).
pub(crate) fn decide(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Decision {
    contained(|| match snapshot.cast(request) {
        Ok(cast) => Plan::build(snapshot, request, &cast, true)?.judge(snapshot, request),
        Err(reason) => Err(reason),
    })
}

/// Runs one evaluation; refusals and panics become decisions.
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
    /// The plan of `cast`. With `own`, the entities are kept with it.
    pub(crate) fn build(
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        cast: &Cast,
        own: bool,
    ) -> Result<Plan, Reason> {
        let parts = snapshot.parts();
        let found = parts.index.find(&cast.triple.principal, &cast.triple.resource);
        let rule = |at: &usize| parts.rules.get(*at);
        let is_candidate =
            |at: &usize| rule(at).is_some_and(|rule| cast.triple.action.matches_action(&rule.scope.action));
        let all: Vec<usize> = found.into_iter().filter(is_candidate).collect();
        let is_live = |at: &usize| rule(at).is_some_and(|rule| !rule.notes.is_shadow);
        let live = Candidates::sort(snapshot, all.iter().copied().filter(is_live))?;
        let with_shadow = if all.iter().all(is_live) {
            None
        } else {
            Some(Candidates::sort(snapshot, all.iter().copied())?)
        };
        if live.is_constant() && with_shadow.as_ref().is_none_or(Candidates::is_constant) {
            let mut decision = live.fixed.decision(snapshot, request, Evaluated::Constant);
            decision.would =
                with_shadow.and_then(|shadow| would(snapshot, request, &shadow.fixed, &decision));
            return Ok(Plan::Constant(decision));
        }
        let stage = if own { Some(snapshot.stage(cast)?) } else { None };
        Ok(Plan::Open(Box::new(Open { live, with_shadow, stage })))
    }

    pub(crate) fn judge(&self, snapshot: &Snapshot, request: &AccessRequest<'_>) -> Result<Decision, Reason> {
        match self {
            Plan::Constant(decision) => Ok(decision.clone()),
            Plan::Open(open) => open.judge(snapshot, request),
        }
    }
}

impl Open {
    fn judge(&self, snapshot: &Snapshot, request: &AccessRequest<'_>) -> Result<Decision, Reason> {
        match &self.stage {
            Some(stage) => self.judge_on(stage, snapshot, request),
            None => self.judge_on(&snapshot.stage(&snapshot.cast(request)?)?, snapshot, request),
        }
    }

    fn judge_on(
        &self,
        stage: &Stage,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
    ) -> Result<Decision, Reason> {
        let tally = self.live.tally(stage, snapshot, request)?;
        let evaluated =
            if self.live.conditional.is_empty() { Evaluated::Constant } else { Evaluated::Fallback };
        let mut decision = tally.decision(snapshot, request, evaluated);
        // SH2: whatever comes of the shadow policies, the verdict above stands.
        decision.would = self.with_shadow.as_ref().and_then(|shadow| {
            let tally =
                catch_unwind(AssertUnwindSafe(|| shadow.tally(stage, snapshot, request))).ok()?.ok()?;
            would(snapshot, request, &tally, &decision)
        });
        Ok(decision)
    }
}

impl Candidates {
    fn sort(snapshot: &Snapshot, candidates: impl Iterator<Item = usize>) -> Result<Candidates, Reason> {
        let mut sorted = Candidates::default();
        for at in candidates {
            let Some(rule) = snapshot.parts().rules.get(at) else { continue };
            match rule.reads {
                None if rule.notes.expires.is_some() => sorted.timed.push(at),
                None => sorted.fixed.satisfied(at, rule),
                Some(reads) => {
                    sorted.reads = sorted.reads.and(reads);
                    sorted.conditional.add(rule.policy.clone()).map_err(|cause| {
                        tracing::error!(%cause, "candidates of one request do not fit together");
                        Reason::EngineFault
                    })?;
                }
            }
        }
        Ok(sorted)
    }

    fn is_constant(&self) -> bool {
        self.timed.is_empty() && self.conditional.is_empty()
    }

    fn tally(
        &self,
        stage: &Stage,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
    ) -> Result<Tally, Reason> {
        let parts = snapshot.parts();
        let mut tally = self.fixed.clone();
        for (at, rule) in self.timed.iter().filter_map(|at| Some((*at, parts.rules.get(*at)?))) {
            if !rule.is_expired(request.now) {
                tally.satisfied(at, rule);
            }
        }
        if self.conditional.is_empty() {
            return Ok(tally);
        }
        let context = context::build(request, self.reads, &parts.versions.declared)?;
        let question = stock::question(stage, context)?;
        let answer = Authorizer::new().is_authorized(&question, &self.conditional, &stage.entities);
        let rule = |id: &cedar_policy::PolicyId| {
            let at = *parts.by_id.get(AsRef::<str>::as_ref(id))?;
            Some((at, parts.rules.get(at)?)).filter(|(_, rule)| !rule.is_expired(request.now))
        };
        answer.diagnostics().reason().filter_map(rule).for_each(|(at, rule)| tally.satisfied(at, rule));
        for cedar_policy::AuthorizationError::PolicyEvaluationError(error) in answer.diagnostics().errors() {
            if let Some((at, rule)) = rule(error.policy_id()) {
                tally.failed(at, rule, class_of(error.inner()));
            }
        }
        Ok(tally)
    }
}

/// What live and shadow policies together say, unless that is the same.
fn would(
    snapshot: &Snapshot,
    request: &AccessRequest<'_>,
    tally: &Tally,
    live: &Decision,
) -> Option<Box<Would>> {
    let Decision { effect, reason, determining, errors, .. } =
        tally.decision(snapshot, request, live.evaluated);
    let is_same = effect == live.effect
        && reason == live.reason
        && determining == live.determining
        && errors == live.errors;
    (!is_same).then(|| Box::new(Would { effect, reason, determining, errors, version: None }))
}

pub(crate) fn class_of(error: &EvaluationError) -> ErrorClass {
    match error {
        EvaluationError::EntityDoesNotExist(_) => ErrorClass::MissingEntity,
        EvaluationError::EntityAttrDoesNotExist(error) if error.to_string().contains("tag") => {
            ErrorClass::MissingTag
        }
        EvaluationError::EntityAttrDoesNotExist(_) | EvaluationError::RecordAttrDoesNotExist(_) => {
            ErrorClass::MissingAttribute
        }
        EvaluationError::IntegerOverflow(_) | EvaluationError::RecursionLimit(_) => ErrorClass::Overflow,
        EvaluationError::FailedExtensionFunctionLookup(_)
        | EvaluationError::FailedExtensionFunctionExecution(_) => ErrorClass::Extension,
        _ => ErrorClass::Type,
    }
}
