//! `POST /v1/svids:sign`: an agent has a workload's certificate request signed for one of its entries (S24).

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::asker::Asker;
use super::body::{self, Json};
use super::issued::IssuedBody;
use super::problem::Problem;
use crate::Authority;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignBody {
    /// The entry; the authority takes the SPIFFE ID from it.
    entry_id: String,
    /// Base64 of the DER of a PKCS#10 request.
    csr: String,
}

/// Signs for an entry of the agent that asks. Of the request only the public key is taken.
#[utoipa::path(
    post, path = "/v1/svids:sign", request_body = SignBody,
    responses((status = 200, body = IssuedBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn sign(
    State(authority): State<Arc<Authority>>,
    Asker(requester): Asker,
    Json(body): Json<SignBody>,
) -> Result<axum::Json<IssuedBody>, Problem> {
    let csr = body::csr(&body.csr)?;
    let issued = Box::pin(authority.sign(requester, &body.entry_id, &csr)).await?;
    Ok(axum::Json(issued.into()))
}
