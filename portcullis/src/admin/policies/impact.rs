//! `POST /v1/policies:impact`: what a candidate would have done to the calls of a range (policy IM2). The candidate is
//! the files of a directory, a change, or a version; nothing of it is put into force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router, routing};
use policies_decisions::{Query, Sight};
use policies_engine::{AdminAction, Phase, Principal, ReadRecord, Resource, Snapshot};
use policies_store::Change;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{asked, changes, documents, refused};
use crate::admin::problem::Problem;
use crate::admin::reading::Who;
use crate::admin::{Api, reading};
use crate::assemble::judge::Question;
use crate::replay::{Records, Replayed, Source, replay};

/// Texts of a directory, all together (VA4), and what JSON adds to them.
pub(super) const BODY_BYTES: usize = 72 << 20;
/// How long a replay may take: unless asked otherwise, and at most.
const TIME: (u64, u64) = (20, 600);
/// Replays at a time. They read the whole ledger; calls must not wait for them.
static RUNNING: Semaphore = Semaphore::const_new(1);

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/policies:impact", routing::post(impact)).layer(DefaultBodyLimit::max(BODY_BYTES))
}

/// The range of a replay, and which of its decisions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Range {
    since: Option<String>,
    until: Option<String>,
    /// Filters of the ledger, by name.
    #[serde(default)]
    filter: std::collections::BTreeMap<String, String>,
    /// Seconds it may take.
    time_limit: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// A whole directory: file name and text.
    files: Option<std::collections::BTreeMap<String, Arc<str>>>,
    change: Option<String>,
    version: Option<Value>,
    #[serde(default)]
    range: Range,
}

/// What a directory, a change or a version would have done to recorded calls.
#[utoipa::path(post, path = "/v1/policies:impact", responses((status = 200, description = "counts, groups, and what could not be told; `partial` when the time was over, then `considered_until`"), (status = 400, description = "malformed, or an unknown filter"), (status = 403, description = "needs decisions:read and policy:read"), (status = 422, description = "the candidate is not valid: all findings"), (status = 429, description = "another replay is running")))]
pub(in crate::admin) async fn impact(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    who: Who,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let body: Body = asked::body(&headers, &bytes)?;
    let reader = Reader::admit(&api, principal, who).await?;
    let candidate = match (body.files, body.change, body.version) {
        (Some(files), None, None) => compile(&api, files.into_iter().collect()).await?,
        (None, Some(change), None) => of_change(&api, &changes::find(&api, &change)?).await?,
        (None, None, Some(version)) => {
            let text = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
            of_version(&api, asked::number(&text)?).await?
        }
        _ => {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "malformed body")
                .detail("name exactly one of `files`, `change` and `version`"));
        }
    };
    let replayed = run(&api, &reader, Arc::clone(&candidate), &body.range, "impact").await?;
    Ok(Json(document(&replayed, &candidate)))
}

/// The impact of a change; its counts are noted with the content they are about, unless only a part was looked at.
pub(super) async fn noted(
    api: &Arc<Api>,
    principal: Principal,
    who: Who,
    id: &str,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Result<Response, Problem> {
    let range: Range = asked::body(headers, bytes)?;
    let change = changes::find(api, id)?;
    let reader = Reader::admit(api, principal, who).await?;
    let candidate = of_change(api, &change).await?;
    let replayed = run(api, &reader, Arc::clone(&candidate), &range, "impact").await?;
    // What is noted with the change is the impact on everything, or nothing.
    if range.filter.is_empty() && !replayed.walked.is_stopped && !reader.1.has_hidden() {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let impact = policies_store::Impact {
            replayed: number(replayed.impact.considered),
            newly_denied: number(replayed.impact.allow_to_deny),
            newly_allowed: number(replayed.impact.deny_to_allow),
        };
        let noting = changes::store(api)?.note_impact(change.id, change.revision, impact).await;
        noting.map_err(|error| refused::problem(&error))?;
    }
    Ok(Json(document(&replayed, &candidate)).into_response())
}

/// Somebody who may read decisions, and the rows he sees.
pub(in crate::admin) struct Reader(Principal, Sight, Option<Arc<policies_engine::Credential>>);

impl Reader {
    /// Asks Cedar, and puts the answer on record.
    pub(in crate::admin) async fn admit(
        api: &Api,
        principal: Principal,
        who: Who,
    ) -> Result<Reader, Problem> {
        let Who { caller, credential } = who;
        let verdict = api.judge.decide(&Question {
            principal: principal.clone(),
            action: AdminAction::DecisionsRead,
            resource: Resource::trust_domain(api.trust_domain.as_str()),
            context: None,
            phase: Phase::Admin,
            facts: Some(crate::admin::facts(&caller)),
        });
        let (allow, id) = (verdict.allow, verdict.id.to_string());
        if verdict.recorded().await.is_err() {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the decision could not be recorded"));
        }
        if allow {
            let sight = reading::whole(api, &caller, &principal);
            return Ok(Reader(principal, sight, credential));
        }
        let needs = format!("{principal} needs {}", AdminAction::DecisionsRead.as_str());
        Err(Problem::new(StatusCode::FORBIDDEN, "not permitted").detail(needs).decision(&id))
    }
}

/// Replays a range against `candidate`, bounded in time, and puts on record who read what.
pub(in crate::admin) async fn run(
    api: &Arc<Api>,
    reader: &Reader,
    candidate: Arc<Snapshot>,
    range: &Range,
    purpose: &str,
) -> Result<Replayed, Problem> {
    let work = move |source: &Source<'_>| replay(source, &candidate);
    let replayed = walk(api, reader, range, work).await?;
    let count = replayed.walked.decisions;
    read(api, reader, format!("{purpose} {}", range.asked(api)), count)?;
    Ok(replayed)
}

/// Runs work over a range where it may block; it ends when the caller goes away.
pub(in crate::admin) async fn walk<T: Send + 'static>(
    api: &Arc<Api>,
    reader: &Reader,
    range: &Range,
    work: impl FnOnce(&Source<'_>) -> Result<T, policies_decisions::LedgerError> + Send + 'static,
) -> Result<T, Problem> {
    let query = range.query(api)?.seen_by(reader.1.clone(), &reader.0.to_string());
    let limit = range.limit()?;
    let permit = RUNNING.try_acquire().map_err(|_busy| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "another replay is running")
            .hint("replays read the whole ledger, so there is one at a time; ask again when it has ended")
    })?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let guard = Cancel(Arc::clone(&cancelled));
    let held = Arc::clone(api);
    let working = tokio::task::spawn_blocking(move || {
        let done = work(&Source {
            records: Records::Ledger(&held.ledger),
            store: held.store.as_deref(),
            clock: held.clock.as_ref(),
            query: &query,
            limit,
            is_cancelled: &cancelled,
        });
        drop(permit);
        done
    });
    let done = working.await;
    drop(guard);
    let failed = |detail: String| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the ledger cannot be read").detail(detail)
    };
    done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

