//! `POST /v1/agents:renew`: a new SVID for an agent that has one (NA-05, NA-06).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::asker::Asker;
use super::body::{self, Json};
use super::issued::{EnrolledBody, PolicyKeys};
use super::problem::Problem;
use crate::Authority;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewBody {
    /// Base64 of the DER of a PKCS#10 request.
    csr: String,
}

/// Signs for the agent that asks. The SVID that it shows holds until the new one is used.
#[utoipa::path(
    post, path = "/v1/agents:renew", request_body = RenewBody,
    responses((status = 200, body = EnrolledBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn renew(
    State(authority): State<Arc<Authority>>,
    Asker(requester): Asker,
    keys: Option<Extension<PolicyKeys>>,
    Json(RenewBody { csr }): Json<RenewBody>,
) -> Result<axum::Json<EnrolledBody>, Problem> {
    let csr = body::csr(&csr)?;
    let issued = Box::pin(authority.renew_agent(requester, &csr)).await?;
    Ok(axum::Json(EnrolledBody::new(issued, keys)))
}
