//! `GET /v1/policies/diff`: what one version changed against another: its files line by line, and what that means for
//! callers (IM1).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::{Json, Router, routing};
use policies_engine::diff::Difference;
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::store;
use super::{asked, refused};
use crate::admin::Api;
use crate::admin::problem::Problem;
use crate::lines;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/policies/diff", routing::get(diff))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: Option<String>,
    to: Option<String>,
}

/// How two versions differ; `to` is the newest unless given, `from` the one before `to`.
#[utoipa::path(get, path = "/v1/policies/diff", params(("from" = Option<String>, Query, description = "41 or v41"), ("to" = Option<String>, Query, description = "42 or v42")), responses((status = 200, description = "files that differ, and what that means"), (status = 404, description = "no such version")))]
pub(in crate::admin) async fn diff(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let range: Range = asked::query(&uri)?;
    let to = match range.to.as_deref() {
        Some(to) => asked::number(to)?,
        None => newest(&api)?,
    };
    let from = match range.from.as_deref() {
        Some(from) => asked::number(from)?,
        None => to.saturating_sub(1),
    };
    let (before, after) = (texts(&api, from)?, texts(&api, to)?);
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut text = String::new();
    let mut files = Vec::new();
    for name in names {
        let (old, new) = (before.get(name).map(|text| &**text), after.get(name).map(|text| &**text));
        let changed = match (old, new) {
            _ if old == new => continue,
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        let difference = lines::difference(name, old, new);
        text.push_str(&difference);
        files.push(json!({ "file": name, "change": changed, "text": difference }));
    }
    let meaning = meaning(&api, from, to).await?;
    if files.is_empty() {
        text = format!("policies v{from} and v{to} have the same files\n");
    }
    if let Some(meaning) = &meaning {
        text = format!("{text}\n{}", meaning.to_text());
    }
    Ok(Json(json!({
        "apiVersion": "portcullis/v1", "kind": "Difference", "from": from, "to": to, "files": files,
        "meaning": meaning.map(|meaning| meaning.to_json()), "text": text,
    })))
}

/// What it means for callers; none before the first version, and for what this build cannot compile any longer.
async fn meaning(api: &Api, from: u64, to: u64) -> Result<Option<Difference>, Problem> {
    let Some(store) = api.store.clone().filter(|_| from > 0 && to > 0) else { return Ok(None) };
    let compared = tokio::task::spawn_blocking(move || {
        let (before, after) = (store.policies(from).ok()?, store.policies(to).ok()?);
        Some(policies_engine::diff::diff(&before, &after))
    });
    compared.await.map_err(|error| Problem::fault("it could not be compared", &error))
}

fn newest(api: &Api) -> Result<u64, Problem> {
    let versions = store(api)?.versions().map_err(|error| refused::problem(&error))?;
    Ok(versions.first().map_or(0, |version| version.policies))
}

/// The files of a version; before the first one there are none.
fn texts(api: &Api, number: u64) -> Result<BTreeMap<String, Arc<str>>, Problem> {
    if number == 0 {
        return Ok(BTreeMap::new());
    }
    let files = store(api)?.files(number).map_err(|error| refused::problem(&error))?;
    Ok(files.into_iter().collect())
}
