//! Who is connected, and with which certificates this process is known. Never a key.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use enforcer_proxy::ConnectionReport;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::problem::Problem;
use super::Api;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Options {
    /// Those of one principal alone, by its SPIFFE ID.
    principal: Option<String>,
}

/// Open connections of known callers, with the number of their calls that run now; oldest first.
#[utoipa::path(get, path = "/v1/proxy/streams", params(("principal" = Option<String>, Query, description = "SPIFFE ID of a caller")), responses((status = 200, description = "open connections"), (status = 400, description = "no such parameter")))]
pub(in crate::admin) async fn streams(
    State(api): State<Arc<Api>>,
    options: Result<Query<Options>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(options) = options.map_err(|refused| {
        Problem::new(StatusCode::BAD_REQUEST, "no such question").detail(refused.body_text())
    })?;
    let proxy = api.process.served();
    let reports = proxy.map(|proxy| proxy.connections(options.principal.as_deref())).unwrap_or_default();
    let items: Vec<_> = reports.iter().map(connection).collect();
    Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "StreamList", "items": items })))
}

fn connection(report: &ConnectionReport) -> Value {
    json!({
        "principal": report.principal,
        "listener": &*report.listener,
        "protocol": report.protocol.as_str(),
        "source": report.source.to_string(),
        "calls": report.calls,
        "held_bytes": report.held,
        "age_seconds": report.age.as_secs(),
        "idle_seconds": report.idle.map(|idle| idle.as_secs()),
        "ends_in_seconds": report.ends_in.as_secs(),
    })
}

/// The own SVID, the certificates that listeners show beside it, and the roots that callers are verified by.
#[utoipa::path(get, path = "/v1/proxy/certificates", responses((status = 200, description = "certificates, without keys")))]
pub(in crate::admin) async fn certificates(State(api): State<Arc<Api>>) -> Json<Value> {
    let snapshot = api.status.trust.as_ref().map(|trust| trust.snapshot());
    let own = snapshot.iter().filter_map(|snapshot| snapshot.own.as_ref()).map(|own| {
        json!({
            "kind": "svid", "name": own.id.as_str(), "serial": own.serial.to_string(), "key_id": own.key_id.to_string(),
            "not_before": own.not_before.to_string(), "not_after": own.not_after.to_string(),
        })
    });
    let shown = api.process.served().map(|proxy| proxy.certificates()).unwrap_or_default();
    let shown = shown.iter().map(|(listener, shown)| {
        json!({
            "kind": "listener", "name": shown.names().join(", "), "listener": &**listener,
            "not_after": shown.not_after().to_string(),
        })
    });
    let bundles = snapshot.iter().flat_map(|snapshot| snapshot.bundles.iter());
    let roots = bundles.flat_map(|bundle| {
        bundle.anchors().iter().map(|anchor| {
            json!({
                "kind": "root", "name": bundle.trust_domain.as_str(), "key_id": anchor.key_id().to_string(),
                "not_before": anchor.not_before().to_string(), "not_after": anchor.not_after().to_string(),
            })
        })
    });
    let items: Vec<_> = own.chain(shown).chain(roots).collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "CertificateList", "items": items }))
}
