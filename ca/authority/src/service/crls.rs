//! `/v1/crls`: revocation lists for those who know nothing of the deny set (RV-06). Nothing in them is secret.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use ca_identity::{KeyId, pem};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{Authority, Crl};

/// RFC 2585 4.2.
const MEDIA_TYPE: &str = "application/pkix-crl";

/// The revocation list of one authority.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CrlBody {
    /// `root` or `signing`: whose list it is.
    what: &'static str,
    /// The key that signed it, hexadecimal; its list alone is at `/v1/crls/` and this.
    key_id: String,
    /// Grows with each list; a decimal number.
    number: String,
    /// RFC 3339.
    this_update: String,
    /// RFC 3339.
    next_update: String,
    /// How many certificates it names.
    entries: usize,
    /// The list as PEM.
    pem: String,
}

impl From<&Crl> for CrlBody {
    fn from(list: &Crl) -> Self {
        Self {
            what: list.kind.as_str(),
            key_id: list.issuer.to_string(),
            number: list.number.to_string(),
            this_update: list.this_update.to_string(),
            next_update: list.next_update.to_string(),
            entries: list.entries,
            pem: pem::write_crl(&list.der),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CrlList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<CrlBody>,
}

/// The revocation lists of roots and signing CAs.
#[utoipa::path(get, path = "/v1/crls", responses((status = 200, body = CrlList)))]
pub(crate) async fn list(State(authority): State<Arc<Authority>>) -> axum::Json<CrlList> {
    let lists = Arc::clone(&authority.watch_crls().borrow());
    let items = lists.iter().map(CrlBody::from).collect();
    axum::Json(CrlList { api_version: "portcullis/v1", kind: "CrlList", items })
}

/// The revocation list of one key, in DER.
#[utoipa::path(
    get, path = "/v1/crls/{key_id}", params(("key_id" = String, Path, description = "hexadecimal")),
    responses((status = 200, description = "the list in DER", content_type = "application/pkix-crl"), (status = "4XX", body = Problem))
)]
pub(crate) async fn get(
    State(authority): State<Arc<Authority>>,
    Path(key_id): Path<String>,
) -> Result<Response, Problem> {
    let lists = Arc::clone(&authority.watch_crls().borrow());
    let key = KeyId::parse_hex(&key_id);
    let found = lists.iter().find(|list| Some(list.issuer) == key).ok_or_else(|| {
        let detail =
            format!("no authority `{key_id}` has a revocation list; GET /v1/crls names those that do");
        Problem::new(StatusCode::NOT_FOUND, "unknown_key", detail)
    })?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], found.der.to_vec()).into_response())
}
