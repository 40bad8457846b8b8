//! The log for those who verify it: checkpoint, tiles, keys, and proofs (decisions.md 11).
//!
//! Tiles and checkpoints hold hashes only. Entry bundles hold the records of everybody; `portcullis` asks for a right of
//! its own before it lets a call for them through, and tells them by the path as it was sent, so only that form is read.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Path, Query as Pairs, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base_ports::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD};
use policies_engine::{Credential, DecisionId, Principal, ReadRecord};
use serde_json::{Value, json};

use super::{
    asked::{Asked, Given, nobody, put},
    json_answer,
    problem::Problem,
};
use crate::{
    IdPattern, Ledger, LedgerError,
    proof::{ProofDocument, TileId, Tree, TreeError, WIDTH, parse_index},
    source::each_leaf,
};

const TILES: &str = "/v1/log/tile/";

/// How often, and how many times, it is looked for a checkpoint that will come within two seconds.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 40;

/// Checkpoint, tiles, keys and proofs of a ledger.
pub fn log_router(ledger: Ledger) -> Router {
    Router::new()
        .route("/v1/decisions/{id}/proof", get(proof))
        .route("/v1/log/checkpoint", get(checkpoint))
        .route("/v1/log/keys", get(keys))
        .route("/v1/log/keys:rotate", post(rotate))
        .route("/v1/log/consistency", get(consistency))
        .route("/v1/log/tile/{*path}", get(tile))
        .with_state(ledger)
}

/// That one record is in the log: JSON, or with `Accept: text/plain` a C2SP tlog-proof file.
#[utoipa::path(
    get, path = "/v1/decisions/{id}/proof", tag = "decisions",
    params(("id" = String, Path, description = "26 characters, or start and end joined by `..`")),
    responses(
        (status = 200, description = "the leaf, its path to the root, and the signed checkpoint"),
        (status = 404, description = "no such record"),
        (status = 409, description = "no checkpoint covers it yet; ask again in a second"),
    ),
)]
pub(super) async fn proof(
    State(ledger): State<Ledger>,
    asked: Asked,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let found = proved(&ledger, &asked, &id).await;
    let (rows, failed) = (usize::from(found.is_ok()), found.as_ref().err().map(Problem::code));
    asked.note(&ledger, "proof", &format!("id={id}"), Given { rows, ..Given::default() }, failed)?;
    let (id, document) = found?;
    let wants_text = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if wants_text.is_some_and(|accept| accept.starts_with("text/plain")) {
        return Ok(text(document.to_string()));
    }
    let path: Vec<_> = document.path.iter().map(ToString::to_string).collect();
    Ok(json_answer(&json!({
        "apiVersion": "portcullis/v1", "kind": "Proof", "id": id.to_string(), "origin": ledger.origin(),
        "index": document.index.to_string(), "leaf": STANDARD.encode(&document.leaf), "path": path,
        "checkpoint": document.checkpoint,
    }))
    .0)
}

/// The record, which its reader must see whole, and its proof.
async fn proved(ledger: &Ledger, asked: &Asked, id: &str) -> Result<(DecisionId, ProofDocument), Problem> {
    let pattern: IdPattern = id.parse()?;
    let (ledger, sight) = (ledger.clone(), asked.reader.sight.clone().whole_only());
    blocking(move || {
        let record = ledger.get_seen(&pattern, &sight)?;
        let tree = tree(&ledger)?;
        let document = tree.prove(record.index, &record.leaf).map_err(|error| broken(&error))?;
        document.map(|document| (record.id, document)).ok_or_else(|| {
            let detail = "no checkpoint covers this record yet; one does within two seconds".to_owned();
            Problem::new(StatusCode::CONFLICT, "not-yet-provable", detail)
        })
    })
    .await
}

