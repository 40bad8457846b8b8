//! The authority over HTTP: routers without sockets, for `portcullis` to serve (S12).
//!
//! Who asks is a request extension [`Caller`] that the listener puts there from peer credentials or a verified SVID;
//! without one the caller is anonymous. Whether a caller may administer entries is decided before a request comes
//! here; whether an agent may have an entry signed is decided here.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use ca_identity::SpiffeId;
use utoipa::OpenApi;

use crate::Authority;

mod agents;
mod asker;
mod attest;
mod body;
mod bundle;
mod crls;
mod entries;
mod federations;
mod issued;
mod keys;
mod mint;
mod oidc;
mod problem;
mod renew;
mod revocations;
mod sign;
mod sign_token;
mod sync;

pub use bundle::{Source, bundle};
pub use issued::PolicyKeys;
pub use oidc::{Oidc, oidc};
pub use problem::Problem;

/// Who asks, as the listener knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Caller {
    /// A local process on the Unix socket.
    Local {
        /// Its user.
        uid: u32,
    },
    /// The holder of a verified SVID. Where agents ask, the listener adds the SVID itself as [`crate::AgentSvid`].
    Svid(SpiffeId),
    /// Nobody known.
    #[default]
    Anonymous,
}

/// Evidence or CSR with room to spare; an attestation is a few kilobytes.
const ENROLMENT_BODY_LIMIT: usize = 64 * 1024;
const ENTRY_BODY_LIMIT: usize = 1024 * 1024;
/// A bundle of 1 MiB as a JSON string, escaped, with room to spare.
const BUNDLE_BODY_LIMIT: usize = 4 * 1024 * 1024;

/// What agents of other hosts ask (S24): attestation, for anybody; renewal, the stream of what they have to know, and signing,
/// for who shows the SVID of an agent. With the extension [`PolicyKeys`] agents are told whose policies they may believe.
pub fn enrolment(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/agents:attest", post(attest::attest))
        .route("/v1/agents:renew", post(renew::renew))
        .route("/v1/agents:sync", post(sync::sync))
        .route("/v1/agents:acknowledge", post(sync::acknowledge))
        .route("/v1/svids:sign", post(sign::sign))
        .route("/v1/svids:signJwt", post(sign_token::sign))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENROLMENT_BODY_LIMIT))
        .with_state(authority)
}

/// `/v1/agents`, for administrators. Authorization stands in front of it.
pub fn agents(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/agents", get(agents::list))
        .route("/v1/agents/{*name}", get(agents::get))
        .route("/v1/agents:ban", post(agents::ban))
        .route("/v1/agents:evict", post(agents::evict))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENROLMENT_BODY_LIMIT))
        .with_state(authority)
}

/// `/v1/entries`, for administrators. Authorization stands in front of it.
pub fn entries(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/entries", get(entries::list).post(entries::create))
        .route("/v1/entries/{id}", get(entries::get).put(entries::update).delete(entries::delete))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENTRY_BODY_LIMIT))
        .with_state(authority)
}

/// `/v1/revocations` and `GET /v1/svids`, for administrators. Authorization stands in front of it.
pub fn revocations(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/svids", get(revocations::issued))
        .route("/v1/revocations", get(revocations::list).post(revocations::revoke))
        .route("/v1/revocations:lift", post(revocations::lift))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENROLMENT_BODY_LIMIT))
        .with_state(authority)
}

/// `POST /v1/svids:mint`, for administrators. Authorization stands in front of it.
pub fn mint(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/svids:mint", post(mint::mint))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENROLMENT_BODY_LIMIT))
        .with_state(authority)
}

/// `GET /v1/crls`, for everybody whom the listener lets ask.
pub fn crls(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/crls", get(crls::list))
        .route("/v1/crls/{key_id}", get(crls::get))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(authority)
}

/// `/v1/federations`, for administrators. Authorization stands in front of it.
pub fn federations(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/federations", get(federations::list).post(federations::create))
        .route(
            "/v1/federations/{domain}",
            get(federations::get)
                .put(federations::update)
                .delete(federations::delete)
                .post(federations::verb),
        )
        .route("/v1/federations/{domain}/bundle", get(federations::document).put(federations::set))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(BUNDLE_BODY_LIMIT))
        .with_state(authority)
}

/// The verbs of `/v1/authorities`, for administrators. Authorization stands in front of it.
pub fn keys(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/authorities:prepare", post(keys::prepare))
        .route("/v1/authorities:activate", post(keys::activate))
        .route("/v1/authorities:rotate", post(keys::rotate))
        .route("/v1/authorities:taint", post(keys::taint))
        .route("/v1/authorities:revoke", post(keys::revoke))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENROLMENT_BODY_LIMIT))
        .with_state(authority)
}

#[derive(OpenApi)]
#[openapi(paths(
    attest::attest,
    renew::renew,
    sync::sync,
    sync::acknowledge,
    agents::list,
    agents::get,
    agents::ban,
    agents::evict,
    sign::sign,
    sign_token::sign,
    entries::list,
    entries::create,
    entries::get,
    entries::update,
    entries::delete,
    mint::mint,
    crls::list,
    crls::get,
    revocations::issued,
    revocations::list,
    revocations::revoke,
    revocations::lift,
    keys::prepare,
    keys::activate,
    keys::rotate,
    keys::taint,
    keys::revoke,
    federations::list,
    federations::create,
    federations::get,
    federations::update,
    federations::delete,
    federations::verb,
    federations::document,
    federations::set
))]
struct Document;

/// The part of the OpenAPI document that describes these routers.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests;