/// Stops the work when the one who waited for it has gone.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts the read on record; without that there is no answer (RR4).
pub(in crate::admin) fn read(api: &Api, reader: &Reader, query: String, count: u64) -> Result<(), Problem> {
    let time = api.clock.now();
    let credential = reader.2.clone();
    let read = ReadRecord { count, credential, ..ReadRecord::new(reader.0.clone(), "replay", query, time) };
    reading::on_record(api, read)
}

impl Range {
    fn query(&self, api: &Api) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> =
            self.filter.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        pairs.push(("since".to_owned(), self.since.clone().unwrap_or_else(|| "24h".to_owned())));
        pairs.extend(self.until.clone().map(|until| ("until".to_owned(), until)));
        Query::parse(&pairs, api.clock.now().wall).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "malformed range").detail(error.to_string())
        })
    }

    fn limit(&self) -> Result<Duration, Problem> {
        let (default, most) = TIME;
        match self.time_limit.unwrap_or(default) {
            seconds if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            seconds => Err(Problem::new(StatusCode::BAD_REQUEST, "malformed range")
                .detail(format!("`time_limit` is from 1 to {most} seconds, not {seconds}"))),
        }
    }

    /// The range as it goes on record.
    pub(super) fn asked(&self, api: &Api) -> String {
        let mut asked = format!("since={}", self.since.as_deref().unwrap_or("24h"));
        if let Some(until) = &self.until {
            asked.push_str(&format!("&until={until}"));
        }
        for (name, value) in &self.filter {
            asked.push_str(&format!("&{name}={}", api.ledger.told(name, value)));
        }
        asked
    }
}

fn document(replayed: &Replayed, candidate: &Snapshot) -> Value {
    documents::object("Impact", replayed.to_json(candidate))
}

/// Those files with the entities in force.
pub(in crate::admin) async fn compile(
    api: &Arc<Api>,
    files: Vec<(String, Arc<str>)>,
) -> Result<Arc<Snapshot>, Problem> {
    let store = api.store.clone().ok_or_else(|| super::nothing_kept(api))?;
    let compiled = tokio::task::spawn_blocking(move || store.candidate(&files)).await;
    let compiled = compiled.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the compiler failed").detail(error.to_string())
    })?;
    compiled.map_err(|found| refused::invalid(&found))
}

/// What a change would make of the version it starts from.
pub(in crate::admin) async fn of_change(api: &Arc<Api>, change: &Change) -> Result<Arc<Snapshot>, Problem> {
    let mut files: std::collections::BTreeMap<String, Arc<str>> = match change.base {
        0 => std::collections::BTreeMap::new(),
        base => files(api, base)?.into_iter().collect(),
    };
    for edit in &change.edits {
        match &edit.text {
            Some(text) => drop(files.insert(edit.file.clone(), text.as_str().into())),
            None => drop(files.remove(&edit.file)),
        }
    }
    compile(api, files.into_iter().collect()).await
}

async fn of_version(api: &Arc<Api>, version: u64) -> Result<Arc<Snapshot>, Problem> {
    let files = files(api, version)?;
    compile(api, files).await
}

/// The files of a version of policies.
pub(in crate::admin) fn files(api: &Api, version: u64) -> Result<Vec<(String, Arc<str>)>, Problem> {
    changes::store(api)?.files(version).map_err(|error| refused::problem(&error))
}
