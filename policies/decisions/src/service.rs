//! The query service: listings, tails, single records, aggregates, exports (decisions.md 11).
//!
//! `portcullis` mounts the router behind its own authorization and hands in who asks and what he sees as a [`Reader`]
//! extension. Every read is itself on record, also one that failed (RR4). Errors are RFC 9457 problems. Scans run on
//! threads of their own with less weight than the writer's, four at a time, each within its caps (QY3).

mod aggregate;
mod asked;
mod body;
mod export;
mod holds;
mod limits;
mod log;
mod people;
mod problem;
mod report;
mod streams;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query as Pairs, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base_ports::Mono;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    Cap, Caps, IdPattern, Ledger, LedgerError, Page, Query,
    leaf::json_text,
    proof::LogView,
    scan::{Damage, GetError},
};
pub use asked::Reader;
use asked::{Asked, Given};
use limits::{Busy, Limits, Running};
pub use log::log_router;
use problem::Problem;

/// Scans that may run at a time.
const RUNNING: usize = 4;

/// Questions of one reader that may run at a time.
const RUNNING_OF_ONE: usize = 4;

/// What the installation says about reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Exports must say what they are for.
    pub require_purpose: bool,
    /// Questions of one reader per minute.
    pub per_minute: usize,
    /// What one question may cost.
    pub caps: Caps,
}

impl Default for Options {
    /// No purpose needed, 30 questions a minute, the caps of the specification.
    fn default() -> Self {
        Self { require_purpose: false, per_minute: 30, caps: Caps::READER }
    }
}

/// The query service of a ledger.
pub fn router(ledger: Ledger, options: Options) -> Router {
    let limits = Limits::new(RUNNING_OF_ONE, options.per_minute);
    let service = Service { ledger, options, limits, running: Arc::new(Semaphore::new(RUNNING)) };
    Router::new()
        .route("/v1/decisions", get(list))
        .route("/v1/decisions:aggregate", post(aggregate::aggregate))
        .route("/v1/decisions:export", post(export::export))
        .route("/v1/decisions:report", post(report::report))
        .route("/v1/decisions/streams", get(streams::streams))
        .route("/v1/decisions/gaps", get(streams::gaps))
        .route("/v1/decisions:hold", get(holds::list).post(holds::hold))
        .route("/v1/decisions:release", post(holds::release))
        .route("/v1/decisions:reveal", post(people::reveal))
        .route("/v1/decisions:erase", post(people::erase))
        .route("/v1/decisions/{id}", get(one))
        .with_state(service)
}

/// The OpenAPI description of the service.
#[derive(Debug, utoipa::OpenApi)]
#[openapi(
    paths(
        list, one, streams::streams, streams::gaps, aggregate::aggregate, export::export, report::report,
        holds::list, holds::hold, holds::release, people::reveal, people::erase, log::proof, log::checkpoint, log::keys, log::rotate,
        log::consistency, log::tile
    ),
    tags((name = "decisions", description = "What was decided, and why"))
)]
pub struct Api;

#[derive(Debug, Clone)]
struct Service {
    ledger: Ledger,
    options: Options,
    limits: Arc<Limits>,
    running: Arc<Semaphore>,
}

impl Service {
    /// Takes a question, unless its reader asks too much.
    fn admit(&self, asked: &Asked, goes_on: bool) -> Result<Running, Problem> {
        let now = self.ledger.inner().clock.mono();
        let reader = asked.reader.principal.to_string();
        self.limits.admit(&reader, goes_on, now).map_err(|busy| {
            let (detail, retry) = match busy {
                Busy::Running(most) => {
                    (format!("{most} questions of this reader are running"), std::time::Duration::ZERO)
                }
                Busy::Asked(most, retry) => {
                    (format!("{most} questions a minute are answered to one reader"), retry)
                }
            };
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-questions", detail).retry(retry)
        })
    }

    /// The question as it goes on record.
    fn asked(&self, pairs: &[(String, String)]) -> String {
        let shown = pairs.iter().filter(|(name, _)| name != "cursor");
        let told = shown.map(|(name, value)| format!("{name}={}", self.ledger.told(name, value)));
        told.collect::<Vec<_>>().join("&")
    }

    /// The page of a question at which its cursor stands.
    async fn page(&self, asked: &Asked, query: Query, cursor: Option<&str>) -> Result<Page, Problem> {
        let query = match cursor {
            Some(cursor) => self.ledger.resume(query, cursor)?,
            None => query,
        };
        let running = self.admit(asked, cursor.is_some())?;
        let page =
            self.scan(running, move |ledger, caps, begun| ledger.query_within(&query, caps, begun)).await??;
        Ok(page)
    }

    /// Runs a scan on a thread of its own, where it may block and holds nobody up.
    async fn scan<T: Send + 'static>(
        &self,
        running: impl Send + 'static,
        scan: impl FnOnce(&Ledger, Caps, Mono) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let asked = self.ledger.inner().clock.mono();
        let permit =
            Arc::clone(&self.running).acquire_owned().await.map_err(|error| Problem::internal(&error))?;
        let (ledger, caps) = (self.ledger.clone(), self.options.caps);
        let (answer, answered) = oneshot::channel();
        let work = move || {
            if let Err(error) = base_ports::give_way() {
                tracing::debug!(%error, "a query runs with the weight of all");
            }
            let scanned = scan(&ledger, caps, asked);
            drop((permit, running));
            // Who asked may be gone.
            drop(answer.send(scanned));
        };
        let thread = std::thread::Builder::new().name("ledger-query".to_owned()).spawn(work);
        thread.map_err(|error| Problem::internal(&error))?;
        answered.await.map_err(|error| Problem::internal(&error))
    }
}

