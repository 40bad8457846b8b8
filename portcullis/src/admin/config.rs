//! `/v1/config`: the configuration of the running process, as `portcullis config reload` and `status` ask for it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use policies_engine::Principal;
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;
use crate::messages::Message;

/// Brings the configuration file into force: all of it, or nothing.
#[utoipa::path(post, path = "/v1/config:reload", responses((status = 200, description = "what changed"), (status = 403, description = "not permitted"), (status = 422, description = "refused; the configuration in force stays")))]
pub(super) async fn reload(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let source = api.configuration.in_force().source.display().to_string();
    match api.configuration.reload(&caller).await {
        Ok(reloaded) => Ok(Json(json!({
            "apiVersion": "portcullis/v1",
            "kind": "Reload",
            "source": source,
            "result": if reloaded.changed.is_empty() { "unchanged" } else { "applied" },
            "digest": reloaded.digest,
            "changed": reloaded.changed,
            "warnings": reloaded.warnings.iter().map(Message::to_json).collect::<Vec<_>>(),
        }))),
        Err(faults) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not reloaded")
            .code("PC0120")
            .detail(format!("the configuration in force stays; `{source}` was refused"))
            .next("portcullis status")
            .errors(faults.iter().map(Message::to_json))),
    }
}

/// What is in force, what is on disk, and how the last reload ended.
pub(super) async fn standing(api: &Api) -> Value {
    let in_force = api.configuration.in_force();
    let on_disk = api.configuration.on_disk().await;
    let last = api.configuration.last().map(|last| {
        json!({
            "time": last.at.wall.to_string(),
            "result": last.result,
            "errors": last.faults.iter().map(Message::to_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "source": in_force.source.display().to_string(),
        "in_force": in_force.digest(),
        "on_disk": on_disk.digest,
        "errors": on_disk.faults.iter().map(Message::to_json).collect::<Vec<_>>(),
        "waits_for_reload": on_disk.changes.live,
        "waits_for_restart": on_disk.changes.restart,
        "last_reload": last,
    })
}
