//! Liveness, readiness, metrics, version. Never logged above debug, never judged, never limited.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Api;

/// The process answers.
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "the process answers")))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Identity held, policy loaded, listeners bound, ledger writable: one line each.
#[utoipa::path(get, path = "/readyz", responses((status = 200, description = "ready"), (status = 503, description = "not ready; the body names the blocker")))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let mut text = String::new();
    for (name, ok, detail) in api.health.report() {
        let tick = if ok { "ok" } else { "not ready" };
        text.push_str(format!("{name}: {tick} {detail}").trim_end());
        text.push('\n');
    }
    let status = if api.health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

/// Prometheus text or OpenMetrics, as the scraper accepts.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "metrics")))]
pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, text) = api.metrics.render(accept);
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// What this binary is.
#[utoipa::path(get, path = "/version", responses((status = 200, description = "version")))]
pub(super) async fn version() -> Json<Value> {
    Json(
        json!({ "apiVersion": "portcullis/v1", "kind": "Version", "version": env!("CARGO_PKG_VERSION"), "cedar": "4.14.1" }),
    )
}
