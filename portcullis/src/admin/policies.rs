//! `/v1/policies`: what is in force, what it would say, and how it is changed; one file per noun.

pub(super) mod can;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policies_engine::Effect;
use serde_json::{Value, json};

use super::Api;

/// The policies in force, shipped ones included.
#[utoipa::path(get, path = "/v1/policies", responses((status = 200, description = "policies in force")))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.judge.snapshot();
    let items: Vec<_> = snapshot
        .iter()
        .flat_map(|snapshot| snapshot.policies())
        .map(|policy| {
            json!({
                "id": &*policy.id, "effect": match policy.effect { Effect::Allow => "permit", Effect::Deny => "forbid" },
                "file": &*policy.file, "line": policy.line, "owner": policy.owner,
                "system": snapshot.as_ref().is_some_and(|snapshot| snapshot.is_baseline(&policy.id)),
            })
        })
        .collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "PolicyList", "items": items }))
}
