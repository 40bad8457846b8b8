//! `/v1/policies/versions`: what was committed, what is in force, and the way forward and back (ST5, SH3).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router, body::Bytes, routing};
use policies_engine::{ChangeContext, impact};
use policies_store::{Checks, PolicyStoreError, VersionInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::store;
use super::{asked, can, documents, record, refused, watch};
use crate::admin::Api;
use crate::admin::grant::{Deferred, Granted};
use crate::admin::problem::Problem;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/policies/versions", routing::get(list))
        .route("/v1/policies/versions/{version}", routing::get(read).post(act))
        .route("/v1/policies/versions/{version}/files", routing::get(files))
        .route("/v1/policies/versions/{version}/needs", routing::get(needs))
        .route("/v1/policies/shadow", routing::delete(stop))
}

/// Every version that is kept, newest first.
#[utoipa::path(get, path = "/v1/policies/versions", params(("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query), ("watch" = Option<bool>, Query, description = "true: server-sent events, one for each snapshot that comes into force"), ("from" = Option<String>, Query, description = "with watch: the snapshot you have, as 1.1207")), responses((status = 200, description = "versions")))]
pub(in crate::admin) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    if let Some(from) = watch::wanted(&uri)? {
        return Ok(watch::answer(store(&api)?, from));
    }
    let page: asked::Page = asked::query(&uri)?;
    let versions = store(&api)?.versions().map_err(|error| refused::problem(&error))?;
    page.of("PolicyVersion", versions, |version| version.policies, documents::version)
        .map(|page| Json(page).into_response())
}

/// One version: who, when, why, what its check found, and the signed note over its manifest.
#[utoipa::path(get, path = "/v1/policies/versions/{version}", params(("version" = String, Path, description = "41 or v41")), responses((status = 200, description = "the version"), (status = 404, description = "no such version")))]
pub(in crate::admin) async fn read(
    State(api): State<Arc<Api>>,
    Path(version): Path<String>,
) -> Result<Json<Value>, Problem> {
    let number = asked::number(&version)?;
    let version = store(&api)?.version_info(number).map_err(|error| refused::problem(&error))?;
    let note = version.note.as_deref().map(Value::from);
    let document = documents::object("PolicyVersion", documents::version(&version));
    Ok(Json(documents::with(document, "note", note)))
}

/// The files of a version as their authors wrote them.
#[utoipa::path(get, path = "/v1/policies/versions/{version}/files", params(("version" = String, Path, description = "41 or v41")), responses((status = 200, description = "files with their text"), (status = 404, description = "no such version")))]
pub(in crate::admin) async fn files(
    State(api): State<Arc<Api>>,
    Path(version): Path<String>,
) -> Result<Json<Value>, Problem> {
    let number = asked::number(&version)?;
    let files = store(&api)?.files(number).map_err(|error| refused::problem(&error))?;
    let items: Vec<_> = files.iter().map(|(file, text)| json!({ "file": file, "text": &**text })).collect();
    Ok(Json(
        json!({ "apiVersion": "portcullis/v1", "kind": "PolicyFileList", "version": number, "items": items }),
    ))
}

/// Which facts of a call the policies of a version read, action by action: what somebody who asks from outside has to
/// send, and what a record has to hold.
#[utoipa::path(get, path = "/v1/policies/versions/{version}/needs", params(("version" = String, Path, description = "41 or v41")), responses((status = 200, description = "facts by action, named as in a context"), (status = 404, description = "no such version")))]
pub(in crate::admin) async fn needs(
    State(api): State<Arc<Api>>,
    Path(version): Path<String>,
) -> Result<Json<Value>, Problem> {
    let number = asked::number(&version)?;
    let snapshot = can::of_version(&api, number).await?;
    let read = impact::needs(&snapshot).into_iter().filter(|(_, facts)| !facts.is_empty());
    let items: Vec<_> =
        read.map(|(action, facts)| json!({ "action": action.as_str(), "facts": facts })).collect();
    Ok(Json(
        json!({ "apiVersion": "portcullis/v1", "kind": "PolicyNeedList", "version": number, "items": items }),
    ))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    #[serde(default)]
    message: String,
}

