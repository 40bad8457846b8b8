//! The API of the running process: health and metrics for anyone on loopback, everything else for whom Cedar allows.
//!
//! `router` is for callers who are known (local socket, SVID); `public` is for loopback without credentials. Every
//! call of `router` below `/v1` passes `authorize`, is recorded, and only then reaches its handler.

mod authorities;
mod bundle;
mod config;
mod decisions;
mod docs;
mod entries;
mod grant;
mod grpc;
mod health;
mod policies;
mod problem;
mod proxy;
mod reading;
mod repeat;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base_ports::Clock;
use base_telemetry::{Health, Metrics};
use ca_authority::Authority;
use ca_authority::service::{self, Caller};
use ca_identity::TrustDomain;
use http_body_util::BodyExt;
use policies_adapters::{authzen, ext_authz};
use policies_decisions::Ledger;
use policies_engine::{AdminAction, OwnedFacts, Phase, Principal, Resource, Role};
use policies_store::{Follower, PolicyStore};

use crate::assemble::configuration::Configuration;
use crate::assemble::judge::{Judge, Question};
use crate::assemble::{Process, Shipping};
use crate::config::LocalUser;
pub(crate) use decisions::append::Ingests;
#[cfg(test)]
pub(crate) use docs::document;
use grant::Deferred;
use problem::Problem;
pub(crate) use repeat::Repeats;
pub(crate) use status::Facts as StatusFacts;

/// How much of a refused call's body is still taken, and for how long.
const REST_BYTES: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

/// What the handlers answer from.
pub(crate) struct Api {
    pub(crate) trust_domain: TrustDomain,
    /// Owner of the data directory: an operator on the local socket, like uid 0 (SETTLED S15).
    pub(crate) owner: u32,
    /// Other local users, and what they may do.
    pub(crate) users: Vec<LocalUser>,
    /// Somebody besides root and the owner may approve (ST10).
    pub(crate) two_person: bool,
    pub(crate) judge: Arc<Judge>,
    pub(crate) ledger: Ledger,
    /// What reads of the ledger must say and may cost.
    pub(crate) reads: policies_decisions::Options,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) store: Option<Arc<PolicyStore>>,
    /// Calls that carry an `Idempotency-Key`.
    pub(crate) repeats: Arc<Repeats>,
    /// In place of a store: whose policies are in force here.
    pub(crate) follower: Option<Arc<Follower>>,
    /// What enforcers of other hosts have sent.
    pub(crate) ingests: Ingests,
    /// How far the own records have come at the authority that this process joined.
    pub(crate) shipping: Option<Arc<Shipping>>,
    /// Judges for enforcers that are not ours, when they may ask.
    pub(crate) outside: Option<Arc<dyn policies_adapters::Judge>>,
    pub(crate) ext_authz: Option<ext_authz::Options>,
    pub(crate) authzen: Option<authzen::Options>,
    pub(crate) health: Health,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) status: status::Facts,
    pub(crate) process: Process,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Everything, for callers who are known.
pub(crate) fn router(api: &Arc<Api>) -> Router {
    v1(api, Router::new()).merge(open(api))
}

/// What other hosts reach: nothing that is not asked of Cedar, so no metrics and no docs for strangers.
pub(crate) fn remote(api: &Arc<Api>) -> Router {
    v1(api, grpc::router(api))
}

