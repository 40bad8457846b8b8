//! `GET /v1/status`: what runs, with versions and expiries, from the same values the process works with.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ca_identity::tls::Trust;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Api;

/// What only the assembly knows.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) mode: &'static str,
    /// Digest of the configuration that runs.
    pub(crate) config: String,
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) listeners: Arc<Mutex<Vec<(String, SocketAddr)>>>,
    pub(crate) workload_socket: Option<String>,
}

/// What runs.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, description = "status")))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let facts = &api.status;
    let own = facts.trust.as_ref().and_then(|trust| trust.snapshot().own.clone());
    let conditions: Vec<_> = api
        .health
        .report()
        .into_iter()
        .map(|(name, ok, detail)| json!({ "name": name, "ok": ok, "detail": detail }))
        .collect();
    let listeners: Vec<_> = facts
        .listeners
        .lock()
        .iter()
        .map(|(name, addr)| json!({ "name": name, "address": format!("tcp://{addr}") }))
        .collect();
    let policies = api.store.as_ref().map(|store| {
        let status = store.status();
        json!({
            "version": status.numbers.map(|numbers| numbers.policies),
            "snapshot": status.numbers.map(|numbers| numbers.snapshot),
            "diagnostics": status.diagnostics.iter().map(|found| crate::messages::Message::from(found).to_json()).collect::<Vec<_>>(),
        })
    });
    Json(json!({
        "apiVersion": "portcullis/v1",
        "kind": "Status",
        "version": env!("CARGO_PKG_VERSION"),
        "trust_domain": api.trust_domain.as_str(),
        "ready": api.health.is_ready(),
        "mode": facts.mode,
        "config": facts.config,
        "conditions": conditions,
        "listeners": listeners,
        "workload_api": facts.workload_socket,
        "identity": own.map(|own| json!({ "id": own.id.as_str(), "serial": own.serial.to_string(), "not_after": own.not_after.to_string() })),
        "policies": policies,
    }))
}
