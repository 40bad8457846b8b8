//! `/v1/policies/changes`: drafts of the next version, from the first edit to the commit (ST6). A change belongs to its
//! author: nobody else edits it, so that nobody approves their own words under another name.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing};
use policies_engine::{ChangeContext, Principal};
use policies_store::{Change, ChangeId, Checks, Edit, NewChange, PolicyStore};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked, documents, impact, refused};
use crate::admin::Api;
use crate::admin::grant::{Deferred, Granted};
use crate::admin::problem::Problem;
use crate::admin::reading::Who;

/// Texts of a change, all together (VA4), and what JSON adds to them.
pub(in crate::admin) const BODY_BYTES: usize = 24 << 20;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies/changes", routing::get(list).post(create))
        .route("/v1/policies/changes/{change}", routing::get(read).patch(edit).post(act))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES))
}

/// Open changes, and the last that ended, newest first.
#[utoipa::path(get, path = "/v1/policies/changes", params(("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, description = "changes")))]
pub(in crate::admin) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let page: asked::Page = asked::query(&uri)?;
    let changes = store(&api)?.changes().map_err(|error| refused::problem(&error))?;
    let number = |change: &Change| change.id.to_string().trim_start_matches('c').parse().unwrap_or(0);
    page.of("Change", changes, number, documents::change_in_short).map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    base: Option<u64>,
    #[serde(default)]
    message: String,
    ticket: Option<String>,
    edits: Vec<EditBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EditBody {
    file: String,
    text: Option<String>,
}

impl From<EditBody> for Edit {
    fn from(body: EditBody) -> Self {
        Self { file: body.file, text: body.text }
    }
}

/// A new change: the files that differ from `base` (the newest version unless given); `text` null deletes a file.
#[utoipa::path(post, path = "/v1/policies/changes", responses((status = 201, description = "the change, with its ETag"), (status = 400, description = "malformed"), (status = 413, description = "too large, the cap is named")))]
pub(in crate::admin) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let body: NewBody = asked::body(&headers, &bytes)?;
    let new = NewChange {
        base: body.base,
        author: caller.to_string(),
        message: body.message,
        ticket: body.ticket,
        edits: body.edits.into_iter().map(Edit::from).collect(),
    };
    let change = store(&api)?.draft(new).await.map_err(|error| refused::problem(&error))?;
    record(&api, "policy.draft", &caller, &change);
    let place = format!("/v1/policies/changes/{}", change.id);
    let headers = [(header::ETAG, asked::etag(&change)), (header::LOCATION, place)];
    Ok((StatusCode::CREATED, headers, Json(documents::change(&change))).into_response())
}

/// One change.
#[utoipa::path(get, path = "/v1/policies/changes/{change}", params(("change" = String, Path, description = "c17")), responses((status = 200, description = "the change, with its ETag"), (status = 404, description = "no such change")))]
pub(in crate::admin) async fn read(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    find(&api, &id).map(|change| shown(&change))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    edits: Vec<EditBody>,
}

/// Adds edits; checks and approvals are bound to the content and are dropped when it becomes another one.
#[utoipa::path(patch, path = "/v1/policies/changes/{change}", params(("change" = String, Path), ("If-Match" = String, Header, description = "ETag of the change that was read")), responses((status = 200, description = "the change"), (status = 403, description = "it belongs to its author"), (status = 412, description = "somebody wrote it meanwhile"), (status = 428, description = "If-Match is missing")))]
pub(in crate::admin) async fn edit(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let change = find(&api, &id)?;
    must_own(&change, &caller)?;
    asked::must_match(&headers, &change)?;
    let body: Edits = asked::body(&headers, &bytes)?;
    let edits = body.edits.into_iter().map(Edit::from).collect();
    let edited = store(&api)?.edit_change(change.id, change.revision, edits).await;
    edited.map(|change| shown(&change)).map_err(|error| refused::problem(&error))
}