/// Waits until a checkpoint covers what stands in the ledger now; gives up in silence, because what is not covered is told.
pub(super) async fn signed(ledger: &Ledger) -> Result<(), Problem> {
    let tree = tree(ledger)?;
    let wanted = ledger.inner().shelf.next_index();
    for _ in 0..LOOKS {
        if tree.covered() >= wanted {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The last signed checkpoint (C2SP tlog-checkpoint).
#[utoipa::path(
    get, path = "/v1/log/checkpoint", tag = "log",
    responses((status = 200, description = "a signed note"), (status = 404, description = "nothing is signed yet")),
)]
pub(super) async fn checkpoint(State(ledger): State<Ledger>) -> Result<Response, Problem> {
    match tree(&ledger)?.signed() {
        Some(signed) => Ok(text(signed.note.clone())),
        None => Err(none("nothing is signed yet")),
    }
}

/// Name and keys of the log, and where it begins.
#[utoipa::path(get, path = "/v1/log/keys", tag = "log", responses((status = 200, description = "verifier keys, the newest first, with `since`, `until` and whether they sign now")))]
pub(super) async fn keys(State(ledger): State<Ledger>) -> Result<Response, Problem> {
    told(&ledger)
}

/// Makes a new key. It signs from now on, and those before it for 24 hours; the change is on record, signed by the old key.
#[utoipa::path(post, path = "/v1/log/keys:rotate", tag = "log", responses((status = 200, description = "the keys, as `/v1/log/keys` tells them"), (status = 409, description = "too many keys sign")))]
pub(super) async fn rotate(
    State(ledger): State<Ledger>,
    principal: Option<Extension<Principal>>,
) -> Result<Response, Problem> {
    let Some(Extension(by)) = principal else { return Err(nobody()) };
    ledger.rotate_key(by).await.map_err(|error| match error {
        LedgerError::Keys(_) => Problem::new(StatusCode::CONFLICT, "log-key-kept", error.to_string()),
        LedgerError::NotRecorded(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", error.to_string())
        }
        error => Problem::internal(&error),
    })?;
    told(&ledger)
}

fn told(ledger: &Ledger) -> Result<Response, Problem> {
    let tree = tree(ledger)?;
    let time = |time: Option<UnixTime>| time.map(|time| time.to_string());
    let keys: Vec<Value> = (tree.keys().iter())
        .map(|(key, known)| {
            json!({
                "id": key.id_hex(), "key": key.to_string(), "since": time(known.since), "until": time(known.until),
                "signs": known.signs,
            })
        })
        .collect();
    Ok(json_answer(&json!({
        "apiVersion": "portcullis/v1", "kind": "LogKeys", "origin": tree.origin,
        "base": tree.base.to_string(), "first": ledger.inner().shelf.first_index().to_string(), "keys": keys,
    }))
    .0)
}

/// That the log of an earlier size is the beginning of the log of the last checkpoint.
#[utoipa::path(
    get, path = "/v1/log/consistency", tag = "log",
    params(("from" = u64, Query, description = "size of the earlier checkpoint")),
    responses((status = 200, description = "`path` from that size to the size of `checkpoint`")),
)]
pub(super) async fn consistency(
    State(ledger): State<Ledger>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let from = match pairs.as_slice() {
        [(name, from)] if name == "from" => from.parse().ok(),
        _ => None,
    };
    let from: u64 = from.ok_or_else(|| {
        let detail = "`from` must be the size of an earlier checkpoint, and nothing else is asked".to_owned();
        Problem::new(StatusCode::BAD_REQUEST, "bad-query", detail)
    })?;
    blocking(move || {
        let tree = tree(&ledger)?;
        let proof = tree.consistency(from).map_err(|error| broken(&error))?;
        let grown = proof.ok_or_else(|| none("the last checkpoint is not that large"))?;
        let path: Vec<_> = grown.path.iter().map(ToString::to_string).collect();
        Ok(json_answer(&json!({
            "apiVersion": "portcullis/v1", "kind": "ConsistencyProof", "from": from.to_string(), "path": path,
            "checkpoint": grown.signed.note,
        }))
        .0)
    })
    .await
}

/// A tile of hashes, or below `entries/` a bundle of records (C2SP tlog-tiles).
#[utoipa::path(
    get, path = "/v1/log/tile/{path}", tag = "log",
    params(("path" = String, Path, description = "`0/x001/234`, `0/x001/234.p/17`, `entries/x001/234`")),
    responses((status = 200, description = "the bytes"), (status = 404, description = "not published, or removed by retention")),
)]
pub(super) async fn tile(
    State(ledger): State<Ledger>,
    principal: Option<Extension<Principal>>,
    credential: Option<Extension<Arc<Credential>>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix(TILES).unwrap_or_default();
    let missing = || none("no such tile is published");
    let (level, index) = path.split_once('/').ok_or_else(missing)?;
    let (index, width) = parse_index(index).ok_or_else(missing)?;
    let level = match level {
        "entries" => None,
        digits => {
            let level: u32 = digits.parse().ok().filter(|level| *level < 64).ok_or_else(missing)?;
            Some(level).filter(|level| level.to_string() == digits).ok_or_else(missing).map(Some)?
        }
    };
    let held = ledger.clone();
    let bytes = blocking(move || {
        let tree = tree(&held)?;
        match level {
            Some(level) => tree.tile_bytes(TileId { level, index }, width).map_err(|error| broken(&error)),
            None => Ok(bundle(&held, &tree, index, width)),
        }
    })
    .await?;
    // Hashes are no records; whoever reads these is on record as every reader is (RR4).
    if level.is_none() {
        let Some(Extension(by)) = principal else { return Err(nobody()) };
        let read = ReadRecord {
            count: bytes.as_ref().map_or(0, |_| width as u64),
            bytes: bytes.as_ref().map_or(0, Vec::len) as u64,
            failed: bytes.is_none().then(|| "not-in-the-log".to_owned()),
            credential: credential.map(|Extension(credential)| credential),
            ..ReadRecord::new(by, "entries", path.to_owned(), ledger.inner().clock.now())
        };
        put(&ledger, read)?;
    }
    let bytes = bytes.ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")], bytes)
        .into_response())
}

/// Records of a published size, each behind its length.
fn bundle(ledger: &Ledger, tree: &Tree, index: u64, width: usize) -> Option<Vec<u8>> {
    let size = tree.covered().saturating_sub(tree.base);
    if (TileId { level: 0, index }).width(size) < width {
        return None;
    }
    let first = tree.base + index * WIDTH as u64;
    let (inner, mut out) = (ledger.inner(), Vec::new());
    let range = first..first + width as u64;
    let end = each_leaf(&inner.shelf, inner.disk.as_ref(), range.clone(), |_, leaf| {
        let Ok(length) = u16::try_from(leaf.len()) else { return std::ops::ControlFlow::Break(()) };
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
        std::ops::ControlFlow::Continue(())
    });
    end.is_ok_and(|end| end == range.end).then_some(out)
}

fn tree(ledger: &Ledger) -> Result<Arc<Tree>, Problem> {
    ledger.inner().tree.clone().ok_or_else(|| none("this ledger has no tree"))
}

fn none(detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-in-the-log", detail.to_owned())
}

/// What is not as it was signed is told, and nothing is proved with it.
fn broken(error: &TreeError) -> Problem {
    tracing::error!(event = "ledger_proof_failed", %error, "a proof could not be made");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "log-damaged", error.to_string())
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))?
}
