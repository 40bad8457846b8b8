//! OpenID AuthZEN Authorization API 1.0: evaluation, evaluations, metadata (policy.md 12). Search is not offered.
//!
//! Who may ask is decided before a question comes here. A denial is a 200 with `decision: false`; what is not a question
//! is a 400. What a policy could need and the question does not say is never assumed: the answer is false,
//! `context_incomplete`. `properties` of subject and resource are not taken, the entities in force are; what was not
//! used is named in `context.ignored`.

mod body;
mod evaluate;
mod facts;

#[cfg(test)]
mod tests;

use crate::{Judge, ext_authz::Asker};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use body::{Bad, Batch};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Paths of questions, for tables of rights.
pub const PATHS: [&str; 2] = ["/access/v1/evaluation", "/access/v1/evaluations"];

/// Where the metadata is, for tables of rights: this path and all below it.
pub const METADATA: &str = "/.well-known/authzen-configuration";

/// Largest question.
const BODY_BYTES: usize = 1 << 20;
/// Bodies that are judged at a time.
const RUNNING: usize = 64;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How questions are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The base URL of this decision point, without a slash at the end.
    pub url: String,
    /// Entity types by the names that askers use; a name that is not here is the type itself.
    pub types: BTreeMap<String, String>,
}

/// The service. `judge` decides and records.
pub fn router(judge: Arc<dyn Judge>, options: Options) -> Router {
    let service = Arc::new(Service { judge, options, running: AtomicUsize::new(0) });
    Router::new()
        .route("/access/v1/evaluation", post(evaluation))
        .route("/access/v1/evaluations", post(evaluations))
        .route(METADATA, get(metadata))
        .route("/.well-known/authzen-configuration/{*tenant}", get(metadata))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(service)
}

#[derive(Debug)]
struct Service {
    judge: Arc<dyn Judge>,
    options: Options,
    running: AtomicUsize,
}

async fn evaluation(
    State(service): State<Arc<Service>>,
    asker: Option<Extension<Asker>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let answer = async {
        let _running = service.admit()?;
        let document = body::document(&headers, &bytes)?;
        let asked = body::single(&document)?;
        service.evaluate(&asked, &name(asker)).await
    };
    answered(answer.await, &headers)
}

async fn evaluations(
    State(service): State<Arc<Service>>,
    asker: Option<Extension<Asker>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let answer = async {
        let _running = service.admit()?;
        let document = body::document(&headers, &bytes)?;
        let asker = name(asker);
        // Without evaluations it is a single question.
        let Some(batch) = Batch::read(&document)? else {
            return service.evaluate(&body::single(&document)?, &asker).await;
        };
        let mut answers = Vec::with_capacity(batch.items.len());
        for item in batch.items {
            let answer = match item {
                Ok(asked) => service.evaluate(&asked, &asker).await,
                Err(bad) => Err(bad),
            };
            let answer = answer.unwrap_or_else(|bad| bad.item());
            let decision = answer.get("decision").and_then(Value::as_bool).unwrap_or(false);
            answers.push(answer);
            if batch.semantic.ends_with(decision) {
                break;
            }
        }
        Ok(json!({ "evaluations": answers }))
    };
    answered(answer.await, &headers)
}

/// What is offered, and where (AZ5). Below a path it is that of a decision point whose URL ends in the path.
async fn metadata(State(service): State<Arc<Service>>, tenant: Option<Path<String>>) -> Response {
    let url = &service.options.url;
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    if tenant.as_ref().map_or("", |Path(tenant)| tenant.as_str()) != path {
        return StatusCode::NOT_FOUND.into_response();
    }
    let document = json!({
        "policy_decision_point": url,
        "access_evaluation_endpoint": format!("{url}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{url}/access/v1/evaluations"),
        "capabilities": [],
    });
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

impl Service {
    /// A place among the questions that are judged at a time.
    fn admit(self: &Arc<Self>) -> Result<Running, Bad> {
        let running = Running(Arc::clone(self));
        if self.running.fetch_add(1, Ordering::Relaxed) >= RUNNING {
            return Err(Bad::busy());
        }
        Ok(running)
    }
}

/// Gives the place back.
struct Running(Arc<Service>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn name(asker: Option<Extension<Asker>>) -> String {
    asker.map_or_else(|| "unknown".to_owned(), |Extension(asker)| asker.0)
}

/// The answer with the caller's request id.
fn answered(answer: Result<Value, Bad>, headers: &HeaderMap) -> Response {
    let (status, document) = match answer {
        Ok(document) => (StatusCode::OK, document),
        Err(bad) => (bad.status, json!({ "error": bad.message })),
    };
    let json = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let mut response = (status, json, document.to_string()).into_response();
    if let Some(id) = headers.get(&REQUEST_ID) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response
}
