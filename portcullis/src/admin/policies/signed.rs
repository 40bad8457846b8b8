//! `/v1/policies/snapshot` and `/v1/policies/signing`: what enforcers begin with, and the keys and the epoch by which
//! they believe it (ST4, ST5, ST9). Keys and epoch are configuration of the installation: who publishes policies does not
//! for that reason change them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router, routing};
use policies_engine::Principal;
use policies_store::PolicyStore;
use serde_json::{Value, json};

use super::changes::store;
use super::{nothing_in_force, record, refused};
use crate::admin::Api;
use crate::admin::problem::Problem;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies/snapshot", routing::get(snapshot))
        .route("/v1/policies/signing", routing::get(read))
        .route("/v1/policies/signing:rotate", routing::post(rotate))
        .route("/v1/policies/signing:raise-epoch", routing::post(raise_epoch))
}

/// The signed snapshot that is published, or was taken last, as a `PCSNAP01` file: what a follower may begin with.
#[utoipa::path(get, path = "/v1/policies/snapshot", responses((status = 200, description = "the file", content_type = "application/octet-stream"), (status = 503, description = "nothing is in force")))]
pub(in crate::admin) async fn snapshot(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let file = match (&api.store, &api.follower) {
        (Some(store), _) => {
            let feed = Arc::clone(store.feed());
            let read = tokio::task::spawn_blocking(move || feed.snapshot_file()).await;
            let read = read.map_err(|error| Problem::fault("it could not be read", &error))?;
            read.map_err(|error| refused::problem(&error))?
        }
        (None, Some(follower)) => follower.snapshot_file().await,
        (None, None) => None,
    };
    let file = file.ok_or_else(nothing_in_force)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], file).into_response())
}

/// The public keys that sign versions, the newest first, and the epoch of what is published.
#[utoipa::path(get, path = "/v1/policies/signing", responses((status = 200, description = "keys and epoch")))]
pub(in crate::admin) async fn read(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    Ok(Json(signing(store(&api)?)))
}

/// Makes a new key. It and the one before it sign until the next rotation; a key before that signs no more.
#[utoipa::path(post, path = "/v1/policies/signing:rotate", responses((status = 200, description = "the keys that sign from now on"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn rotate(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let store = store(&api)?;
    store.rotate_signing_key().await.map_err(|error| refused::problem(&error))?;
    let keys: Vec<_> = store.verifiers().iter().map(ToString::to_string).collect();
    record(&api, "policy.rotate_key", &caller, &[("keys", keys.join(" "))]);
    Ok(Json(signing(store)))
}

/// Raises the epoch: what is published from now on counts more than everything before, also where later numbers of a
/// store that was restored are known.
#[utoipa::path(post, path = "/v1/policies/signing:raise-epoch", responses((status = 200, description = "the new epoch"), (status = 400, description = "nothing is in force"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn raise_epoch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let store = store(&api)?;
    let version = store.raise_epoch(&caller.to_string()).await.map_err(|error| refused::problem(&error))?;
    let details = [("epoch", version.epoch.to_string()), ("version", version.policies.to_string())];
    record(&api, "policy.raise_epoch", &caller, &details);
    Ok(Json(signing(store)))
}

fn signing(store: &PolicyStore) -> Value {
    let keys: Vec<_> = store.verifiers().iter().map(ToString::to_string).collect();
    let numbers = store.status().numbers;
    json!({
        "apiVersion": "portcullis/v1", "kind": "PolicySigning", "keys": keys,
        "epoch": numbers.map(|numbers| numbers.epoch),
        "snapshot": numbers.map(|numbers| numbers.snapshot),
        "version": numbers.map(|numbers| numbers.policies),
    })
}