/// Name and value pairs of a URL.
type Pairing = Result<Pairs<Vec<(String, String)>>, QueryRejection>;

fn read_pairs(pairs: Pairing) -> Result<Vec<(String, String)>, Problem> {
    let bad = |error: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, "bad-query", error.body_text());
    pairs.map(|Pairs(pairs)| pairs).map_err(bad)
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
        ("namespace" = Option<String>, Query, description = "namespace of the called service; `prefix:` for a prefix"),
        ("action" = Option<String>, Query, description = "action id, such as `http:GET`"),
        ("resource" = Option<String>, Query, description = "prefix of the resource id"),
        ("policy" = Option<String>, Query, description = "id of a determining policy"),
        ("ticket" = Option<String>, Query, description = "`@ticket` of a determining policy"),
        ("reason" = Option<String>, Query, description = "reason word"),
        ("version" = Option<String>, Query, description = "policies version or range: `41`, `38-41`"),
        ("enforcer" = Option<String>, Query, description = "SPIFFE id of the enforcer; `prefix:` for a prefix"),
        ("kind" = Option<String>, Query, description = "record kind, such as `decision` or `gap`"),
        ("source_ip" = Option<String>, Query, description = "address or network of the caller: `10.0.0.0/8`"),
        ("serial" = Option<String>, Query, description = "serial number of the caller's certificate, hex"),
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
        (status = 429, description = "too many questions"),
    ),
)]
async fn list(
    State(service): State<Service>,
    headers: HeaderMap,
    asked: Asked,
    pairs: Pairing,
) -> Result<Response, Problem> {
    let pairs = match read_pairs(pairs) {
        Ok(pairs) => pairs,
        Err(problem) => return service.told(&asked, "list", "", Err(problem)),
    };
    let text = service.asked(&pairs);
    match watch::wanted(&pairs, &headers) {
        Ok(None) => {
            let answer = page(&service, &asked, &pairs).await;
            service.told(&asked, "list", &text, answer)
        }
        Ok(Some(from)) => {
            let now = service.ledger.inner().clock.now().wall;
            let query = Query::parse(&pairs, now).map(|query| asked.reader.asks(query));
            let query = query.map(|query| (query, Given::default())).map_err(Problem::from);
            let query = service.told(&asked, "tail", &text, query)?;
            Ok(watch::answer(&service.ledger, from, &query, asked, text))
        }
        Err(problem) => service.told(&asked, "tail", &text, Err(problem)),
    }
}

async fn page(
    service: &Service,
    asked: &Asked,
    pairs: &[(String, String)],
) -> Result<(Response, Given), Problem> {
    let query = asked.reader.asks(Query::parse(pairs, service.ledger.inner().clock.now().wall)?);
    let page = service.page(asked, query, cursor_in(pairs)).await?;
    let (response, bytes) = json_answer(&page_json(&page, &service.ledger.log(), asked));
    Ok((response, Given { rows: page.rows.len(), bytes, is_partial: page.is_partial() }))
}

fn cursor_in(pairs: &[(String, String)]) -> Option<&str> {
    pairs.iter().find(|(name, _)| name == "cursor").map(|(_, cursor)| cursor.as_str())
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
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let answer = record(&service, &asked, &id).await;
    service.told(&asked, "get", &format!("id={id}"), answer)
}

async fn record(service: &Service, asked: &Asked, id: &str) -> Result<(Response, Given), Problem> {
    let pattern: IdPattern = id.parse()?;
    let sight = asked.reader.sight.clone();
    let found = service.scan((), move |ledger, _, _| ledger.get_seen(&pattern, &sight)).await??;
    let seen = asked.reader.sight.of(&found);
    let (response, bytes) = json_answer(&found.to_json_seen(&service.ledger.log(), seen));
    Ok((response, Given { rows: 1, bytes, is_partial: false }))
}

fn page_json(page: &Page, log: &LogView, asked: &Asked) -> Value {
    let mut out = Map::new();
    let sight = &asked.reader.sight;
    let items = page.rows.iter().map(|row| row.to_json_seen(log, sight.of(row))).collect();
    out.insert("items".to_owned(), items);
    partial_members(&mut out, page.partial, &page.damaged, page.next_cursor.as_deref());
    out.into()
}

/// How much of the question is answered, and where it goes on.
fn partial_members(
    out: &mut Map<String, Value>,
    partial: Option<Cap>,
    damaged: &[Damage],
    next: Option<&str>,
) {
    if let Some(cursor) = next {
        out.insert("next_cursor".to_owned(), cursor.into());
    }
    if let Some(cap) = partial {
        out.insert("partial".to_owned(), true.into());
        out.insert("reason".to_owned(), cap.as_str().into());
    }
    if !damaged.is_empty() {
        out.insert("damaged".to_owned(), damaged.iter().map(damage_json).collect());
    }
}

fn damage_json(damage: &Damage) -> Value {
    let file = damage.file.file_name().map(|name| name.to_string_lossy());
    json!({
        "file": file, "first": damage.first.to_string(), "last": damage.last.to_string(), "problem": damage.problem,
    })
}

/// The answer, and how many bytes it has.
fn json_answer(value: &Value) -> (Response, usize) {
    let text = json_text(value);
    let bytes = text.len();
    let fixed = [("content-type", "application/json"), ("cache-control", "no-store")];
    ((fixed, text).into_response(), bytes)
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NoTree => Problem::new(StatusCode::NOT_FOUND, "not-in-the-log", error.to_string()),
            error => Problem::internal(&error),
        }
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
