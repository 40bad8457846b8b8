//! Stock Cedar with SE1 applied: no index, no plan, no cache. The judge of explanations (EX6), of cases (TE2) and of the
//! engine's own property tests. Policies whose scope does not match are left out one by one, which changes nothing: a
//! scope never errors (EN3).

use crate::{
    AccessRequest, Decision, Evaluated, Reason, Snapshot,
    cast::{Cast, Stage},
    context, explain,
    plan::{Outcome, Pool, class_of},
    tally::Tally,
    walk::Reads,
};
use cedar_policy::{AuthorizationError, Authorizer, Context, PolicyId, PolicySet, Request};
use std::sync::Arc;

/// What stock Cedar says, and how explanations word its errors.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) decision: Decision,
    /// Policy id and message, sorted.
    pub(crate) messages: Vec<(Arc<str>, String)>,
}

/// Judges `request` with every policy that is in force.
pub(crate) fn judge(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Result<Answer, Reason> {
    let cast = snapshot.cast(request)?;
    let stage = snapshot.stage(&cast)?;
    let context = context::build(request, Reads::ALL, &snapshot.versions().declared)?;
    judge_on(snapshot, request, &cast, &stage, context)
}

/// The same on entities and a context of the caller's choice.
pub(crate) fn judge_on(
    snapshot: &Snapshot,
    request: &AccessRequest<'_>,
    cast: &Cast,
    stage: &Stage,
    context: Context,
) -> Result<Answer, Reason> {
    let parts = snapshot.parts();
    let in_force = parts.rules.iter().filter(|rule| {
        !rule.notes.is_shadow && !rule.is_expired(request.now) && cast.triple.matches(&rule.scope)
    });
    let in_force = in_force.map(|rule| rule.policy()).collect::<Result<Vec<_>, _>>()?;
    let policies = PolicySet::from_policies(in_force).map_err(|cause| {
        tracing::error!(%cause, "policies of a snapshot do not fit together");
        Reason::EngineFault
    })?;
    let response = Authorizer::new().is_authorized(&question(stage, context)?, &policies, &stage.entities);
    let rule = |id: &PolicyId| {
        let at = *parts.by_id.get(AsRef::<str>::as_ref(id))?;
        Some((at, parts.rules.get(at)?))
    };
    let mut tally = Tally::default();
    let mut messages = Vec::new();
    response
        .diagnostics()
        .reason()
        .filter_map(rule)
        .for_each(|(at, rule)| tally.note(at, rule, Outcome::Satisfied));
    for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
        if let Some((at, rule)) = rule(error.policy_id()) {
            tally.note(at, rule, Outcome::Failed(class_of(error.inner())));
            messages.push((Arc::clone(&rule.id), explain::describe(error.inner())));
        }
    }
    messages.sort_unstable();
    Ok(Answer {
        decision: tally.decision(snapshot, request, Evaluated::Fallback, &mut Pool::default()),
        messages,
    })
}

pub(crate) fn question(stage: &Stage, context: Context) -> Result<Request, Reason> {
    let uids = (stage.principal.clone(), stage.action.clone(), stage.resource.clone());
    Request::new(uids.0, uids.1, uids.2, context, None).map_err(|cause| {
        tracing::debug!(%cause, "Cedar refused a request");
        Reason::ContextInvalid
    })
}
