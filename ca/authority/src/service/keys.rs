//! `/v1/authorities:prepare`, `:activate`, `:rotate`, `:taint` and `:revoke`: the authority's keys by a person's word
//! (AU-04). Authorization stands in front.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use ca_identity::KeyId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Caller;
use super::body::Json;
use super::problem::Problem;
use super::revocations::author;
use crate::{Authority, KeyInfo, KeyKind};

type Asker = Option<Extension<Caller>>;
type Answered = Result<axum::Json<KeyBody>, Problem>;

/// Which key is meant, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyInput {
    /// `root`, `signing` or `jwt`.
    kind: String,
    /// Of several old keys, this one.
    key_id: Option<String>,
    /// `:prepare`: in place of one that is prepared already.
    #[serde(default)]
    replace: bool,
    /// `:activate` and `:rotate`: without waiting until verifiers know it.
    #[serde(default)]
    force: bool,
    /// `:revoke`: although what it signed was not issued anew.
    #[serde(default)]
    skip_taint: bool,
    /// `:revoke`: why; goes on record.
    reason: Option<String>,
    /// `:revoke`: only tell what would be done.
    #[serde(default)]
    dry_run: bool,
}

impl KeyInput {
    fn kind(&self) -> Result<KeyKind, Problem> {
        KeyKind::parse(&self.kind).ok_or_else(|| {
            let detail = format!("`{}` is no kind; root, signing or jwt", self.kind);
            Problem::new(StatusCode::BAD_REQUEST, "kind_invalid", detail)
        })
    }

    fn key(&self) -> Result<Option<KeyId>, Problem> {
        let Some(text) = &self.key_id else { return Ok(None) };
        let detail = || format!("`{text}` is no key id of 40 hexadecimal digits");
        let read = KeyId::parse_hex(text);
        read.map(Some).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "key_invalid", detail()))
    }
}

/// An authority key after the step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    /// `root`, `signing` or `jwt`.
    what: &'static str,
    state: &'static str,
    tainted: bool,
    /// Hexadecimal.
    key_id: String,
    /// RFC 3339.
    not_after: String,
    /// The bundle that is in force now; a decimal number.
    bundle_sequence: String,
    /// How many live certificates it takes with it; only when it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_svids: Option<usize>,
}

impl KeyBody {
    fn of(authority: &Authority, key: &KeyInfo) -> axum::Json<Self> {
        axum::Json(Self {
            api_version: "portcullis/v1",
            kind: "Authority",
            what: key.kind.as_str(),
            state: key.state.as_str(),
            tainted: key.tainted,
            key_id: key.key_id.to_string(),
            not_after: key.not_after.to_string(),
            bundle_sequence: authority.bundle().sequence.to_string(),
            live_svids: None,
        })
    }
}

/// Makes a successor; a root or a key for tokens enters the bundle.
#[utoipa::path(post, path = "/v1/authorities:prepare", request_body = KeyInput, responses((status = 200, body = KeyBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn prepare(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<KeyInput>,
) -> Answered {
    let key = authority.prepare_key(input.kind()?, input.replace, &author(caller)).await?;
    Ok(KeyBody::of(&authority, &key))
}

/// Has the prepared key sign from now on.
#[utoipa::path(post, path = "/v1/authorities:activate", request_body = KeyInput, responses((status = 200, body = KeyBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn activate(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<KeyInput>,
) -> Answered {
    let key = authority.activate_key(input.kind()?, input.force, &author(caller)).await?;
    Ok(KeyBody::of(&authority, &key))
}

/// Prepares a successor unless one waits, and activates it once this process knows it.
#[utoipa::path(post, path = "/v1/authorities:rotate", request_body = KeyInput, responses((status = 200, body = KeyBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn rotate(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<KeyInput>,
) -> Answered {
    let key = authority.rotate_key(input.kind()?, input.force, &author(caller)).await?;
    Ok(KeyBody::of(&authority, &key))
}

/// Has everything that an old key signed issued anew.
#[utoipa::path(post, path = "/v1/authorities:taint", request_body = KeyInput, responses((status = 200, body = KeyBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn taint(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<KeyInput>,
) -> Answered {
    let key = authority.taint_key(input.kind()?, input.key()?, &author(caller)).await?;
    Ok(KeyBody::of(&authority, &key))
}

/// Ends an old key for good; with `dry_run`, tells what that would do.
#[utoipa::path(post, path = "/v1/authorities:revoke", request_body = KeyInput, responses((status = 200, body = KeyBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn revoke(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<KeyInput>,
) -> Answered {
    let (kind, key, skip) = (input.kind()?, input.key()?, input.skip_taint);
    if input.dry_run {
        let (key, live) = authority.plan_key_revocation(kind, key, skip).await?;
        let axum::Json(body) = KeyBody::of(&authority, &key);
        return Ok(axum::Json(KeyBody { live_svids: Some(live), ..body }));
    }
    let (by, reason) = (author(caller), input.reason.unwrap_or_default());
    let key = authority.revoke_key(kind, key, skip, (&by, &reason)).await?;
    Ok(KeyBody::of(&authority, &key))
}
