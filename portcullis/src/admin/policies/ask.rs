//! `GET /v1/policies:who-can` and `:what-can`: the reverse questions, answered from the policies in force.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::{Json, Router, routing};
use policies_engine::ask::{self, Answers, AskOptions};
use policies_engine::{Action, Principal, Reason, Resource, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked, documents, nothing_in_force};
use crate::admin::Api;
use crate::admin::problem::Problem;

/// Lines of an answer: by default, and at most.
const LINES: (usize, usize) = (100, 1_000);

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies:who-can", routing::get(who_can))
        .route("/v1/policies:what-can", routing::get(what_can))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoCan {
    action: String,
    resource: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhatCan {
    principal: String,
    action: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Who can do that, caller by caller and class by class, with what is left to the call.
#[utoipa::path(get, path = "/v1/policies:who-can", params(("action" = String, Query), ("resource" = String, Query), ("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, description = "lines that allow or depend; everybody else is denied"), (status = 404, description = "nothing of that name"), (status = 422, description = "nobody can ask for that action there")))]
pub(in crate::admin) async fn who_can(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let question: WhoCan = asked::query(&uri)?;
    let (action, resource) = (action(&question.action)?, resource(&question.resource)?);
    let options = options(&api, question.limit, question.cursor)?;
    let snapshot = api.judge.snapshot().ok_or_else(nothing_in_force)?;
    let target = resource.clone();
    let answers =
        answer(&snapshot, move |snapshot| ask::who_can(snapshot, action, &target, &options)).await?;
    let answers = answers.map_err(|reason| match reason {
        Reason::EntityMissing => {
            let hints = ask::hints(&snapshot, None, Some(&resource));
            Problem::new(StatusCode::NOT_FOUND, "nothing of that name").detail(hints.join("; "))
        }
        _ => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nobody can ask that")
            .detail(format!("the schema has no `{action}` on a {}", resource.entity_type())),
    })?;
    Ok(document(&answers, "WhoCanList", &snapshot, &[]))
}

/// What that caller can do, on everything there is.
#[utoipa::path(get, path = "/v1/policies:what-can", params(("principal" = String, Query), ("action" = Option<String>, Query), ("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, description = "lines that allow or depend; all else is denied")))]
pub(in crate::admin) async fn what_can(
    State(api): State<Arc<Api>>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let question: WhatCan = asked::query(&uri)?;
    let principal = principal(&question.principal)?;
    let action = question.action.as_deref().map(action).transpose()?;
    let options = options(&api, question.limit, question.cursor)?;
    let snapshot = api.judge.snapshot().ok_or_else(nothing_in_force)?;
    let hints = ask::hints(&snapshot, Some(&principal), None);
    let answers =
        answer(&snapshot, move |snapshot| ask::what_can(snapshot, &principal, action, &options)).await?;
    Ok(document(&answers, "WhatCanList", &snapshot, &hints))
}

/// Every pair is looked at, which takes longer than a worker may be held.
async fn answer<T: Send + 'static>(
    snapshot: &Arc<Snapshot>,
    work: impl FnOnce(&Snapshot) -> T + Send + 'static,
) -> Result<T, Problem> {
    let snapshot = Arc::clone(snapshot);
    tokio::task::spawn_blocking(move || work(&snapshot)).await.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the question could not be answered")
            .detail(error.to_string())
    })
}

fn document(answers: &Answers, kind: &str, snapshot: &Snapshot, hints: &[String]) -> Json<Value> {
    let numbers = snapshot.versions().numbers;
    let document = documents::with(answers.to_json(kind), "policies", numbers.policies);
    let document = documents::with(document, "snapshot", numbers.snapshot);
    Json(if hints.is_empty() { document } else { documents::with(document, "hints", json!(hints)) })
}

fn options(api: &Api, limit: Option<usize>, cursor: Option<String>) -> Result<AskOptions, Problem> {
    let (default, most) = LINES;
    let limit = limit.unwrap_or(default);
    if limit == 0 || limit > most {
        return Err(malformed(format!("`limit` is from 1 to {most}, not {limit}")));
    }
    Ok(AskOptions { now: api.clock.now().wall, limit, after: cursor })
}

/// A caller as people write it.
pub(super) fn principal(text: &str) -> Result<Principal, Problem> {
    Principal::parse(text).ok_or_else(|| {
        malformed(format!(
            "`{text}` is no principal; write Workload::\"spiffe://..\", a SPIFFE ID, or anonymous"
        ))
    })
}

/// An action as people write it.
pub(super) fn action(text: &str) -> Result<Action, Problem> {
    Action::parse(text).map_err(|error| {
        let near =
            ask::nearest_action(text).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        malformed(format!("{error}{near}"))
    })
}

/// A resource as people write it.
pub(super) fn resource(text: &str) -> Result<Resource, Problem> {
    Resource::parse(text).ok_or_else(|| {
        malformed(format!(
            "`{text}` is no resource; write Method::\"shop.Orders/Get\", Route::\"..\" or Service::\"..\""
        ))
    })
}

pub(super) fn malformed(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed question").detail(detail)
}
