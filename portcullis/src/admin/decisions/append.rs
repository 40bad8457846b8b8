//! `POST /v1/decisions:append`: records of an enforcer on another host, into the ledger of this process (decisions.md 8).
//!
//! The enforcer is whom the SVID of the connection names, and no record of another is taken (IG1). The answer comes when the
//! records are on disk, and what is sent again is taken once, so a sender goes on wherever it was interrupted.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ca_authority::service::Caller;
use parking_lot::Mutex;
use policies_decisions::{Ingest, IngestError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Api;
use crate::admin::problem::Problem;

/// Records of one call.
pub(in crate::admin) const MOST: usize = 256;
/// Bytes of a body.
pub(in crate::admin) const BODY_BYTES: usize = 2 << 20;
/// Enforcers that are remembered between calls; what of another is here is looked up again.
const REMEMBERED: usize = 1_024;

/// What is known of each enforcer that sends.
#[derive(Debug, Default)]
pub(crate) struct Ingests(Mutex<HashMap<String, Arc<Mutex<Ingest>>>>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Sent {
    /// Leaves, base64.
    leaves: Vec<String>,
}

/// Takes records of the enforcer that sends them.
#[utoipa::path(post, path = "/v1/decisions:append", request_body(content_type = "application/json", description = "`leaves`: up to 256 records of one enforcer, base64, byte for byte as its log holds them, in their order"), responses((status = 200, description = "`taken`: how many of them were not here yet; all of them are on disk"), (status = 400, description = "no records, too many, or one that cannot be read"), (status = 403, description = "not permitted, or a record of another enforcer")))]
pub(in crate::admin) async fn append(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(sent): Json<Sent>,
) -> Result<Json<Value>, Problem> {
    let Caller::Svid(id) = caller else {
        let detail = "an enforcer sends its own records, and shows its SVID for that";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no enforcer").detail(detail));
    };
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed body").detail(detail);
    if sent.leaves.is_empty() || sent.leaves.len() > MOST {
        return Err(malformed(format!("`leaves` holds 1 to {MOST} records")));
    }
    let leaves = sent.leaves.iter().map(|leaf| STANDARD.decode(leaf).map(Bytes::from));
    let leaves: Result<Vec<_>, _> = leaves.collect();
    let leaves = leaves.map_err(|error| malformed(format!("`leaves` is base64: {error}")))?;
    let enforcer = id.to_string();
    let ingest = api.ingests.of(&enforcer, &api);
    let taking = tokio::task::spawn_blocking(move || ingest.lock().take(&leaves)).await;
    let taken = taking.map_err(|error| Problem::fault("records were not taken", &error))?;
    match taken {
        Ok(taken) => Ok(Json(json!({ "taken": taken }))),
        Err(error) => {
            // What is on disk now is looked up anew.
            api.ingests.0.lock().remove(&enforcer);
            Err(refused(&enforcer, &error))
        }
    }
}

impl Ingests {
    fn of(&self, enforcer: &str, api: &Api) -> Arc<Mutex<Ingest>> {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED && !all.contains_key(enforcer) {
            all.clear();
        }
        let ingest = all.entry(enforcer.to_owned());
        Arc::clone(ingest.or_insert_with(|| Arc::new(Mutex::new(api.ledger.ingest(enforcer)))))
    }
}

fn refused(enforcer: &str, error: &IngestError) -> Problem {
    match error {
        IngestError::OtherEnforcer { .. } => {
            tracing::error!(event = "foreign_records", enforcer, %error, "an enforcer sent records of another one");
            Problem::new(StatusCode::FORBIDDEN, "records of another enforcer").detail(error.to_string())
        }
        IngestError::Unreadable { .. } => {
            tracing::error!(event = "unreadable_records", enforcer, %error, "an enforcer sent what cannot be read");
            Problem::new(StatusCode::BAD_REQUEST, "unreadable records").detail(error.to_string())
        }
        IngestError::Ledger(_) => Problem::fault("records were not taken", error),
    }
}
