//! What the configuration in force declares, beside what became of it: listeners, routes in order, clusters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use enforcer_proxy::EndpointReport;
use enforcer_traffic::fleet::Health;
use enforcer_traffic::{ClusterSpec, MatchSpec, PathSpec, ReplySpec, RouteSpec, TlsSettings};
use serde_json::{Value, json};

use super::Api;
use crate::config::{Config, Enforcer, Listener};

/// Every listener: where it listens, whom it asks for what, whether it carries denials out, who is connected.
#[utoipa::path(get, path = "/v1/proxy/listeners", responses((status = 200, description = "listeners in force")))]
pub(in crate::admin) async fn listeners(State(api): State<Arc<Api>>) -> Json<Value> {
    let proxy = api.process.served();
    let urls = proxy.as_ref().map(|proxy| proxy.urls()).unwrap_or_default();
    let open = proxy.map(|proxy| proxy.connections(None)).unwrap_or_default();
    let document = |enforcer: &Enforcer, listener: &Listener| {
        let addresses = urls.iter().filter(|(name, _)| *name == listener.name).map(|(_, url)| url);
        json!({
            "name": listener.name,
            "addresses": addresses.collect::<Vec<_>>(),
            "client_auth": listener.client_auth,
            "hosts": listener.hosts,
            "sidecar": listener.is_sidecar,
            "mode": mode(listener.observe.unwrap_or(enforcer.observe)),
            "connections": open.iter().filter(|report| *report.listener == *listener.name).count(),
        })
    };
    list(&api, "ListenerList", |enforcer| {
        enforcer.listeners.iter().map(|listener| document(enforcer, listener)).collect()
    })
}

/// Every route, in the order of the configuration: what it takes and where that goes.
#[utoipa::path(get, path = "/v1/proxy/routes", responses((status = 200, description = "routes in force")))]
pub(in crate::admin) async fn routes(State(api): State<Arc<Api>>) -> Json<Value> {
    list(&api, "RouteList", |enforcer| enforcer.routes.iter().map(route).collect())
}

/// Every cluster: what of it takes calls, as all workers know it together.
#[utoipa::path(get, path = "/v1/proxy/clusters", responses((status = 200, description = "clusters in force")))]
pub(in crate::admin) async fn clusters(State(api): State<Arc<Api>>) -> Json<Value> {
    let reports = api.process.served().map(|proxy| proxy.endpoints()).unwrap_or_default();
    list(&api, "ClusterList", |enforcer| {
        enforcer.clusters.iter().map(|spec| cluster(spec, &reports)).collect()
    })
}

fn list(api: &Api, kind: &str, items: impl FnOnce(&Enforcer) -> Vec<Value>) -> Json<Value> {
    let in_force: Arc<Config> = api.configuration.in_force();
    let items = in_force.enforcer.as_ref().map(items).unwrap_or_default();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": kind, "items": items }))
}

fn mode(observes: bool) -> &'static str {
    if observes { "observe" } else { "enforce" }
}

fn route(route: &RouteSpec) -> Value {
    let to: Vec<_> = route
        .to
        .iter()
        .map(|share| {
            let subset = Some(&share.subset).filter(|subset| !subset.is_empty()).map(ToString::to_string);
            json!({ "cluster": share.cluster, "weight": share.weight, "subset": subset })
        })
        .collect();
    json!({
        "name": route.name,
        "service": route.service,
        "listener": route.listener,
        "takes": taken(&route.matches, &route.passes),
        "goes": goes(route),
        "to": to,
        // Only where the route itself says so.
        "mode": route.observe.map(mode),
    })
}

