//! One policy over time: its text in a version, every version that changed it, and who last changed each line.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::{Json, Router, routing};
use policies_engine::{PolicyInfo, Snapshot, baseline};
use policies_store::HistoryEntry;
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::store;
use super::{asked, documents, listed, refused};
use crate::admin::Api;
use crate::admin::problem::Problem;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies/{id}", routing::get(read))
        .route("/v1/policies/{id}/history", routing::get(history))
        .route("/v1/policies/{id}/blame", routing::get(blame))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    version: Option<String>,
}

/// One policy: its place and its text, in the version in force or in another.
#[utoipa::path(get, path = "/v1/policies/{id}", params(("id" = String, Path, description = "its @id"), ("version" = Option<String>, Query, description = "41 or v41")), responses((status = 200, description = "the policy"), (status = 404, description = "no such policy there")))]
pub(in crate::admin) async fn read(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let at: At = asked::query(&uri)?;
    let number = at.version.as_deref().map(asked::number).transpose()?;
    let (snapshot, number) = match number {
        Some(number) => {
            let policies = Arc::clone(api.store.as_ref().ok_or_else(|| super::nothing_kept(&api))?);
            let compiled = tokio::task::spawn_blocking(move || policies.policies(number)).await;
            let compiled = compiled.map_err(|error| Problem::fault("it could not be read", &error))?;
            (compiled.map_err(|error| refused::problem(&error))?, number)
        }
        None => {
            let snapshot = api.judge.snapshot().ok_or_else(super::nothing_in_force)?;
            let number = snapshot.versions().numbers.policies;
            (snapshot, number)
        }
    };
    let missing = || {
        Problem::new(StatusCode::NOT_FOUND, "no such policy")
            .code("PC2044")
            .detail(format!("policies v{number} have no `{id}`"))
            .next("portcullis policy list")
    };
    let policy = snapshot.policy(&id).ok_or_else(missing)?;
    let (text, since) = text(&api, &snapshot, &policy, number);
    let document = listed(&snapshot, &policy);
    let document = documents::with(document, "version", number);
    let document = documents::with(document, "text", text);
    let document =
        documents::with(document, "since", since.as_ref().map(|entry| documents::version(&entry.version)));
    let history = format!("{}/history", crate::cli::decisions::policy_path(&policy.id));
    Ok(Json(documents::object("Policy", documents::with(document, "history", history))))
}

/// The text of a policy in that version, and the version that brought it.
fn text(
    api: &Api,
    snapshot: &Snapshot,
    policy: &PolicyInfo,
    number: u64,
) -> (Option<String>, Option<HistoryEntry>) {
    let known = api.store.as_ref().and_then(|store| store.history(&policy.id).ok()).unwrap_or_default();
    if let Some(entry) = known.into_iter().find(|entry| entry.version.policies <= number) {
        return (entry.text.clone(), Some(entry));
    }
    let shipped = snapshot.is_baseline(&policy.id).then(|| {
        let file = baseline().into_iter().find(|source| source.file == policy.file)?;
        file.text
            .split("\n\n")
            .find(|part| part.contains(&format!("@id(\"{}\")", policy.id)))
            .map(str::to_owned)
    });
    (shipped.flatten(), None)
}

/// Every kept version that changed the policy, newest first.
#[utoipa::path(get, path = "/v1/policies/{id}/history", params(("id" = String, Path, description = "its @id")), responses((status = 200, description = "versions that changed it"), (status = 404, description = "no kept version has it")))]
pub(in crate::admin) async fn history(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let entries = store(&api)?.history(&id).map_err(|error| refused::problem(&error))?;
    let items: Vec<_> = entries.iter().map(documents::step).collect();
    Ok(Json(
        json!({ "apiVersion": "portcullis/v1", "kind": "PolicyHistoryList", "policy": id, "items": items }),
    ))
}

/// The lines of the policy in force, each with the version that last changed it.
#[utoipa::path(get, path = "/v1/policies/{id}/blame", params(("id" = String, Path, description = "its @id")), responses((status = 200, description = "its lines"), (status = 404, description = "it is not in force")))]
pub(in crate::admin) async fn blame(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let lines = store(&api)?.blame(&id).map_err(|error| refused::problem(&error))?;
    let items: Vec<_> = lines
        .iter()
        .map(|line| json!({ "line": line.line, "text": line.text, "version": line.policies, "author": line.author, "created": line.created }))
        .collect();
    Ok(Json(
        json!({ "apiVersion": "portcullis/v1", "kind": "PolicyBlameList", "policy": id, "items": items }),
    ))
}