/// The API, and `more` that is judged with it.
fn v1(api: &Arc<Api>, more: Router) -> Router {
    let mut v1 = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/proxy/listeners", get(proxy::listeners))
        .route("/v1/proxy/routes", get(proxy::routes))
        .route("/v1/proxy/clusters", get(proxy::clusters))
        .route("/v1/proxy/endpoints", get(proxy::endpoints))
        .route("/v1/proxy/streams", get(proxy::streams))
        .route("/v1/proxy/certificates", get(proxy::certificates))
        .route("/v1/proxy/faults", get(proxy::faults))
        .route("/v1/proxy:injectFault", post(proxy::inject_fault))
        .route("/v1/proxy:endFaults", post(proxy::end_faults))
        .route("/v1/proxy:drain", post(proxy::drain))
        .route("/v1/proxy:setLogLevel", post(proxy::set_log_level))
        .route("/v1/config:reload", post(config::reload))
        .merge(policies::router().layer(middleware::from_fn_with_state(Arc::clone(api), repeat::once)))
        .route("/v1/decisions/{id}/explain", get(decisions::explain))
        .route("/v1/decisions/{id}/case", get(decisions::case::case))
        .route("/v1/decisions/{id}/suggest", get(decisions::suggested::suggest))
        .route(
            "/v1/decisions:verify",
            post(decisions::recompute::verify).layer(DefaultBodyLimit::max(decisions::recompute::BODY_BYTES)),
        )
        .route(
            "/v1/decisions:append",
            post(decisions::append::append).layer(DefaultBodyLimit::max(decisions::append::BODY_BYTES)),
        )
        .with_state(Arc::clone(api))
        .merge(policies_decisions::router(api.ledger.clone(), api.reads))
        .merge(policies_decisions::log_router(api.ledger.clone()))
        .merge(more);
    if let Some(store) = &api.store {
        v1 = v1.merge(policies::followers::router(api, store.feed()));
    }
    if let Some((judge, options)) = api.outside.as_ref().zip(api.ext_authz) {
        v1 = v1.route_service(ext_authz::PATH, ext_authz::routes(Arc::clone(judge), options));
    }
    if let Some((judge, options)) = api.outside.as_ref().zip(api.authzen.clone()) {
        v1 = v1.merge(authzen::router(Arc::clone(judge), options));
    }
    if let Some(authority) = &api.authority {
        v1 = v1
            .merge(
                Router::new()
                    .route("/v1/authorities", get(authorities::list))
                    .route("/v1/bundle", get(bundle::show))
                    .route("/v1/entries:explain", get(entries::explain))
                    .route("/v1/agents:token", post(authorities::token))
                    .with_state(Arc::clone(api)),
            )
            .merge(service::entries(Arc::clone(authority)))
            .merge(service::agents(Arc::clone(authority)))
            .merge(service::revocations(Arc::clone(authority)))
            .merge(service::crls(Arc::clone(authority)))
            .merge(service::mint(Arc::clone(authority)))
            .merge(service::keys(Arc::clone(authority)))
            .merge(service::federations(Arc::clone(authority)))
            .merge(
                service::enrolment(Arc::clone(authority))
                    .layer(axum::Extension(policies::followers::keys(api))),
            );
    }
    let v1 = v1
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(api), authorize));
    // Each method of these is a call of the routes above, and is judged there.
    let verbs = policies::grpc::router(&v1);
    v1.merge(verbs)
}

/// Health, metrics and docs, for anyone on loopback.
pub(crate) fn public(api: &Arc<Api>) -> Router {
    open(api).fallback(unauthenticated).layer(middleware::from_fn(expected_host))
}

fn open(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/version", get(health::version))
        .with_state(Arc::clone(api))
        .merge(grpc::router(api))
        .merge(docs::router())
}

/// Decides by Cedar whether the caller may make this call, and puts the decision on record.
async fn authorize(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
    // What no row names is refused even if a handler exists: a new path is closed until it is put in the table.
    let Some((action, mut resource)) = asked(&api, &caller, request.method(), request.uri().path()) else {
        return missing(request).await;
    };
    let principal = principal(&api, &caller);
    use AdminAction::{DecisionsExport, DecisionsRead, DecisionsReveal};
    if matches!(action, DecisionsRead | DecisionsExport | DecisionsReveal) {
        resource = reading::admit(&api, &caller, &principal, action, &mut request);
    }
    if is_asked(request.uri().path()) {
        request.extensions_mut().insert(ext_authz::Asker(caller_name(&caller)));
    }
    // Handlers put who did what on record.
    request.extensions_mut().insert(principal.clone());
    if grant::needs_change(action) {
        let deferred = Deferred::new(&api, caller, principal, action, resource);
        request.extensions_mut().insert(deferred.clone());
        let response = next.run(request).await;
        return if response.status().is_success() && !deferred.was_asked() {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the call was not judged")
                .code("PC9001")
                .into_response()
        } else {
            response
        };
    }
    let verdict = api.judge.decide(&Question {
        principal,
        action,
        resource,
        context: None,
        phase: Phase::Admin,
        facts: Some(facts(&caller)),
    });
    match grant::settle(verdict, &caller, action).await {
        Ok(_) => next.run(request).await,
        Err(refusal) => {
            take_rest(request.into_body()).await;
            refusal
        }
    }
}

