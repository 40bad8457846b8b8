//! `portcullis.policies.v1`: the verbs of `/v1/policies` over gRPC.
//!
//! There is one implementation, the REST API: each method is one call of its router, by the same caller, so that rights,
//! records and refusals cannot differ. Here messages become paths and bodies, and documents become messages. Nothing is
//! judged here, and nothing is reached that REST does not reach.

mod changes;
mod generated;
mod lookups;
mod refused;
#[cfg(test)]
mod tests;
mod versions;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{self, Method, Request, header};
use ca_authority::service::Caller;
use generated::server::{
    changes_server::ChangesServer, history_server::HistoryServer, policies_server::PoliciesServer,
    signing_server::SigningServer, versions_server::VersionsServer,
};
use policies_engine::Credential;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::{Response, Status};
use tower::ServiceExt;

use super::changes::BODY_BYTES;
use super::impact;
use crate::admin::repeat::IDEMPOTENCY_KEY;

/// Descriptors of the services, for server reflection.
pub(in crate::admin) const DESCRIPTORS: &[u8] = include_bytes!("grpc/generated/verbs.binpb");

/// Largest answer of the REST API: the files of a version are the largest there is.
const ANSWER_BYTES: usize = 64 << 20;

/// The services over `rest`, which judges and records each call.
pub(in crate::admin) fn router(rest: &Router) -> Router {
    let verbs = Verbs(rest.clone());
    let path = |service: &str| format!("/portcullis.policies.v1.{service}/{{method}}");
    // The caps are those of REST, so messages may be as long as bodies.
    let policies = PoliciesServer::new(verbs.clone()).max_decoding_message_size(impact::BODY_BYTES);
    let changes = ChangesServer::new(verbs.clone()).max_decoding_message_size(BODY_BYTES);
    Router::new()
        .route_service(&path("Policies"), policies)
        .route_service(&path("Changes"), changes)
        .route_service(&path("Versions"), VersionsServer::new(verbs.clone()))
        .route_service(&path("History"), HistoryServer::new(verbs.clone()))
        .route_service(&path("Signing"), SigningServer::new(verbs))
}

/// Calls of the REST API.
#[derive(Debug, Clone)]
struct Verbs(Router);

/// One of them.
struct Verb {
    method: Method,
    path: String,
    /// `If-Match`.
    revision: Option<u64>,
    body: Option<Value>,
}

impl Verb {
    fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), revision: None, body: None }
    }

    fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    /// As it was read; without a revision the API says what is missing.
    fn at(self, revision: u64) -> Self {
        Self { revision: (revision > 0).then_some(revision), ..self }
    }
}

impl Verbs {
    /// Makes the call that `verb` gives for the message, in the name of whoever sent it.
    async fn call<Q, A: DeserializeOwned>(
        &self,
        request: tonic::Request<Q>,
        verb: impl FnOnce(Q) -> Verb,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let Verb { method, path, revision, body } = verb(message);
        let mut call = Request::builder().method(method).uri(path);
        if body.is_some() {
            call = call.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(revision) = revision {
            call = call.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(key) = metadata.get(IDEMPOTENCY_KEY) {
            call = call.header(IDEMPOTENCY_KEY, key.as_bytes());
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let mut call = call.body(Body::from(bytes)).map_err(|error| malformed(&error))?;
        // INVARIANT: without a caller the REST API takes it for an anonymous one.
        if let Some(caller) = extensions.get::<Caller>() {
            call.extensions_mut().insert(caller.clone());
        }
        if let Some(credential) = extensions.get::<std::sync::Arc<Credential>>() {
            call.extensions_mut().insert(std::sync::Arc::clone(credential));
        }
        let Ok(answer) = Box::pin(self.0.clone().oneshot(call)).await;
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), ANSWER_BYTES).await.map_err(|error| broken(&error))?;
        if !status.is_success() {
            return Err(refused::status(status.as_u16(), &bytes));
        }
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        serde_json::from_value(present(document)).map(Response::new).map_err(|error| broken(&error))
    }
}

fn malformed(error: &http::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn broken(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(event = "verb_unreadable", %error, "an answer of the API cannot be told over gRPC");
    Status::internal("the answer cannot be told over gRPC; ask the REST API")
}

/// The document without members that are null: absent is the word of gRPC.
fn present(document: Value) -> Value {
    match document {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, present(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(present).collect()),
        other => other,
    }
}

/// One page of a list.
fn page(path: &str, limit: Option<u32>, cursor: Option<String>) -> Verb {
    let limit = limit.map(|limit| limit.to_string());
    Verb::get(format!("{path}{}", query(&[("limit", limit), ("cursor", cursor)])))
}

/// `?name=value` of those that are there.
fn query(pairs: &[(&str, Option<String>)]) -> String {
    let there = pairs.iter().filter_map(|(name, value)| {
        Some(format!("{name}={}", crate::cli::decisions::encode(value.as_deref()?)))
    });
    let there = there.collect::<Vec<_>>().join("&");
    if there.is_empty() { there } else { format!("?{there}") }
}
