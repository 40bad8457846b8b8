//! Refusals of the API as RFC 9457 problem documents.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One problem document.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    title: String,
    code: Option<&'static str>,
    detail: Option<String>,
    hint: Option<String>,
    next: Option<String>,
    decision: Option<String>,
    /// Findings about what was sent, each with its own place.
    errors: Vec<Value>,
    /// Members of this kind of problem alone.
    more: Vec<(&'static str, Value)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            code: None,
            detail: None,
            hint: None,
            next: None,
            decision: None,
            errors: Vec::new(),
            more: Vec::new(),
        }
    }

    /// A fault of ours, PC9001.
    pub(crate) fn fault(title: impl Into<String>, cause: &dyn std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title).code("PC9001").detail(cause.to_string())
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The code of the registry, which is also the type of the problem.
    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// A command that works in this state.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub(crate) fn errors(mut self, errors: impl IntoIterator<Item = Value>) -> Self {
        self.errors.extend(errors);
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    pub(crate) fn decision(mut self, id: &str) -> Self {
        self.decision = Some(id.to_owned());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self
            .code
            .map_or_else(|| "about:blank".to_owned(), |code| format!("urn:portcullis:problem:{code}"));
        let mut document = json!({ "type": kind, "title": self.title, "status": self.status.as_u16() });
        if let Some(members) = document.as_object_mut() {
            let code = self.code.map(str::to_owned);
            let optional = [
                ("code", &code),
                ("detail", &self.detail),
                ("hint", &self.hint),
                ("next", &self.next),
                ("decision_id", &self.decision),
            ];
            members.extend(
                optional
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.clone()?)))),
            );
            if !self.errors.is_empty() {
                members.insert("errors".to_owned(), Value::from(self.errors));
            }
            members.extend(self.more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string())
            .into_response()
    }
}