/// `:activate` puts a committed version into force; `:rollback` repeats an older one under a new number and puts it into
/// force; `:shadow` evaluates one beside what is in force, for 24 hours or until one is activated.
#[utoipa::path(post, path = "/v1/policies/versions/{version}:{verb}", params(("version" = String, Path, description = "41 or v41"), ("verb" = String, Path, description = "activate, rollback or shadow")), responses((status = 200, description = "the version now in force, or in shadow"), (status = 403, description = "not permitted; names the forbid"), (status = 404, description = "no such version"), (status = 409, description = "a newer version is in force"), (status = 422, description = "it is not valid any longer: all findings")))]
pub(in crate::admin) async fn act(
    State(api): State<Arc<Api>>,
    Extension(deferred): Extension<Deferred>,
    Path(segment): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Response> {
    let (number, verb) = asked::verb(&segment).unwrap_or((&segment, ""));
    let (granted, number) = granted(&api, &deferred, number).await?;
    let by = granted.by.to_string();
    let done = async {
        let (operation, result) = match verb {
            "activate" => ("policy.activate", store(&api)?.activate(number, &by).await),
            "rollback" => {
                let body: Back = asked::body(&headers, &bytes)?;
                ("policy.rollback", store(&api)?.rollback(number, &by, &body.message).await)
            }
            "shadow" => {
                let info = store(&api)?.version_info(number);
                let started = store(&api)?.shadow(Some(number)).await;
                ("policy.shadow", started.and(info))
            }
            _ => return Err(asked::no_verb(&segment)),
        };
        let version = result.map_err(|error| refused::problem(&error))?;
        note(&api, operation, &granted, &version);
        let document = documents::object("PolicyVersion", documents::version(&version));
        Ok(Json(documents::with(document, "decision_id", granted.decision)).into_response())
    };
    done.await.map_err(Problem::into_response)
}

/// Ends the shadow.
#[utoipa::path(delete, path = "/v1/policies/shadow", responses((status = 200, description = "no version runs in shadow")))]
pub(in crate::admin) async fn stop(
    State(api): State<Arc<Api>>,
    Extension(deferred): Extension<Deferred>,
) -> Result<Response, Response> {
    let granted = deferred.decide(harmless()).await?;
    let done = async {
        store(&api)?.shadow(None).await.map_err(|error| refused::problem(&error))?;
        record(&api, "policy.shadow_stop", &granted.by, &[]);
        Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "Shadow", "version": null })).into_response())
    };
    done.await.map_err(Problem::into_response)
}

/// Asks Cedar over what that version would do now. For one that does not exist only the caller's right is asked for.
async fn granted(api: &Api, deferred: &Deferred, number: &str) -> Result<(Granted, u64), Response> {
    let found = async {
        let number = asked::number(number)?;
        let store = store(api)?;
        let info = store.version_info(number).map_err(|error| refused::problem(&error))?;
        let checks =
            store.check_version(number).await.map_err(|error: PolicyStoreError| refused::problem(&error))?;
        Ok((info, checks))
    };
    let found: Result<(VersionInfo, Checks), Problem> = found.await;
    let caller = deferred.principal.to_string();
    let context = match &found {
        Ok((info, checks)) => context(api, info, checks, &caller),
        Err(_) => harmless(),
    };
    let granted = deferred.decide(context).await?;
    found.map(|(info, _)| (granted, info.policies)).map_err(Problem::into_response)
}

fn context(api: &Api, info: &VersionInfo, checks: &Checks, caller: &str) -> ChangeContext {
    let found = &checks.summary;
    ChangeContext {
        scope: "/".to_owned(),
        widens: found.widens,
        tests_passed: found.passed,
        coverage: found.coverage.map_or(0, i64::from),
        approvals: i64::try_from(info.approvers.len()).unwrap_or(i64::MAX),
        caller_is_author: info.author == caller,
        touches_baseline: found.touches_baseline,
        replay_newly_denied: 0,
        two_person: api.two_person,
    }
}

/// What changes nothing.
fn harmless() -> ChangeContext {
    ChangeContext { scope: "/".to_owned(), tests_passed: true, ..ChangeContext::default() }
}

fn note(api: &Api, operation: &str, granted: &Granted, version: &VersionInfo) {
    let details = [
        ("version", version.policies.to_string()),
        ("message", version.message.clone()),
        ("rollback_of", version.rollback_of.map(|number| number.to_string()).unwrap_or_default()),
        ("decision", granted.decision.clone()),
    ];
    record(api, operation, &granted.by, &details);
}
