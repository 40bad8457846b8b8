//! Refusals of the API as RFC 9457 problem documents.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One problem document.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    title: String,
    detail: Option<String>,
    hint: Option<String>,
    decision: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: None, hint: None, decision: None }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn decision(mut self, id: &str) -> Self {
        self.decision = Some(id.to_owned());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document =
            json!({ "type": "about:blank", "title": self.title, "status": self.status.as_u16() });
        if let Some(members) = document.as_object_mut() {
            let optional = [("detail", &self.detail), ("hint", &self.hint), ("decision_id", &self.decision)];
            members.extend(
                optional
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.clone()?)))),
            );
        }
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string())
            .into_response()
    }
}
