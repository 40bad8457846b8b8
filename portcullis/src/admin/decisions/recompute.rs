//! `POST /v1/decisions:verify`: recorded decisions judged again by stock Cedar, under the policies of their time (VF6).
//!
//! The records come with the call: an auditor has what he holds recomputed, not what stands here.

use std::collections::{HashMap, hash_map::Entry};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policies_decisions::StoredRecord;
use policies_engine::explain::explain as explained;
use policies_engine::{Principal, ReadRecord, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{pinned, recorded};
use crate::admin::Api;
use crate::admin::problem::Problem;
use crate::admin::reading::{Who, on_record};

/// Records of one call; a leaf has at most 32 KiB.
pub(in crate::admin) const MOST: usize = 32;
/// Bytes of a body.
pub(in crate::admin) const BODY_BYTES: usize = 2 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Asked {
    /// Leaves, base64.
    leaves: Vec<String>,
}

/// Whether stock Cedar decides recorded calls as they were decided.
#[utoipa::path(post, path = "/v1/decisions:verify", request_body(content_type = "application/json", description = "`leaves`: up to 32 records, base64, byte for byte as the log holds them"), responses((status = 200, description = "`results` in the order of the leaves: same, different or undecided, and why"), (status = 400, description = "no leaves, or too many"), (status = 403, description = "not permitted")))]
pub(in crate::admin) async fn verify(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Principal>,
    who: Who,
    Json(asked): Json<Asked>,
) -> Result<Json<Value>, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed body").detail(detail);
    if asked.leaves.is_empty() || asked.leaves.len() > MOST {
        return Err(malformed(format!("`leaves` holds 1 to {MOST} records")));
    }
    let leaves: Result<Vec<_>, _> = asked.leaves.iter().map(|leaf| STANDARD.decode(leaf)).collect();
    let leaves = leaves.map_err(|error| malformed(format!("`leaves` is base64: {error}")))?;
    let (count, credential) = (leaves.len() as u64, who.credential);
    let note = ReadRecord {
        count,
        credential,
        ..ReadRecord::new(caller, "verify", "recompute".to_owned(), api.clock.now())
    };
    on_record(&api, note)?;
    let (mut snapshots, mut results) = (HashMap::new(), Vec::new());
    for leaf in leaves {
        results.push(again(&api, leaf, &mut snapshots).await);
    }
    Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "Recomputation", "results": results })))
}

type Snapshots = HashMap<Option<u64>, Result<Arc<Snapshot>, String>>;

async fn again(api: &Arc<Api>, leaf: Vec<u8>, snapshots: &mut Snapshots) -> Value {
    let undecided = |why: &str| json!({ "result": "undecided", "why": why });
    let record = match StoredRecord::decode(0, leaf.into()) {
        Ok(record) => record,
        Err(error) => return undecided(&format!("it is no record: {error}")),
    };
    let Some(stored) = recorded(&record) else { return undecided("it is no decision of a call") };
    let number = stored.snapshot;
    let snapshot = match snapshots.entry(number) {
        Entry::Occupied(known) => known.get().clone(),
        Entry::Vacant(place) => {
            let found = pinned(api, number).await.map_err(|problem| problem.title().to_owned());
            place.insert(found).clone()
        }
    };
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        Err(why) => return undecided(&why),
    };
    let manifest = record.versions.as_ref().map(|versions| versions.manifest);
    if manifest.is_some_and(|manifest| manifest != snapshot.versions().manifest) {
        return json!({ "result": "different", "why": "the policies stored under its number are others" });
    }
    let judging = tokio::task::spawn_blocking(move || explained(&snapshot, &stored.question).recomputed);
    let again = judging.await.ok().flatten();
    let verdict = |effect: &str, reason: &str| format!("{effect} ({reason})");
    match again.as_ref().and_then(|again| Some((again, again.is_same?))) {
        Some((_, true)) => json!({ "result": "same" }),
        Some((again, false)) => {
            let was = record.decision().map(|was| verdict(was.effect.as_str(), &was.reason));
            let is = verdict(again.effect.as_str(), again.reason.as_str());
            let why = format!("recorded {}, recomputed {is}", was.unwrap_or_default());
            json!({ "result": "different", "why": why })
        }
        None => undecided("not everything that it was based on is on record"),
    }
}