/// Takes what is left of a small body, and drops it. A client that is refused while it still sends gets a reset stream
/// beside the answer, and some (curl 7) then tell of the reset only.
async fn take_rest(mut body: Body) {
    let rest = async {
        let mut left = REST_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(less) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = less;
        }
    };
    if tokio::time::timeout(REST_TIME, rest).await.is_err() {
        tracing::debug!(event = "slow_body", "a refused caller did not finish its body");
    }
}

/// Who is asking, for Cedar.
fn principal(api: &Api, caller: &Caller) -> Principal {
    match caller {
        Caller::Local { uid } => {
            let mut roles: Vec<_> = api
                .users
                .iter()
                .filter(|user| user.uid == *uid)
                .flat_map(|user| user.roles.clone())
                .collect();
            if *uid == 0 || *uid == api.owner {
                roles.extend([Role::Operator, Role::Auditor, Role::Author, Role::Viewer]);
            }
            Principal::local_user(*uid, None, &roles)
        }
        Caller::Svid(id) if policies::followers::is_agent(api, caller) => Principal::agent(id.as_str()),
        Caller::Svid(id) => Principal::workload(id.as_str()),
        Caller::Anonymous => Principal::anonymous(),
    }
}

fn caller_name(caller: &Caller) -> String {
    match caller {
        Caller::Local { uid } => format!("local user {uid}"),
        Caller::Svid(id) => id.to_string(),
        Caller::Anonymous => "an unauthenticated caller".to_owned(),
    }
}

fn facts(caller: &Caller) -> OwnedFacts {
    let listener = match caller {
        Caller::Local { .. } => "admin.sock",
        Caller::Svid(_) | Caller::Anonymous => "ca",
    };
    OwnedFacts::local(listener)
}

