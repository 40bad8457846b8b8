//! `GET /v1/policies/snapshots/{snapshot}/sources`: all policy files of a snapshot that judged, shipped ones among them, in the
//! order over which the hash in records is taken: what goes into a bundle beside the records (VF6).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Json, Router, routing};
use serde_json::{Value, json};

use super::asked;
use crate::admin::Api;
use crate::admin::decisions::pinned;
use crate::admin::problem::Problem;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/policies/snapshots/{snapshot}/sources", routing::get(sources))
}

/// The policy files of a snapshot, with the hash that records name.
#[utoipa::path(get, path = "/v1/policies/snapshots/{snapshot}/sources", params(("snapshot" = String, Path, description = "`versions.snapshot` of a record")), responses((status = 200, description = "files with their text, and `manifest`"), (status = 400, description = "no number"), (status = 410, description = "it is no longer stored")))]
pub(in crate::admin) async fn sources(
    State(api): State<Arc<Api>>,
    Path(snapshot): Path<String>,
) -> Result<Json<Value>, Problem> {
    let number = asked::number(&snapshot)?;
    let held = pinned(&api, Some(number)).await?;
    let files: Vec<_> =
        held.sources().map(|source| json!({ "file": &*source.file, "text": &*source.text })).collect();
    let versions = held.versions();
    let manifest: String = versions.manifest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Json(json!({
        "apiVersion": "portcullis/v1", "kind": "PolicySources", "snapshot": number,
        "version": versions.numbers.policies, "manifest": manifest, "items": files,
    })))
}
