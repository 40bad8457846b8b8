//! `GET /v1/decisions/{id}/explain` and `/suggest`: the record and the policies that judged it, joined.
//! The ledger knows no Cedar and the engine no ledger; they meet here (policy EX6).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policies_decisions::StoredDecision;
use policies_engine::explain::{RequestForExplain, TextOptions, explain as explained};
use policies_engine::{Effect, OwnedFacts, Snapshot};
use serde::Deserialize;
use serde_json::json;

use super::Api;
use super::problem::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    short: bool,
}

/// Why a recorded decision came out as it did.
#[utoipa::path(get, path = "/v1/decisions/{id}/explain", params(("id" = String, Path, description = "decision id or PREFIX…SUFFIX")), responses((status = 200, description = "explanation"), (status = 404, description = "no such decision")))]
pub(super) async fn explain(State(api): State<Arc<Api>>, Path(id): Path<String>, Query(options): Query<Options>) -> Response {
    let (stored, snapshot) = match pinned(&api, &id).await {
        Ok(found) => found,
        Err(problem) => return problem.into_response(),
    };
    let question = question(&stored);
    let explanation = explained(&snapshot, &question);
    let text = explanation.to_text(
        &question,
        &snapshot,
        &TextOptions {
            decision: Some(stored.id.to_string()),
            age: Some(age(api.clock.now().wall.saturating_since(stored.time))),
            enforcer: Some(stored.instance.clone()),
            service: stored.service.clone(),
            shorten: options.short,
            all: options.all,
            is_observed: stored.effect == Effect::Allow && stored.would.is_some(),
        },
    );
    let mut document = explanation.to_json(&snapshot, Some(&stored.id.to_string()));
    if let Some(members) = document.as_object_mut() {
        members.insert("text".to_owned(), json!(text));
    }
    Json(document).into_response()
}

/// A permit for exactly the call that was denied.
#[utoipa::path(get, path = "/v1/decisions/{id}/suggest", params(("id" = String, Path, description = "decision id or PREFIX…SUFFIX")), responses((status = 200, description = "a permit with @id"), (status = 404, description = "no such decision")))]
pub(super) async fn suggest(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let stored = match find(&api, &id).await {
        Ok(stored) => stored,
        Err(problem) => return problem.into_response(),
    };
    let facts: &dyn policies_engine::Facts = match &stored.facts {
        Some(facts) => facts,
        None => return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing to permit").detail("the record holds no facts of a call").into_response(),
    };
    let policy = policies_engine::suggest(&stored.principal, stored.action, &stored.resource, facts.connection().mtls);
    Json(json!({
        "apiVersion": "portcullis/v1", "kind": "Suggestion", "decision": stored.id.to_string(), "policy": policy,
        "next": "save it below policies.dir, then: portcullis policy test",
    }))
    .into_response()
}

async fn pinned(api: &Api, id: &str) -> Result<(StoredDecision, Arc<Snapshot>), Problem> {
    let stored = find(api, id).await?;
    let version = stored.snapshot_number;
    let in_force = api.judge.snapshot().filter(|snapshot| Some(snapshot.versions().numbers.snapshot) == version || version.is_none());
    let snapshot = match (in_force, &api.store, version) {
        (Some(snapshot), _, _) => Some(snapshot),
        (None, Some(store), Some(version)) => store.version(version).ok(),
        _ => None,
    };
    let snapshot = snapshot.ok_or_else(|| Problem::new(StatusCode::GONE, "the policies that judged it are no longer stored"))?;
    Ok((stored, snapshot))
}

async fn find(api: &Api, id: &str) -> Result<StoredDecision, Problem> {
    api.ledger.decision(id).await.map_err(|error| {
        Problem::new(StatusCode::NOT_FOUND, "no such decision").detail(error.to_string()).hint("portcullis decisions query lists ids")
    })
}

fn question(stored: &StoredDecision) -> RequestForExplain {
    RequestForExplain {
        principal: stored.principal.clone(),
        action: stored.action,
        resource: stored.resource.clone(),
        facts: stored.facts.clone().unwrap_or_else(|| OwnedFacts::local("unknown")),
        now: stored.time,
        extra: None,
        recorded: Some((stored.effect, stored.reason)),
    }
}

/// `3 s ago`, as people say it.
fn age(age: std::time::Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7_199 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}
