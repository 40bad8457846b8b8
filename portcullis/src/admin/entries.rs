//! `GET /v1/entries:explain`: what the agent of this host sees of a process, and which entries that fits (EN-06).
//! The other verbs of entries are the authority's own.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ca_agent::attest::{AttestError, Caller};
use ca_authority::{EntryFilter, EntryRecord};
use ca_identity::Selector;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;

/// How many entries that nearly match are shown.
const NEAREST: usize = 5;
/// Entries that are looked at in one step.
const PAGE: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Process id on this host.
    pid: i32,
}

/// The selectors of a process, the entries that it matches, and those that lack the fewest.
#[utoipa::path(get, path = "/v1/entries:explain", params(("pid" = i32, Query, description = "process id on this host")), responses((status = 200, description = "selectors, matching entries, nearest misses"), (status = 400, description = "no such parameter"), (status = 404, description = "no such process, or no agent here"), (status = 422, description = "the process cannot be looked at")))]
pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(asked) = asked.map_err(|refused| {
        Problem::new(StatusCode::BAD_REQUEST, "no such question").detail(refused.body_text())
    })?;
    let (Some(authority), Some(_)) = (&api.authority, &api.status.workload_socket) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no agent runs here")
            .hint("ask the process whose configuration has [ca] and [agent]"));
    };
    let selectors = tokio::task::spawn_blocking(move || Caller::named(asked.pid)?.selectors())
        .await
        .map_err(|error| Problem::fault("the process cannot be looked at", &error))?
        .map_err(|error| unseen(asked.pid, &error))?;
    let facts: HashSet<&Selector> = selectors.iter().collect();
    let (mut found, mut after) = (Found::default(), None);
    loop {
        let page = authority.list_entries(&EntryFilter::default(), after.as_deref(), PAGE);
        page.iter().for_each(|entry| found.add(entry, &facts));
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => after = Some(last.id.clone()),
            None => break,
        }
    }
    Ok(Json(json!({
        "apiVersion": "portcullis/v1", "kind": "EntryExplanation", "pid": asked.pid,
        "selectors": selectors.iter().map(Selector::as_str).collect::<Vec<_>>(),
        "matching": found.matching.iter().map(|entry| shown(entry, &[])).collect::<Vec<_>>(),
        "nearest": found.nearest.iter().map(|(entry, missing)| shown(entry, missing)).collect::<Vec<_>>(),
    })))
}

fn unseen(pid: i32, error: &AttestError) -> Problem {
    let detail = format!("process {pid}: {error}");
    match error {
        AttestError::Foreign | AttestError::Process(ca_agent::attest::ProcessError::Gone) => {
            Problem::new(StatusCode::NOT_FOUND, "no such process on this host").detail(detail)
        }
        AttestError::Process(_) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the process cannot be looked at").detail(detail)
        }
    }
}

/// Entries by what they lack of a process, oldest first among equals.
#[derive(Debug, Default)]
struct Found {
    matching: Vec<Arc<EntryRecord>>,
    nearest: Vec<(Arc<EntryRecord>, Vec<Selector>)>,
}

impl Found {
    fn add(&mut self, entry: &Arc<EntryRecord>, facts: &HashSet<&Selector>) {
        let missing: Vec<Selector> =
            entry.selectors.iter().filter(|selector| !facts.contains(selector)).cloned().collect();
        let order = |entry: &EntryRecord| (entry.created_at, entry.id.clone());
        if missing.is_empty() {
            self.matching.push(Arc::clone(entry));
            self.matching.sort_by_key(|entry| order(entry));
            return;
        }
        self.nearest.push((Arc::clone(entry), missing));
        self.nearest.sort_by_key(|(entry, missing)| (missing.len(), order(entry)));
        self.nearest.truncate(NEAREST);
    }
}

fn shown(entry: &EntryRecord, missing: &[Selector]) -> Value {
    json!({
        "id": entry.id, "spiffe_id": entry.spiffe_id.as_str(),
        "selectors": entry.selectors.iter().map(Selector::as_str).collect::<Vec<_>>(),
        "missing": missing.iter().map(Selector::as_str).collect::<Vec<_>>(),
    })
}
