//! `POST /v1/policies:can`: what the policies in force would say, or those of another version or time. Nothing is
//! forwarded.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base_ports::UnixTime;
use policies_decisions::{Ledger, Query};
use policies_engine::explain::{RequestForExplain, TextOptions, explain};
use policies_engine::{OwnedFacts, Snapshot, ask};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{action, malformed, principal, resource};
use super::changes::store;
use super::{asked, nothing_in_force, refused};
use crate::admin::Api;
use crate::admin::problem::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CanRequest {
    principal: String,
    action: String,
    resource: String,
    context: Option<Value>,
    /// RFC 3339: the clock of the question, and, without `version`, the policies then in force.
    at: Option<String>,
    /// 41 or "v41".
    version: Option<Value>,
}

/// Whether a call would be allowed, with the explanation.
#[utoipa::path(post, path = "/v1/policies:can", responses((status = 200, description = "the verdict and why"), (status = 400, description = "malformed; near names are told"), (status = 404, description = "no such version, or nothing was in force then")))]
pub(in crate::admin) async fn can(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let asked: CanRequest = asked::body(&headers, &body)?;
    let (principal, action) = (principal(&asked.principal)?, action(&asked.action)?);
    let resource = resource(&asked.resource)?;
    let facts = match &asked.context {
        None => OwnedFacts::assumed(action, &resource),
        Some(Value::Object(context)) => {
            OwnedFacts::from_json(context).map_err(|error| malformed(format!("context: {error}")))?
        }
        Some(_) => return Err(malformed("context is no JSON object".to_owned())),
    };
    let at = asked.at.as_deref().map(|at| {
        UnixTime::parse_rfc3339(at).map_err(|error| malformed(format!("at: `{at}` is not a time: {error}")))
    });
    let at = at.transpose()?;
    let snapshot = of(&api, asked.version.as_ref(), at).await?;
    let hints = ask::hints(&snapshot, Some(&principal), Some(&resource));
    let now = at.unwrap_or_else(|| api.clock.now().wall);
    let question = RequestForExplain { principal, action, resource, facts, now, extra: None, recorded: None };
    let explained = explain(&snapshot, &question);
    let mut document = explained.to_json(&question, &snapshot, None);
    if let Some(members) = document.as_object_mut() {
        let text =
            explained.to_text(&question, &snapshot, &TextOptions { all: true, ..TextOptions::default() });
        members.insert("text".to_owned(), json!(text));
        members.insert("hints".to_owned(), json!(hints));
        members.insert("at".to_owned(), json!(now.to_string()));
    }
    Ok(Json(document))
}

/// The policies to ask: of that version, else of that time, else those in force.
async fn of(api: &Arc<Api>, version: Option<&Value>, at: Option<UnixTime>) -> Result<Arc<Snapshot>, Problem> {
    let number = match (version, at) {
        (Some(version), _) => {
            let text = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
            asked::number(&text)?
        }
        (None, Some(at)) if at < api.clock.now().wall => in_force_at(api, at).await?,
        (None, Some(_to_come)) => return api.judge.snapshot().ok_or_else(nothing_in_force),
        (None, None) => return api.judge.snapshot().ok_or_else(nothing_in_force),
    };
    of_version(api, number).await
}

/// The policies of that version, compiled.
pub(super) async fn of_version(api: &Arc<Api>, number: u64) -> Result<Arc<Snapshot>, Problem> {
    if let Some(current) = api.judge.snapshot().filter(|held| held.versions().numbers.policies == number) {
        return Ok(current);
    }
    store(api)?;
    let held = Arc::clone(api);
    let compiled =
        tokio::task::spawn_blocking(move || store(&held).map(|store| store.policies(number))).await;
    let failed = |detail: String| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the version could not be compiled").detail(detail)
    };
    compiled.map_err(|error| failed(error.to_string()))??.map_err(|error| refused::problem(&error))
}

/// The version that was in force at that time: by its activation, else by the last decision before.
async fn in_force_at(api: &Arc<Api>, at: UnixTime) -> Result<u64, Problem> {
    let versions = store(api)?.versions().unwrap_or_default();
    let activated =
        versions.iter().filter_map(|version| Some((version.activated.as_ref()?.at, version.policies)));
    if let Some((_, policies)) = activated.filter(|(since, _)| *since <= at).max() {
        return Ok(policies);
    }
    let ledger = api.ledger.clone();
    let asking = tokio::task::spawn_blocking(move || last_before(&ledger, at));
    asking.await.ok().flatten().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no policies were in force then")
            .detail(format!(
                "no version that is kept was in force at {at}, and no decision before it is on record"
            ))
            .next("portcullis policy versions")
    })
}

/// The policies of the newest decision up to that time.
fn last_before(ledger: &Ledger, at: UnixTime) -> Option<u64> {
    let pairs = [
        ("kind", "decision".to_owned()),
        ("since", UnixTime::from_nanos(0).to_string()),
        ("until", at.to_string()),
        ("limit", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let page = ledger.query(&Query::parse(&pairs, at).ok()?).ok()?;
    Some(page.rows.first()?.versions.as_ref()?.numbers.policies)
}
