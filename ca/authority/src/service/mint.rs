//! `POST /v1/svids:mint`: an administrator has a request signed for an identity without an entry. Of the request only the
//! public key is taken, so the private key never leaves whoever made it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use ca_identity::SpiffeId;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Caller;
use super::body::{self, Json};
use super::entries::duration;
use super::issued::IssuedBody;
use super::problem::Problem;
use super::revocations::author;
use crate::{Authority, Minting};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MintBody {
    /// The identity.
    spiffe_id: String,
    #[serde(default)]
    dns_names: Vec<String>,
    /// Such as `8h`; absent = as the authority does it.
    ttl: Option<String>,
    /// Base64 of the DER of a PKCS#10 request.
    csr: String,
}

/// Signs for an identity that needs no entry, once policies allow it to be issued.
#[utoipa::path(
    post, path = "/v1/svids:mint", request_body = MintBody,
    responses((status = 200, body = IssuedBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn mint(
    State(authority): State<Arc<Authority>>,
    caller: Option<Extension<Caller>>,
    Json(input): Json<MintBody>,
) -> Result<axum::Json<IssuedBody>, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "mint_invalid", detail);
    let spiffe_id = SpiffeId::parse(&input.spiffe_id)
        .map_err(|fault| invalid(format!("`{}`: {fault}", input.spiffe_id)))?;
    let ttl = match input.ttl {
        Some(text) => {
            Some(duration(&text).ok_or_else(|| invalid(format!("`{text}` is no duration; write `8h`")))?)
        }
        None => None,
    };
    let what = Minting { spiffe_id, dns_names: input.dns_names, ttl };
    let csr = body::csr(&input.csr)?;
    let issued = Box::pin(authority.mint(what, &csr, &author(caller))).await?;
    Ok(axum::Json(issued.into()))
}
