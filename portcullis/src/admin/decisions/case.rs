//! `GET /v1/decisions/{id}/case`: a recorded decision as a case of `policy test` that passes under the policies that
//! judged it (policy TE3).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use policies_decisions::Reader;
use policies_engine::explain::RequestForExplain;
use policies_engine::{Action, Effect, Expected, ResourceKind, Snapshot, case_of, run_cases};
use serde_json::{Value, json};

use super::{find, pinned, told};
use crate::admin::Api;
use crate::admin::problem::Problem;

/// A case that expects what was decided.
#[utoipa::path(get, path = "/v1/decisions/{id}/case", params(("id" = String, Path, description = "decision id or PREFIX…SUFFIX")), responses((status = 200, description = "a case of `policy test`"), (status = 404, description = "no such decision"), (status = 410, description = "the policies that judged it are no longer stored"), (status = 422, description = "it cannot be a case: the reason says why")))]
pub(in crate::admin) async fn case(
    State(api): State<Arc<Api>>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let answer = made(&api, &reader, &id).await;
    told(&api, &reader, &headers, ("case", &id), answer)
}

async fn made(api: &Arc<Api>, reader: &Reader, id: &str) -> Result<Value, Problem> {
    let recorded = find(api, reader, id).await?;
    let snapshot = pinned(api, recorded.snapshot).await?;
    let question = &recorded.question;
    let unfit =
        |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "it cannot be a case").detail(detail);
    if matches!(question.action, Action::Admin(_)) {
        return Err(unfit("the context of calls to our own API is not on record".to_owned()));
    }
    if question.resource.kind() == ResourceKind::Unknown {
        return Err(unfit("the call named no registered route or method".to_owned()));
    }
    if let Some(why) = recorded.nameless() {
        return Err(unfit(why.to_owned()));
    }
    let case = passing(question, &snapshot).map_err(unfit)?;
    let version = snapshot.versions().numbers.policies;
    Ok(json!({
        "apiVersion": "portcullis/v1", "kind": "Case", "decision": recorded.id, "version": version, "case": case,
    }))
}

/// The case, run once: what does not pass under its own policies is no case.
fn passing(question: &RequestForExplain, snapshot: &Snapshot) -> Result<Value, String> {
    let decision = snapshot.decide(&question.access());
    let lacks = question.recorded.as_ref().filter(|recorded| !recorded.is_whole);
    if lacks.is_some_and(|recorded| recorded.reason != decision.reason) {
        return Err("what the policies read of the call is not all on record".to_owned());
    }
    let may = if decision.effect == Effect::Allow { "may" } else { "may not" };
    let name = format!("{} {may} {} {}", question.principal.id(), question.action, question.resource.id());
    let case = case_of(&name, question, &Expected::of(&decision));
    let text = json!([case]).to_string();
    let ran = run_cases(snapshot, &text, &|_| Err("no entity file".to_owned())).map_err(|e| e.to_string())?;
    match ran.into_iter().find_map(|outcome| outcome.failure) {
        None => Ok(case),
        Some(failure) => Err(failure),
    }
}