/// What a call asks for: the table of rights. `None` for every other path, which answers 404 to everybody.
fn asked(api: &Api, caller: &Caller, method: &Method, path: &str) -> Option<(AdminAction, Resource)> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let domain = || Resource::trust_domain(api.trust_domain.as_str());
    let enforcer = || {
        let in_force = api.configuration.in_force();
        in_force.enforcer.as_ref().map(|enforcer| Resource::enforcer(enforcer.id.as_str()))
    };
    if path.starts_with(policies::FEED_PATHS) {
        // Agents follow the policies of their authority as they follow everything else of it.
        if policies::followers::is_agent(api, caller) {
            return Some((AdminAction::AgentSync, Resource::system()));
        }
        return Some((AdminAction::PolicyRead, Resource::policy_scope("/")));
    }
    if grpc::PATHS.iter().any(|prefix| path.starts_with(prefix)) {
        return Some((AdminAction::Probe, Resource::system()));
    }
    if is_asked(path) {
        return Some((AdminAction::Decide, Resource::system()));
    }
    if path == authzen::METADATA || path.starts_with("/.well-known/authzen-configuration/") {
        return api.authzen.as_ref().map(|_| (AdminAction::Probe, Resource::system()));
    }
    let noun = path.strip_prefix("/v1/")?;
    let noun = noun.split(['/', ':']).next().unwrap_or(noun);
    Some(match noun {
        "status" => (AdminAction::SystemRead, Resource::system()),
        // Who calls from where is for fewer eyes than how the process is.
        "proxy" if path == "/v1/proxy/streams" => (AdminAction::EnforcerRead, enforcer()?),
        "proxy" if reads => (AdminAction::SystemRead, Resource::system()),
        "proxy" => (AdminAction::EnforcerOperate, enforcer()?),
        "config" => (AdminAction::ConfigWrite, Resource::system()),
        "authorities" if reads => (AdminAction::CaRead, Resource::system()),
        "authorities" if matches!(path, "/v1/authorities:taint" | "/v1/authorities:revoke") => {
            (AdminAction::CaRevoke, Resource::system())
        }
        "authorities" => (AdminAction::CaRotate, Resource::system()),
        // Who verifies needs the one as the other.
        "bundle" | "crls" => (AdminAction::BundleRead, Resource::system()),
        "agents" if path == "/v1/agents:attest" => (AdminAction::AgentAttest, Resource::system()),
        "agents" if OF_AGENTS.contains(&path) => (AdminAction::AgentSync, Resource::system()),
        "agents" if reads => (AdminAction::CaRead, Resource::system()),
        "agents" => (AdminAction::AgentManage, Resource::system()),
        "svids" if path == "/v1/svids" => (AdminAction::CaRead, Resource::system()),
        "svids" if path == "/v1/svids:mint" => (AdminAction::SvidMint, domain()),
        "svids" => (AdminAction::AgentSync, Resource::system()),
        "revocations" if reads => (AdminAction::CaRead, Resource::system()),
        "revocations" => (AdminAction::SvidRevoke, domain()),
        "federations" if reads => (AdminAction::CaRead, Resource::system()),
        "federations" => (AdminAction::FederationWrite, Resource::system()),
        "entries" if reads => (AdminAction::EntryRead, domain()),
        "entries" => (AdminAction::EntryWrite, domain()),
        "decisions" if path == "/v1/decisions:export" => (AdminAction::DecisionsExport, domain()),
        "decisions" if path == "/v1/decisions:append" => (AdminAction::DecisionsAppend, domain()),
        "decisions" if path == "/v1/decisions:verify" => (AdminAction::DecisionsVerify, domain()),
        "decisions" if path == "/v1/decisions:hold" => (AdminAction::DecisionsHold, domain()),
        "decisions" if path == "/v1/decisions:reveal" => (AdminAction::DecisionsReveal, domain()),
        "decisions" if path == "/v1/decisions:erase" => (AdminAction::DecisionsErase, domain()),
        "decisions" if path == "/v1/decisions:release" => (AdminAction::DecisionsRelease, domain()),
        "decisions" => (AdminAction::DecisionsRead, domain()),
        // Bundles hold the records of everybody; hashes tell nothing of them (RR3).
        "log" if path.starts_with("/v1/log/tile/entries/") => (AdminAction::DecisionsVerify, domain()),
        "log" if reads => (AdminAction::SystemRead, Resource::system()),
        "log" if path == "/v1/log/keys:rotate" => (AdminAction::ConfigWrite, Resource::system()),
        "policies" => return policies::rights::asked(method, path),
        _ => return None,
    })
}

/// What agents ask with their own SVID.
const OF_AGENTS: [&str; 3] = ["/v1/agents:sync", "/v1/agents:renew", "/v1/agents:acknowledge"];

/// Whether enforcers that are not ours put their questions there.
fn is_asked(path: &str) -> bool {
    path == ext_authz::PATH || authzen::PATHS.contains(&path)
}

async fn missing(request: Request) -> Response {
    let path = request.uri().path().to_owned();
    take_rest(request.into_body()).await;
    Problem::new(StatusCode::NOT_FOUND, "no such path").detail(path).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    take_rest(request.into_body()).await;
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed").detail(asked).into_response()
}

async fn unauthenticated() -> Response {
    Problem::new(StatusCode::UNAUTHORIZED, "authentication required")
        .detail("this listener serves health, metrics and docs only; the API is on the local socket, and on [ca] listen for SVIDs")
        .into_response()
}

/// Refuses requests that a browser was tricked into sending (AD2): only loopback names are ours.
async fn expected_host(request: Request<Body>, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let name = host.map(|host| {
        host.rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name)
    });
    match name {
        Some("localhost" | "127.0.0.1" | "[::1]") => next.run(request).await,
        _ => Problem::new(StatusCode::MISDIRECTED_REQUEST, "unexpected Host")
            .detail("use localhost or a loopback address")
            .into_response(),
    }
}
