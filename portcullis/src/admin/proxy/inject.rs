//! Faults that operators put into calls for a while: `:injectFault`, `:endFaults`, and which there are (RT-06). Each is on
//! record with who wanted it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use base_ports::Now;
use enforcer_proxy::{Injection, Proxy};
use policies_engine::Principal;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::policies::record;
use super::super::problem::Problem;
use super::Api;
use crate::messages::nearest;

/// How long a fault lasts where nothing is said, and at most.
const LASTS: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(24 * 3_600));
/// Longest wait of a call.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Wanted {
    /// Name of the route.
    route: String,
    /// Percent of its calls, over 0 to 100; all where nothing is said.
    percent: Option<f64>,
    /// They wait so long, `2s`; at most five minutes.
    delay: Option<String>,
    /// They are answered with this status, 400 to 599, and reach no endpoint.
    abort: Option<u16>,
    /// It ends after so long, `10m` where nothing is said, at most `24h`.
    lasts: Option<String>,
}

/// Has calls of a route wait or fail for a while. Another fault of that route ends.
#[utoipa::path(post, path = "/v1/proxy:injectFault", request_body = Wanted, responses((status = 200, description = "in force, and until when"), (status = 400, description = "no such fault"), (status = 403, description = "not permitted"), (status = 404, description = "no such route")))]
pub(in crate::admin) async fn inject_fault(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Value>, Problem> {
    let proxy = proxy(&api)?;
    let now = api.clock.now();
    let injection = meant(&api, &wanted, now)?;
    let details = [
        ("route", injection.route.to_string()),
        ("percent", (injection.share * 100.0).to_string()),
        ("delay", wanted.delay.unwrap_or_default()),
        ("abort", wanted.abort.map(|status| status.to_string()).unwrap_or_default()),
        ("until", (now.wall + injection.until.saturating_since(now.mono)).to_string()),
    ];
    record(&api, "proxy.inject_fault", &caller, &details);
    tracing::warn!(event = "faults_begin", route = %injection.route, "calls of a route fail or wait, because an operator wants it so");
    let document = document(&injection, now);
    proxy.inject(injection);
    Ok(Json(document))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Ended {
    /// Name of a route; that of every route where nothing is said.
    route: Option<String>,
}

/// Ends the fault of a route, or all.
#[utoipa::path(post, path = "/v1/proxy:endFaults", request_body = Ended, responses((status = 200, description = "how many ended"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn end_faults(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    Json(Ended { route }): Json<Ended>,
) -> Result<Json<Value>, Problem> {
    let ended = proxy(&api)?.end_injections(route.as_deref());
    let details = [("route", route.unwrap_or_default()), ("ended", ended.to_string())];
    record(&api, "proxy.end_faults", &caller, &details);
    Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "FaultsEnded", "ended": ended })))
}

/// The faults in force.
#[utoipa::path(get, path = "/v1/proxy/faults", responses((status = 200, description = "faults in force")))]
pub(in crate::admin) async fn faults(State(api): State<Arc<Api>>) -> Json<Value> {
    let (running, now) =
        (api.process.served().map(|proxy| proxy.injections()).unwrap_or_default(), api.clock.now());
    let items: Vec<_> = running.iter().map(|injection| document(injection, now)).collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "FaultList", "items": items }))
}

fn proxy(api: &Api) -> Result<Arc<Proxy>, Problem> {
    api.process.served().ok_or_else(|| Problem::new(StatusCode::CONFLICT, "this process has no data plane"))
}

fn meant(api: &Api, wanted: &Wanted, now: Now) -> Result<Injection, Problem> {
    let in_force = api.configuration.in_force();
    let routes =
        in_force.enforcer.iter().flat_map(|enforcer| &enforcer.routes).map(|route| route.name.as_str());
    if !routes.clone().any(|name| name == wanted.route) {
        let near = nearest(&wanted.route, routes).map(|near| format!("; did you mean `{near}`?"));
        let detail = format!("`{}`{}", wanted.route, near.unwrap_or_default());
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such route").detail(detail));
    }
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "no such fault").detail(detail.to_owned());
    let time = |text: &Option<String>, name: &str, most: Duration| match text {
        None => Ok(None),
        Some(text) => match crate::config::duration(text) {
            Ok(time) if time <= most && !time.is_zero() => Ok(Some(time)),
            Ok(_) => Err(bad(&format!("`{name}` is over 0 and at most {} s", most.as_secs()))),
            Err(error) => Err(bad(&format!("`{name}`: {error}"))),
        },
    };
    let percent = wanted.percent.unwrap_or(100.0);
    if !(percent > 0.0 && percent <= 100.0) {
        return Err(bad("`percent` is over 0 and at most 100"));
    }
    if wanted.abort.is_some_and(|status| !(400..600).contains(&status)) {
        return Err(bad("`abort` is a status from 400 to 599"));
    }
    let delay = time(&wanted.delay, "delay", LONGEST)?;
    if delay.is_none() && wanted.abort.is_none() {
        return Err(bad("`delay`, `abort` or both say what befalls the calls"));
    }
    let lasts = time(&wanted.lasts, "lasts", LASTS.1)?.unwrap_or(LASTS.0);
    let route = wanted.route.as_str().into();
    Ok(Injection { route, share: percent / 100.0, delay, abort: wanted.abort, until: now.mono + lasts })
}

fn document(injection: &Injection, now: Now) -> Value {
    json!({
        "apiVersion": "portcullis/v1",
        "kind": "Fault",
        "route": &*injection.route,
        "percent": injection.share * 100.0,
        "delay": injection.delay.map(crate::config::print_duration),
        "abort": injection.abort,
        "until": (now.wall + injection.until.saturating_since(now.mono)).to_string(),
    })
}
