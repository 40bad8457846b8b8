//! `POST /v1/agents:attest`: evidence and a certificate request in, an agent SVID out. Anybody may try (S24).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::{self, Json};
use super::issued::{EnrolledBody, PolicyKeys};
use super::problem::Problem;
use crate::{Authority, Evidence};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttestBody {
    evidence: EvidenceBody,
    /// Base64 of the DER of a PKCS#10 request.
    csr: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum EvidenceBody {
    JoinToken { token: String },
}

/// Makes an agent of a host: a join token and a certificate request for an SVID of an agent. A token is good once.
#[utoipa::path(
    post, path = "/v1/agents:attest", request_body = AttestBody,
    responses((status = 200, body = EnrolledBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn attest(
    State(authority): State<Arc<Authority>>,
    keys: Option<Extension<PolicyKeys>>,
    Json(body): Json<AttestBody>,
) -> Result<axum::Json<EnrolledBody>, Problem> {
    let csr = body::csr(&body.csr)?;
    let evidence = match body.evidence {
        EvidenceBody::JoinToken { token } => Evidence::JoinToken(token),
    };
    let issued = Box::pin(authority.attest(evidence, &csr)).await?;
    Ok(axum::Json(EnrolledBody::new(issued, keys)))
}
