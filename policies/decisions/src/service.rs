//! The query service: `GET /v1/decisions`, its tail, and single records (decisions.md 11).
//!
//! `portcullis` mounts the router behind its own authorization and hands the caller in as a `Principal` extension;
//! every answer to a caller is itself on record (RR4). Errors are RFC 9457 problems. Scans run on blocking threads,
//! four at a time, so that no question holds up a runtime.

mod problem;
mod watch;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, Query as Pairs, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use policies_engine::{Principal, ReadRecord, Record};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::{
    IdPattern, Ledger, LedgerError, Page, Query,
    leaf::json_text,
    scan::{Damage, GetError},
};
use problem::Problem;

/// Scans that may run at a time.
const RUNNING: usize = 4;

/// The query service of a ledger.
pub fn router(ledger: Ledger) -> Router {
    let service = Service { ledger, running: Arc::new(Semaphore::new(RUNNING)) };
    Router::new().route("/v1/decisions", get(list)).route("/v1/decisions/{id}", get(one)).with_state(service)
}

/// The OpenAPI description of the service.
#[derive(Debug, utoipa::OpenApi)]
#[openapi(paths(list, one), tags((name = "decisions", description = "What was decided, and why")))]
pub struct Api;

#[derive(Debug, Clone)]
struct Service {
    ledger: Ledger,
    running: Arc<Semaphore>,
}

impl Service {
    /// Runs a scan where it may block.
    async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Ledger) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit =
            Arc::clone(&self.running).acquire_owned().await.map_err(|error| Problem::internal(&error))?;
        let ledger = self.ledger.clone();
        let scanning = tokio::task::spawn_blocking(move || {
            let answer = scan(&ledger);
            drop(permit);
            answer
        });
        scanning.await.map_err(|error| Problem::internal(&error))
    }

    /// Puts the read on record; without that there is no answer.
    fn record(
        &self,
        reader: Option<Extension<Principal>>,
        query: String,
        count: usize,
    ) -> Result<(), Problem> {
        let Some(Extension(principal)) = reader else { return Ok(()) };
        let time = self.ledger.inner().clock.now();
        let read = Record::Read(ReadRecord { principal, query, count: count as u64, time });
        match self.ledger.append(read) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", error.to_string()))
            }
        }
    }
}

