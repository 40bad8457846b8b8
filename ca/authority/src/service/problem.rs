//! Errors as RFC 9457 problem documents: the one function that makes a status of an error.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{AuthorityError, Fault};

/// A problem document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem.
    pub r#type: String,
    /// The same for people.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What exactly is wrong.
    pub detail: String,
    /// A stable word.
    pub code: &'static str,
    /// The recorded decision, when policy refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:portcullis:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            decision_id: None,
        }
    }
}

impl From<AuthorityError> for Problem {
    fn from(error: AuthorityError) -> Self {
        let status = match error.fault() {
            Fault::Request => StatusCode::BAD_REQUEST,
            Fault::Denied => StatusCode::FORBIDDEN,
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::Conflict => StatusCode::CONFLICT,
            Fault::Stale => StatusCode::PRECONDITION_FAILED,
            Fault::Limited => StatusCode::TOO_MANY_REQUESTS,
            Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // What is broken inside is told to the log, not to the requester.
        let detail = match error.fault() {
            Fault::Internal => "the authority failed; its log says why".to_owned(),
            Fault::Unavailable => "the authority cannot do this now".to_owned(),
            _ => error.to_string(),
        };
        if matches!(error.fault(), Fault::Internal | Fault::Unavailable) {
            tracing::error!(error = %error, code = error.code(), "request failed");
        }
        let mut problem = Self::new(status, error.code(), detail);
        if let AuthorityError::GateRefused { decision_id } = error {
            problem.decision_id = Some(decision_id);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match StatusCode::from_u16(self.status) {
            Ok(StatusCode::SERVICE_UNAVAILABLE) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Ok(StatusCode::TOO_MANY_REQUESTS) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// A known path, another method. The router adds `Allow`.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path knows other methods")
}
