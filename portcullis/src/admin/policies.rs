//! `/v1/policies`: what is in force, what it would say, and how it is changed; one file per noun.

pub(super) mod ask;
mod asked;
pub(super) mod can;
pub(super) mod changes;
pub(super) mod diff;
mod documents;
pub(super) mod followers;
pub(super) mod format;
pub(super) mod grpc;
pub(super) mod history;
pub(super) mod impact;
pub(super) mod judged;
pub(super) mod mine;
mod refused;
pub(super) mod rights;
pub(super) mod signed;
pub(super) mod standing;
pub(super) mod usage;
pub(super) mod validate;
pub(super) mod versions;
pub(super) mod watch;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing};
use policies_engine::{AdministrationRecord, Effect, PolicyInfo, Principal, Record, Snapshot};
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;
pub(super) use changes::BODY_BYTES;

/// The gRPC service that enforcers follow; to read policies is the right they need.
pub(super) const FEED_PATHS: &str = "/portcullis.policies.v1.PolicyFeed/";
pub(super) const FEED: &str = "/portcullis.policies.v1.PolicyFeed/{method}";

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies", routing::get(list))
        .route("/v1/policies:can", routing::post(can::can))
        .merge(ask::router())
        .merge(texts())
        .merge(signed::router())
        .merge(changes::router())
        .merge(versions::router())
        .merge(history::router())
        .merge(impact::router())
        .merge(mine::router())
        .merge(usage::router())
        .merge(judged::router())
        .merge(diff::router())
}

/// Files that are looked at and forgotten.
fn texts() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies:validate", routing::post(validate::validate))
        .route("/v1/policies:format", routing::post(format::format))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
}

/// The policies in force, shipped ones included.
#[utoipa::path(get, path = "/v1/policies", responses((status = 200, description = "policies in force")))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.judge.snapshot();
    let items: Vec<_> = snapshot
        .iter()
        .flat_map(|snapshot| snapshot.policies().map(|policy| listed(snapshot, &policy)))
        .collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "PolicyList", "items": items }))
}

/// A policy as lists show it.
fn listed(snapshot: &Snapshot, policy: &PolicyInfo) -> Value {
    json!({
        "id": &*policy.id, "effect": match policy.effect { Effect::Allow => "permit", Effect::Deny => "forbid" },
        "file": &*policy.file, "line": policy.line, "owner": policy.owner, "shadow": policy.is_shadow,
        "system": snapshot.is_baseline(&policy.id),
    })
}

/// Puts what was done into the ledger. The decision that permitted it is there already.
pub(super) fn record(api: &Api, operation: &str, by: &Principal, details: &[(&str, String)]) {
    let details = details.iter().filter(|(_, value)| !value.is_empty());
    let record = AdministrationRecord {
        operation: operation.to_owned(),
        principal: Some(by.clone()),
        details: details.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        time: api.clock.now(),
    };
    if let Err(error) = api.ledger.append(Record::Administration(record)) {
        tracing::error!(event = "administration_not_recorded", operation, %error, "what was done is not on record");
    }
}

/// Versions and changes are where policies are written.
fn nothing_kept(api: &Api) -> Problem {
    let Some(follower) = &api.follower else {
        return Problem::new(StatusCode::NOT_FOUND, "no policies are kept here");
    };
    let publisher = follower.follow_status().publisher;
    Problem::new(StatusCode::CONFLICT, "policies are followed, not written here")
        .detail(format!("this process follows `{publisher}`; ask there"))
        .next(match publisher.starts_with("unix://") {
            true => format!("portcullis policy versions --server {publisher}"),
            false => "portcullis policy versions    (on the host of the authority)".to_owned(),
        })
}

fn nothing_in_force() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no policy is in force").next("portcullis check")
}
