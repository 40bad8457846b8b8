//! `POST /v1/svids:signJwt`: an agent has a JWT-SVID made for one of its entries and an audience (S24, WA-10).

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asker::Asker;
use super::body::Json;
use super::problem::Problem;
use crate::Authority;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignTokenBody {
    /// The entry; the authority takes the SPIFFE ID from it.
    entry_id: String,
    /// Whom the token is for: 1 to 8 names.
    audience: Vec<String>,
}

/// A fresh JWT-SVID.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenBody {
    /// The identity.
    spiffe_id: String,
    /// The token in compact form.
    token: String,
    /// RFC 3339.
    issued_at: String,
    /// RFC 3339.
    expires_at: String,
    /// True when the lifetime is shorter than the entry asked for.
    ttl_clamped: bool,
}

/// Signs a JWT-SVID for an entry of the agent that asks, for one audience or several.
#[utoipa::path(
    post, path = "/v1/svids:signJwt", request_body = SignTokenBody,
    responses((status = 200, body = TokenBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn sign(
    State(authority): State<Arc<Authority>>,
    Asker(requester): Asker,
    Json(body): Json<SignTokenBody>,
) -> Result<axum::Json<TokenBody>, Problem> {
    let issued = Box::pin(authority.sign_token(requester, &body.entry_id, body.audience)).await?;
    Ok(axum::Json(TokenBody {
        spiffe_id: issued.id.to_string(),
        token: issued.token,
        issued_at: issued.issued.to_string(),
        expires_at: issued.expires.to_string(),
        ttl_clamped: issued.ttl_clamped,
    }))
}
