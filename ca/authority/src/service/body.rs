//! Reading requests strictly: JSON only, no unknown field, no unknown query parameter (RA7).

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|found| found.eq_ignore_ascii_case("application/json")) {
            let detail = "the body must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
        }
        let body = Bytes::from_request(request, state).await.map_err(unread)?;
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(Self(value)),
            Err(fault) => Err(Problem::new(StatusCode::BAD_REQUEST, "body_invalid", fault.to_string())),
        }
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large")
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "body_unreadable", rejection.body_text()),
    }
}

/// Query parameters.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(fault) => Err(Problem::new(StatusCode::BAD_REQUEST, "query_invalid", fault.body_text())),
        }
    }
}

/// A certificate request in base64 of its DER.
pub(crate) fn csr(text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|fault| {
        let detail = format!("`csr` is not base64 of a DER certificate request: {fault}");
        Problem::new(StatusCode::BAD_REQUEST, "csr_invalid", detail)
    })
}