/// In one line, what calls a route takes.
fn taken(matches: &MatchSpec, passes: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !passes.is_empty() {
        parts.push(format!("tls of {}", passes.join(", ")));
    }
    if !matches.methods.is_empty() {
        parts.push(matches.methods.join("|"));
    }
    if !matches.hosts.is_empty() {
        parts.push(matches.hosts.join(", "));
    }
    match &matches.path {
        PathSpec::Any => {}
        PathSpec::Exact(path) | PathSpec::Template(path) => parts.push(path.clone()),
        PathSpec::Prefix(path) => parts.push(format!("{}/...", path.trim_end_matches('/'))),
        PathSpec::Regex { pattern, .. } => parts.push(format!("~ {pattern}")),
    }
    if let Some(grpc) = &matches.grpc {
        parts.push(format!("grpc {}/{}", grpc.service, grpc.method.as_deref().unwrap_or("...")));
    }
    let values =
        [&matches.headers, &matches.query, &matches.cookies].into_iter().map(Vec::len).sum::<usize>();
    let callers = [matches.identities.len(), matches.sources.len(), matches.sni.len(), matches.ports.len()];
    let others = values + callers.iter().filter(|count| **count > 0).count();
    if others > 0 {
        parts.push(format!("with {others} more condition{}", if others == 1 { "" } else { "s" }));
    }
    if parts.is_empty() { "everything".to_owned() } else { parts.join(" ") }
}

/// In one line, where its calls go.
fn goes(route: &RouteSpec) -> String {
    match &route.handling.reply {
        Some(ReplySpec::Direct { status, .. }) => return format!("answered with {status}"),
        Some(ReplySpec::Redirect { status, .. }) => return format!("redirected with {status}"),
        None => {}
    }
    if !route.connect.is_empty() {
        return format!("tunnels to {}", route.connect.join(", "));
    }
    let whole: u64 = route.to.iter().map(|share| u64::from(share.weight)).sum();
    let share = |share: &enforcer_traffic::Share| {
        if route.to.len() == 1 {
            share.cluster.clone()
        } else {
            format!("{} {}/{whole}", share.cluster, share.weight)
        }
    };
    route.to.iter().map(share).collect::<Vec<_>>().join(", ")
}

fn cluster(spec: &ClusterSpec, reports: &[EndpointReport]) -> Value {
    let known: Vec<_> = reports.iter().filter(|report| *report.cluster == *spec.name).collect();
    let count = |is_such: fn(&EndpointReport) -> bool| known.iter().filter(|report| is_such(report)).count();
    let in_flight: u64 = known.iter().map(|report| u64::from(report.in_flight)).sum();
    let expects = spec.tls.as_ref().map(TlsSettings::expected);
    json!({
        "name": spec.name,
        "balancer": spec.balancer.as_str(),
        "declared": spec.places().collect::<Vec<_>>(),
        // None of an endpoint is known before the first call or check.
        "endpoints": known.len(),
        "in_use": count(|report| report.is_open && report.health != Health::Ill),
        "shut_out": count(|report| !report.is_open),
        "ill": count(|report| report.health == Health::Ill),
        "in_flight": in_flight,
        "expects": expects,
    })
}

#[cfg(test)]
mod tests {
    use enforcer_traffic::GrpcMatch;

    use super::*;

    #[test]
    fn ae_01_what_a_route_takes_is_one_line() {
        let line = |matches: MatchSpec| taken(&matches, &[]);
        assert_eq!(line(MatchSpec::default()), "everything");
        let path = PathSpec::Prefix("/shop/".to_owned());
        let hosts = vec!["a.example".to_owned(), "*.b.example".to_owned()];
        let methods = vec!["GET".to_owned(), "HEAD".to_owned()];
        let ports = vec![1, 2];
        let of = MatchSpec { hosts, methods, path, ports, ..MatchSpec::default() };
        assert_eq!(line(of), "GET|HEAD a.example, *.b.example /shop/... with 1 more condition");
        let grpc = Some(GrpcMatch { service: "shop.Orders".to_owned(), method: None });
        assert_eq!(line(MatchSpec { grpc, ..MatchSpec::default() }), "grpc shop.Orders/...");
        assert_eq!(taken(&MatchSpec::default(), &["*.db.example".to_owned()]), "tls of *.db.example");
    }
}