/// Lists decisions, newest first; with `watch=true` follows them as server-sent events.
#[utoipa::path(
    get, path = "/v1/decisions", tag = "decisions",
    params(
        ("since" = Option<String>, Query, description = "RFC 3339, or how long ago: `15m`. Default: one hour"),
        ("until" = Option<String>, Query, description = "RFC 3339, or how long ago"),
        ("effect" = Option<String>, Query, description = "`allow` or `deny`"),
        ("would" = Option<String>, Query, description = "effect of the shadow or observed verdict"),
        ("principal" = Option<String>, Query, description = "id of the caller; `prefix:` for a prefix"),
        ("service" = Option<String>, Query, description = "called service"),
        ("action" = Option<String>, Query, description = "action id, such as `http:GET`"),
        ("resource" = Option<String>, Query, description = "prefix of the resource id"),
        ("policy" = Option<String>, Query, description = "id of a determining policy"),
        ("reason" = Option<String>, Query, description = "reason word"),
        ("version" = Option<String>, Query, description = "policies version or range: `41`, `38-41`"),
        ("enforcer" = Option<String>, Query, description = "SPIFFE id of the enforcer; `prefix:` for a prefix"),
        ("kind" = Option<String>, Query, description = "record kind, such as `decision` or `gap`"),
        ("path~" = Option<String>, Query, description = "part of the request path"),
        ("trace" = Option<String>, Query, description = "trace id, 32 hex digits"),
        ("order" = Option<String>, Query, description = "`desc` (default) or `asc`"),
        ("limit" = Option<usize>, Query, description = "rows of a page, default 100, at most 1000"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("watch" = Option<bool>, Query, description = "follow instead of list"),
        ("from" = Option<u64>, Query, description = "first index to follow from"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor` unless this is the end"),
        (status = 400, description = "unknown filter or value, foreign cursor"),
        (status = 410, description = "the cursor has expired"),
    ),
)]
async fn list(
    State(service): State<Service>,
    headers: HeaderMap,
    reader: Option<Extension<Principal>>,
    pairs: Result<Pairs<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Pairs(pairs) =
        pairs.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-query", error.body_text()))?;
    let query = Query::parse(&pairs, service.ledger.inner().clock.now().wall)?;
    let asked = asked(&pairs);
    if let Some(from) = watch::wanted(&pairs, &headers)? {
        service.record(reader, asked, 0)?;
        return Ok(watch::answer(&service.ledger, from, &query));
    }
    let query = match pairs.iter().find(|(name, _)| name == "cursor") {
        Some((_, cursor)) => service.ledger.resume(query, cursor)?,
        None => query,
    };
    let page = service.scan(move |ledger| ledger.query(&query)).await??;
    service.record(reader, asked, page.rows.len())?;
    Ok(json_answer(&page_json(&page, service.ledger.origin())))
}

/// One record, by its id or an abbreviation (`01JD..7Q`).
#[utoipa::path(
    get, path = "/v1/decisions/{id}", tag = "decisions",
    params(("id" = String, Path, description = "26 characters, or start and end joined by `..`")),
    responses(
        (status = 200, description = "the record"),
        (status = 400, description = "no id"),
        (status = 404, description = "no such record"),
        (status = 409, description = "the abbreviation fits several; `candidates` lists them"),
        (status = 410, description = "removed by retention"),
    ),
)]
async fn one(
    State(service): State<Service>,
    reader: Option<Extension<Principal>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let pattern: IdPattern = id.parse()?;
    let found = service.scan(move |ledger| ledger.get(&pattern)).await?;
    service.record(reader, format!("id={id}"), usize::from(found.is_ok()))?;
    Ok(json_answer(&found?.to_json(service.ledger.origin())))
}

/// The question as it goes on record.
fn asked(pairs: &[(String, String)]) -> String {
    let shown = pairs.iter().filter(|(name, _)| name != "cursor");
    shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn page_json(page: &Page, origin: &str) -> Value {
    let mut out = Map::new();
    out.insert("items".to_owned(), page.rows.iter().map(|row| row.to_json(origin)).collect());
    if let Some(cursor) = &page.next_cursor {
        out.insert("next_cursor".to_owned(), cursor.as_str().into());
    }
    if page.is_partial {
        out.insert("partial".to_owned(), true.into());
        out.insert("reason".to_owned(), "time budget reached".into());
    }
    if !page.damaged.is_empty() {
        out.insert("damaged".to_owned(), page.damaged.iter().map(damage_json).collect());
    }
    out.into()
}

fn damage_json(damage: &Damage) -> Value {
    let file = damage.file.file_name().map(|name| name.to_string_lossy());
    json!({
        "file": file, "first": damage.first.to_string(), "last": damage.last.to_string(), "problem": damage.problem,
    })
}

fn json_answer(value: &Value) -> Response {
    ([("content-type", "application/json"), ("cache-control", "no-store")], json_text(value)).into_response()
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Problem::internal(&error)
    }
}

impl From<GetError> for Problem {
    fn from(error: GetError) -> Self {
        let detail = error.to_string();
        match error {
            GetError::NotFound(_) => Problem::new(StatusCode::NOT_FOUND, "decision-not-found", detail),
            GetError::Retired { .. } => Problem::new(StatusCode::GONE, "decision-retired", detail),
            GetError::Ambiguous { candidates, .. } => {
                let candidates: Vec<_> = candidates.iter().map(ToString::to_string).collect();
                Problem::new(StatusCode::CONFLICT, "ambiguous-id", detail).with("candidates", candidates)
            }
            GetError::Ledger(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