/// `:validate` checks it, `:test` and `:lint` tell its cases or its findings only; `:rebase` lets it start from the newest version; `:approve` says yes to this content;
/// `:commit` makes it a version, not yet in force; `:abandon` gives it up, whoever may draft; `:impact` replays recorded
/// decisions against it and notes the counts, for rules over `replay_newly_denied`.
#[utoipa::path(post, path = "/v1/policies/changes/{change}:{verb}", params(("change" = String, Path), ("verb" = String, Path, description = "validate, test, lint, impact, rebase, approve, commit or abandon"), ("If-Match" = Option<String>, Header, description = "ETag of the change; required but for validate, test, lint and impact")), responses((status = 200, description = "done"), (status = 403, description = "not permitted; names the forbid"), (status = 409, description = "its base is not the newest version: head and conflicting policies"), (status = 412, description = "somebody wrote it meanwhile"), (status = 422, description = "its checks do not pass: all findings"), (status = 428, description = "If-Match is missing")))]
pub(in crate::admin) async fn act(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    deferred: Option<Extension<Deferred>>,
    who: Who,
    Path(segment): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Response> {
    let (id, verb) = asked::verb(&segment).unwrap_or((&segment, ""));
    match (verb, deferred) {
        ("validate", _) => check(&api, id, Told::All).await.map_err(Problem::into_response),
        ("test", _) => check(&api, id, Told::Cases).await.map_err(Problem::into_response),
        ("lint", _) => check(&api, id, Told::Findings).await.map_err(Problem::into_response),
        ("impact", _) => {
            let noted = impact::noted(&api, caller, who, id, &headers, &bytes).await;
            noted.map_err(Problem::into_response)
        }
        ("rebase", _) => rebase(&api, &caller, id, &headers).await.map_err(Problem::into_response),
        ("abandon", _) => abandon(&api, &caller, id, &headers).await.map_err(Problem::into_response),
        ("approve", Some(Extension(deferred))) => approve(&api, &deferred, id, &headers).await,
        ("commit", Some(Extension(deferred))) => commit(&api, &deferred, id, &headers).await,
        _ => Err(asked::no_verb(&segment).into_response()),
    }
}

/// What of a check is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    All,
    Cases,
    /// Cases may fail.
    Findings,
}

async fn check(api: &Api, id: &str, told: Told) -> Result<Response, Problem> {
    let change = find(api, id)?;
    let checks = store(api)?.check_change(change.id).await.map_err(|error| refused::problem(&error))?;
    let change = find(api, id)?;
    if told != Told::Findings || checks.summary.errors > 0 {
        passed(&checks)?;
    }
    let all = documents::checks(&checks);
    let list = |kind: &str, name: &str| json!({ "apiVersion": "portcullis/v1", "kind": kind, "items": all.get(name) });
    let document = match told {
        Told::Cases => list("CaseList", "cases"),
        Told::Findings => list("FindingList", "diagnostics"),
        Told::All => {
            let checks = documents::with(all, "change", documents::change_in_short(&change));
            documents::object("Checks", checks)
        }
    };
    Ok(([(header::ETAG, asked::etag(&change))], Json(document)).into_response())
}

async fn rebase(api: &Api, caller: &Principal, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let change = find(api, id)?;
    must_own(&change, caller)?;
    asked::must_match(headers, &change)?;
    let rebased = store(api)?.rebase_change(change.id, change.revision).await;
    rebased.map(|change| shown(&change)).map_err(|error| refused::problem(&error))
}

async fn abandon(api: &Api, caller: &Principal, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let change = find(api, id)?;
    asked::must_match(headers, &change)?;
    let change = store(api)?.abandon(change.id).await.map_err(|error| refused::problem(&error))?;
    record(api, "policy.abandon", caller, &change);
    Ok(shown(&change))
}

async fn approve(
    api: &Api,
    deferred: &Deferred,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let (granted, change) = granted(api, deferred, id, headers).await?;
    let done = async {
        let by = granted.by.to_string();
        let approved = store(api)?.approve(change.id, change.revision, &by).await;
        let change = approved.map_err(|error| refused::problem(&error))?;
        record(api, "policy.approve", &granted.by, &change);
        Ok(shown(&change))
    };
    done.await.map_err(Problem::into_response)
}

