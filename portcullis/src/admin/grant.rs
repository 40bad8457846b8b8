//! Rights that depend on what is stored: whether a change may be published is asked of Cedar with the facts of that
//! change, and only the handler that has read it knows them. The middleware hands it a [`Deferred`]; what comes back
//! is a [`Granted`] or the refusal to answer with. One decision is on record for each call, here as everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ca_authority::service::Caller;
use policies_engine::{AdminAction, AdminContext, ChangeContext, Phase, Principal, Resource};

use super::problem::Problem;
use super::{Api, caller_name, facts};
use crate::assemble::judge::{Question, Verdict};

/// A call whose right is not yet decided.
#[derive(Clone)]
pub(super) struct Deferred {
    pub(super) api: Arc<Api>,
    pub(super) caller: Caller,
    pub(super) principal: Principal,
    pub(super) action: AdminAction,
    pub(super) resource: Resource,
    asked: Arc<AtomicBool>,
}

/// Cedar said yes, and that is on record.
#[derive(Debug)]
pub(super) struct Granted {
    /// Who, as Cedar names him.
    pub(super) by: Principal,
    /// The decision.
    pub(super) decision: String,
}

impl Deferred {
    pub(super) fn new(
        api: &Arc<Api>,
        caller: Caller,
        principal: Principal,
        action: AdminAction,
        resource: Resource,
    ) -> Self {
        Self { api: Arc::clone(api), caller, principal, action, resource, asked: Arc::default() }
    }

    /// Asks with the facts of the change.
    pub(super) async fn decide(&self, change: ChangeContext) -> Result<Granted, Response> {
        self.asked.store(true, Ordering::Relaxed);
        let verdict = self.api.judge.decide(&Question {
            principal: self.principal.clone(),
            action: self.action,
            resource: self.resource.clone(),
            context: Some(&AdminContext::Change(change)),
            phase: Phase::Admin,
            facts: Some(facts(&self.caller)),
        });
        let by = self.principal.clone();
        let decision = settle(verdict, &self.caller, self.action).await?;
        Ok(Granted { by, decision })
    }

    /// Whether the handler asked before it acted; a call that was never judged is no success.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The id of a decision that permits, once it is on record; else what to answer.
pub(super) async fn settle(
    verdict: Verdict,
    caller: &Caller,
    action: AdminAction,
) -> Result<String, Response> {
    let (allow, id, forbids) = (verdict.allow, verdict.id.to_string(), Arc::clone(&verdict.determining));
    if verdict.recorded().await.is_err() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the decision could not be recorded")
            .decision(&id)
            .into_response());
    }
    if allow {
        return Ok(id);
    }
    let known = !matches!(caller, Caller::Anonymous);
    let status = if known { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    let needs = format!("{} needs {}", caller_name(caller), action.as_str());
    let problem = Problem::new(status, "not permitted").decision(&id);
    if !needs_change(action) || forbids.is_empty() {
        return Err(problem.detail(needs).into_response());
    }
    // Who works on policies is told which rule stands in the way (policy.md 14).
    let ids: Vec<_> = forbids.iter().map(ToString::to_string).collect();
    Err(problem
        .code("PC2043")
        .detail(format!("{needs}, and {} forbids it", ids.join(", ")))
        .hint(way_out(&ids))
        .next(format!("portcullis explain {id}"))
        .with("policies", ids)
        .into_response())
}

/// Whether the facts of a change belong to the question.
pub(super) fn needs_change(action: AdminAction) -> bool {
    matches!(
        action,
        AdminAction::PolicyApprove
            | AdminAction::PolicySign
            | AdminAction::PolicyPublish
            | AdminAction::PolicyRollback
    )
}

fn way_out(ids: &[String]) -> &'static str {
    let is = |id: &str| ids.iter().any(|known| known == id);
    if is("no-self-approval") {
        "somebody else has to approve it: portcullis policy approve, as another user"
    } else if is("two-person-widening") {
        "it lets somebody do more than before; somebody other than its author approves it first: portcullis policy approve"
    } else if is("baseline-guard") {
        "it changes shipped policies; its cases must pass, and somebody other than its author approves it first: portcullis policy approve"
    } else {
        "a policy of this installation forbids it"
    }
}
