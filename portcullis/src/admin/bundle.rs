//! `GET /v1/bundle`: what verifies SVIDs of the own trust domain. Nothing in it is secret.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ca_identity::pem;
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;

/// The bundle as a list of keys, as PEM and as a SPIFFE bundle.
#[utoipa::path(get, path = "/v1/bundle", responses((status = 200, description = "the roots and JWT keys of the trust domain"), (status = 404, description = "no authority runs here")))]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let Some(authority) = &api.authority else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no authority runs here"));
    };
    let bundle = authority.bundle();
    let roots = bundle.anchors().iter().map(|root| {
        json!({
            "use": "x509-svid", "key_id": root.key_id().to_string(),
            "not_before": root.not_before().to_string(), "not_after": root.not_after().to_string(),
        })
    });
    let tokens = bundle.jwt_keys().iter().map(|key| json!({ "use": "jwt-svid", "key_id": key.kid() }));
    let spiffe: Value = serde_json::from_str(&bundle.to_jwks())
        .map_err(|error| Problem::fault("the bundle cannot be shown", &error))?;
    Ok(Json(json!({
        "apiVersion": "portcullis/v1", "kind": "Bundle",
        "trust_domain": bundle.trust_domain.as_str(), "sequence": bundle.sequence,
        "refresh_hint_seconds": bundle.refresh_hint.as_secs(),
        "keys": roots.chain(tokens).collect::<Vec<_>>(),
        "pem": pem::write_certificates(bundle.certificates()),
        "spiffe_bundle": spiffe,
    })))
}
