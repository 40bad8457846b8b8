//! What operators have the data plane do: `:drain`, `:setLogLevel`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use policies_engine::Principal;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::policies::record;
use super::super::problem::Problem;
use super::Api;
use crate::assemble::log_level::LASTS;

/// Ends the process as SIGTERM does: unready at once, running calls have their time, then it exits.
#[utoipa::path(post, path = "/v1/proxy:drain", responses((status = 202, description = "it drains"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn drain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
) -> (StatusCode, Json<Value>) {
    let open = api.process.served().map_or(0, |proxy| proxy.open());
    record(&api, "proxy.drain", &caller, &[("connections", open.to_string())]);
    api.process.end();
    (
        StatusCode::ACCEPTED,
        Json(json!({ "apiVersion": "portcullis/v1", "kind": "Drain", "connections": open })),
    )
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Level {
    /// A level, or a filter as in `RUST_LOG`; empty = the configured one again.
    level: String,
}

/// Another log level, for 15 minutes.
#[utoipa::path(post, path = "/v1/proxy:setLogLevel", request_body = Level, responses((status = 200, description = "in force, and until when"), (status = 400, description = "no level"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn set_log_level(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    Json(Level { level }): Json<Level>,
) -> Result<Json<Value>, Problem> {
    let Some(log) = &api.process.log else {
        return Err(Problem::new(StatusCode::CONFLICT, "the log of this process is not its own"));
    };
    log.set(&level).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "no such log level")
            .detail(error.to_string())
            .hint("error, warn, info, debug, trace, or a filter as in RUST_LOG")
    })?;
    record(&api, "proxy.log_level", &caller, &[("level", level.clone())]);
    let until = (!level.is_empty()).then(|| (api.clock.now().wall + LASTS).to_string());
    Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "LogLevel", "level": level, "until": until })))
}
