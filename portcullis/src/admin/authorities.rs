//! `GET /v1/authorities` and `POST /v1/agents:token`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ca_authority::{Authority, KeyKind, KeyState};
use ca_identity::spki_sha256;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;
use crate::assemble::fingerprint;

/// Root and signing keys.
#[utoipa::path(get, path = "/v1/authorities", responses((status = 200, description = "keys with state and expiry")))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let keys = api.authority.as_ref().map(|authority| authority.keys()).unwrap_or_default();
    let items: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({
                "kind": key.kind.as_str(), "state": key.state.as_str(), "tainted": key.tainted, "key_id": key.key_id.to_string(),
                "not_before": key.not_before.to_string(), "not_after": key.not_after.to_string(),
            })
        })
        .collect();
    Json(json!({ "apiVersion": "portcullis/v1", "kind": "AuthorityList", "items": items }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    ttl: Option<String>,
    /// How the other host reaches this authority, as a URL.
    authority: Option<String>,
}

/// A join token, good for one agent, once; and the configuration of the host that uses it.
#[utoipa::path(post, path = "/v1/agents:token", responses((status = 201, description = "the token; it is shown only here")))]
pub(super) async fn token(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let request: TokenRequest = match serde_json::from_slice(if body.is_empty() { b"{}" } else { &body }) {
        Ok(request) => request,
        Err(error) => {
            return Problem::new(StatusCode::BAD_REQUEST, "malformed body")
                .detail(error.to_string())
                .into_response();
        }
    };
    let ttl = match crate::config::duration(request.ttl.as_deref().unwrap_or("10m")) {
        Ok(ttl) => ttl,
        Err(fault) => {
            return Problem::new(StatusCode::BAD_REQUEST, "malformed ttl").detail(fault).into_response();
        }
    };
    let Some(authority) = &api.authority else {
        return Problem::new(StatusCode::NOT_FOUND, "no authority runs here").into_response();
    };
    match authority.create_join_token(ttl).await {
        Ok(token) => {
            let (place, root) = (place(&api, request.authority), fingerprint_of_root(authority));
            let join =
                place.as_ref().zip(root.as_ref()).map(|(place, root)| configuration(&api, place, root));
            let body = json!({
                "apiVersion": "portcullis/v1", "kind": "JoinToken", "token": token.token, "expires": token.expires.to_string(),
                "authority": place, "fingerprint": root, "join": join,
            });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Err(error) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no token")
            .detail(error.to_string())
            .into_response(),
    }
}

/// How other hosts reach the authority of this process: as the caller says, else where it listens.
fn place(api: &Api, said: Option<String>) -> Option<String> {
    let listen = api.configuration.in_force().ca.as_ref()?.listen?;
    let host = match listen.ip() {
        any if any.is_unspecified() => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        IpAddr::V6(address) => format!("[{address}]"),
        IpAddr::V4(address) => address.to_string(),
    };
    Some(said.unwrap_or_else(|| format!("https://{host}:{}", listen.port())))
}

/// By what a host tells this authority from others.
fn fingerprint_of_root(authority: &Authority) -> Option<String> {
    let keys = authority.keys();
    let root = keys.iter().find(|key| key.kind == KeyKind::Root && key.state == KeyState::Active)?;
    Some(fingerprint(&spki_sha256(root.certificate()?)))
}

/// The file of a host that joins.
fn configuration(api: &Api, authority: &str, root: &str) -> String {
    format!(
        "version = 1\ntrust_domain = \"{}\"\ndata_dir = \"./data\"\n\n[join]\nauthority = \"{authority}\"\nfingerprint = \"{root}\"\ntoken_file = \"./join.token\"\n\n[agent]\n",
        api.trust_domain
    )
}
