//! `POST /v1/policies:validate`: what those files would be, with the entities there are now; for editors and pipelines.
//! Nothing is stored, and nothing is in force.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked, refused};
use crate::admin::Api;
use crate::admin::problem::Problem;
use crate::messages::Message;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    file: String,
    text: String,
}

impl Body {
    /// Name and text of each file.
    pub(super) fn into_files(self) -> Vec<(String, Arc<str>)> {
        self.files.into_iter().map(|file| (file.file, file.text.into())).collect()
    }
}

/// Whether these files are valid together: all findings at once.
#[utoipa::path(post, path = "/v1/policies:validate", responses((status = 200, description = "they are valid; warnings may be among the diagnostics"), (status = 422, description = "they are not: all findings, with file, line and column")))]
pub(in crate::admin) async fn validate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let body: Body = asked::body(&headers, &bytes)?;
    let store = api.store.clone().ok_or_else(|| super::nothing_kept(&api))?;
    let files = body.into_files();
    let compiled = tokio::task::spawn_blocking(move || store.candidate(&files)).await;
    let compiled = compiled.map_err(|error| Problem::fault("the check ended", &error))?;
    let snapshot = compiled.map_err(|found| refused::invalid(&found))?;
    let warnings: Vec<_> = snapshot.warnings().iter().map(|found| Message::from(found).to_json()).collect();
    let policies = snapshot.policies().filter(|policy| !policy.is_baseline).count();
    Ok(Json(json!({
        "apiVersion": "portcullis/v1", "kind": "Validation", "valid": true, "policies": policies, "diagnostics": warnings,
    })))
}
