//! `/v1/proxy`: the data plane as it runs: what is declared, endpoints as its workers know them, who is connected,
//! certificates, and what operators have it do (AE-01).

mod declared;
mod inject;
mod operate;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use enforcer_proxy::EndpointReport;
use enforcer_traffic::UpstreamProtocol;
use enforcer_traffic::fleet::Health;
use serde_json::{Value, json};

use super::Api;
pub(super) use declared::{__path_clusters, __path_listeners, __path_routes, clusters, listeners, routes};
pub(super) use inject::{
    __path_end_faults, __path_faults, __path_inject_fault, end_faults, faults, inject_fault,
};
pub(super) use operate::{__path_drain, __path_set_log_level, drain, set_log_level};
pub(super) use shown::{__path_certificates, __path_streams, certificates, streams};

/// Every endpoint: whether it takes calls, what its checks found, how many calls are there.
#[utoipa::path(get, path = "/v1/proxy/endpoints", responses((status = 200, description = "endpoints of the clusters in use")))]
pub(super) async fn endpoints(State(api): State<Arc<Api>>) -> Json<Value> {
    let reports = api.process.served().map(|proxy| proxy.endpoints()).unwrap_or_default();
    let items: Vec<_> = reports.iter().map(document).collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "EndpointList", "items": items }))
}

fn document(report: &EndpointReport) -> Value {
    let protocol = match report.protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::Http2 => "h2",
        UpstreamProtocol::Http3 => "h3",
        UpstreamProtocol::Tcp => "tcp",
    };
    let health = match report.health {
        Health::Well => "well",
        Health::Ill => "ill",
        Health::Untried => "untried",
    };
    json!({
        "cluster": &*report.cluster,
        "address": report.address.to_string(),
        "protocol": protocol,
        "weight": report.weight,
        "priority": report.priority,
        "zone": report.zone.as_deref(),
        "state": if report.is_open { "in use" } else { "shut out" },
        "health": health,
        "in_flight": report.in_flight,
    })
}
