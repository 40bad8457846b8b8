//! `POST /v1/svids:sign`: an agent has a workload's certificate request signed for one of its entries (S24).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Caller;
use super::body::{self, Json};
use super::issued::IssuedBody;
use super::problem::Problem;
use crate::{Authority, Requester};

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
    caller: Option<Extension<Caller>>,
    Json(body): Json<SignBody>,
) -> Result<axum::Json<IssuedBody>, Problem> {
    let requester = requester(caller)?;
    let csr = body::csr(&body.csr)?;
    let issued = Box::pin(authority.sign(requester, &body.entry_id, &csr)).await?;
    Ok(axum::Json(issued.into()))
}

/// Who has something signed.
pub(crate) fn requester(caller: Option<Extension<Caller>>) -> Result<Requester, Problem> {
    match caller.map(|Extension(caller)| caller).unwrap_or_default() {
        Caller::Local { .. } => Ok(Requester::Local),
        Caller::Svid(id) => Ok(Requester::Agent(id)),
        Caller::Anonymous => {
            let detail = "signing needs the SVID of an attested agent";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail))
        }
    }
}
