//! RFC 9457 problems, the only error form of the service (RA2).

use std::{error::Error, time::Duration};

use axum::{
    http::StatusCode,
    response::{AppendHeaders, IntoResponse, Response},
};
use serde_json::{Map, Value};

use crate::{PatternError, QueryError, cursor::CursorError, leaf::json_text};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    /// Seconds after which another try makes sense.
    retry: Option<u64>,
    members: Map<String, Value>,
}

impl Problem {
    /// `code` is for programs and stable; `detail` is for people.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: String) -> Self {
        let mut members = Map::new();
        members.insert("type".to_owned(), format!("urn:portcullis:problem:{code}").into());
        members.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
        members.insert("status".to_owned(), status.as_u16().into());
        members.insert("detail".to_owned(), detail.into());
        members.insert("code".to_owned(), code.into());
        Self { status, code, retry: None, members }
    }

    /// A fault of ours: logged in full, told in general.
    pub(super) fn internal(error: &dyn Error) -> Self {
        let source = error.source().map(ToString::to_string);
        tracing::error!(event = "decisions_query_failed", %error, source, "a decision query failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ledger-unreadable",
            "the ledger cannot be read".to_owned(),
        )
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// Another try makes sense after that time.
    pub(super) fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after.as_secs() + 1);
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json_text(&Value::Object(self.members));
        let retry = self.retry.map(|seconds| [("retry-after", seconds.to_string())]);
        let fixed = [("content-type", "application/problem+json"), ("cache-control", "no-store")];
        (self.status, fixed, retry.map(AppendHeaders), body).into_response()
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        let (status, code, suggestion) = match error {
            QueryError::Unknown { suggestion, .. } => (StatusCode::BAD_REQUEST, "unknown-filter", suggestion),
            QueryError::Value { suggestion, .. } => (StatusCode::BAD_REQUEST, "bad-filter-value", suggestion),
            QueryError::Twice(_) => (StatusCode::BAD_REQUEST, "repeated-filter", None),
            QueryError::Cursor(CursorError::Foreign) => (StatusCode::BAD_REQUEST, "foreign-cursor", None),
            QueryError::Cursor(CursorError::Expired) => (StatusCode::GONE, "expired-cursor", None),
        };
        let problem = Problem::new(status, code, detail);
        match suggestion {
            Some(suggestion) => problem.with("hint", format!("did you mean `{suggestion}`?")),
            None => problem,
        }
    }
}

impl From<PatternError> for Problem {
    fn from(error: PatternError) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad-id", error.to_string())
    }
}