async fn commit(api: &Api, deferred: &Deferred, id: &str, headers: &HeaderMap) -> Result<Response, Response> {
    let (granted, change) = granted(api, deferred, id, headers).await?;
    let done = async {
        let by = granted.by.to_string();
        let committed = store(api)?.commit(change.id, change.revision, &by).await;
        let version = committed.map_err(|error| refused::problem(&error))?;
        let change = find(api, id)?;
        record(api, "policy.commit", &granted.by, &change);
        let document = documents::object("PolicyVersion", documents::version(&version));
        Ok(Json(documents::with(document, "decision_id", granted.decision)).into_response())
    };
    done.await.map_err(Problem::into_response)
}

/// Asks Cedar over the change as it is, then compares the revision. A change whose checks did not pass cannot go on in
/// any case: then only the caller's right is asked for, and the findings are the answer.
async fn granted(
    api: &Api,
    deferred: &Deferred,
    id: &str,
    headers: &HeaderMap,
) -> Result<(Granted, Change), Response> {
    let found = find(api, id);
    let sound = |change: &Change| change.checked.as_ref().is_some_and(|checked| checked.passed);
    let caller = deferred.principal.to_string();
    let context = match &found {
        Ok(change) if sound(change) => change.context(&caller, api.two_person),
        _ => ChangeContext { scope: "/".to_owned(), ..ChangeContext::default() },
    };
    let granted = deferred.decide(context).await?;
    let change = found.map_err(Problem::into_response)?;
    asked::must_match(headers, &change).map_err(Problem::into_response)?;
    if sound(&change) {
        return Ok((granted, change));
    }
    Err(unsound(api, &change).await.unwrap_or_else(|problem| problem).into_response())
}

/// Why a change whose checks did not pass goes no further.
async fn unsound(api: &Api, change: &Change) -> Result<Problem, Problem> {
    if change.checked.is_none() {
        return Ok(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not checked")
            .code("PC2040")
            .detail(format!("change {} was not checked as it is now", change.id))
            .next(format!("portcullis policy check {}", change.id)));
    }
    passed(&store(api)?.check_change(change.id).await.map_err(|error| refused::problem(&error))?)?;
    Ok(Problem::new(StatusCode::PRECONDITION_FAILED, "its checks pass by now")
        .code("PC2041")
        .next(format!("portcullis policy show {}", change.id)))
}

fn passed(checks: &Checks) -> Result<(), Problem> {
    if checks.summary.passed {
        return Ok(());
    }
    let failed: Vec<_> = documents::checks(checks)
        .get("cases")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|case| case.get("passed") == Some(&Value::Bool(false)))
        .cloned()
        .collect();
    Err(refused::invalid(&checks.diagnostics).with("cases", failed))
}

/// Only the author edits: an approval by somebody who wrote a part of it would be none.
fn must_own(change: &Change, caller: &Principal) -> Result<(), Problem> {
    if change.author == caller.to_string() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "not permitted")
        .code("PC2043")
        .detail(format!("change {} belongs to {}, and you are {caller}", change.id, change.author))
        .hint("make a change of your own; whoever edits a change could otherwise approve their own words")
        .next("portcullis policy push"))
}

fn shown(change: &Change) -> Response {
    ([(header::ETAG, asked::etag(change))], Json(documents::change(change))).into_response()
}

pub(super) fn find(api: &Api, id: &str) -> Result<Change, Problem> {
    let id: ChangeId = id.parse().map_err(|error| refused::problem(&error))?;
    store(api)?.change(id).map_err(|error| refused::problem(&error))
}

pub(super) fn store(api: &Api) -> Result<&PolicyStore, Problem> {
    let store = api.store.as_deref();
    store.ok_or_else(|| super::nothing_kept(api))
}

/// Puts what was done to a change into the ledger.
fn record(api: &Api, operation: &str, by: &Principal, change: &Change) {
    let details = [
        ("change", change.id.to_string()),
        ("content", change.content.clone()),
        ("author", change.author.clone()),
        ("message", change.message.clone()),
        ("version", change.version.map(|version| version.to_string()).unwrap_or_default()),
    ];
    super::record(api, operation, by, &details);
}
