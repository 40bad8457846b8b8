//! `POST /v1/policies:can`: what the policies in force would say. Nothing is forwarded.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policies_engine::explain::{RequestForExplain, TextOptions, explain};
use policies_engine::{Action, OwnedFacts, Principal, Resource};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Api;
use crate::admin::problem::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CanRequest {
    principal: String,
    action: String,
    resource: String,
    context: Option<Value>,
}

/// Whether a call would be allowed now, with the explanation. Nothing is forwarded.
#[utoipa::path(post, path = "/v1/policies:can", responses((status = 200, description = "the verdict and why")))]
pub(in crate::admin) async fn can(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let bad = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed question").detail(detail).into_response()
    };
    let asked: CanRequest = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return bad(error.to_string()),
    };
    let Some(principal) = Principal::parse(&asked.principal) else {
        return bad(format!(
            "`{}` is no principal; write Workload::\"spiffe://..\", a SPIFFE ID, or anonymous",
            asked.principal
        ));
    };
    let action = match Action::parse(&asked.action) {
        Ok(action) => action,
        Err(error) => return bad(error.to_string()),
    };
    let Some(resource) = Resource::parse(&asked.resource) else {
        return bad(format!(
            "`{}` is no resource; write Method::\"shop.Orders/Get\", Route::\"..\" or Service::\"..\"",
            asked.resource
        ));
    };
    let facts = match &asked.context {
        None => OwnedFacts::assumed(action, &resource),
        Some(Value::Object(context)) => match OwnedFacts::from_json(context) {
            Ok(facts) => facts,
            Err(error) => return bad(format!("context: {error}")),
        },
        Some(_) => return bad("context is no JSON object".to_owned()),
    };
    let Some(snapshot) = api.judge.snapshot() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no policy is in force").into_response();
    };
    let question = RequestForExplain {
        principal,
        action,
        resource,
        facts,
        now: api.clock.now().wall,
        extra: None,
        recorded: None,
    };
    let explained = explain(&snapshot, &question);
    let mut document = explained.to_json(&question, &snapshot, None);
    if let Some(members) = document.as_object_mut() {
        members.insert("effect".to_owned(), json!(explained.effect.as_str()));
        members.insert(
            "text".to_owned(),
            json!(explained.to_text(&question, &snapshot, &TextOptions::default())),
        );
    }
    Json(document).into_response()
}
