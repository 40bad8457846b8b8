//! Questions in JSON bodies: the filters of a listing as members of `filter`, and what the call adds.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Asked, Problem, Service};
use crate::{Query, query::QueryError};

/// Members that every such question has.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// Name and value pairs as in the URL of a listing.
    pub(super) pairs: Vec<(String, String)>,
    pub(super) cursor: Option<String>,
}

impl Question {
    /// Reads `since`, `until` and `filter`.
    pub(super) fn new(
        since: Option<String>,
        until: Option<String>,
        filter: Map<String, Value>,
        cursor: Option<String>,
    ) -> Result<Self, Problem> {
        let mut pairs = filters(filter)?;
        pairs.extend(since.map(|since| ("since".to_owned(), since)));
        pairs.extend(until.map(|until| ("until".to_owned(), until)));
        Ok(Self { pairs, cursor })
    }

    /// The question as that reader may ask it, from where its cursor stands. `bound` is what a cursor is bound to
    /// besides.
    pub(super) fn query(&self, service: &Service, asked: &Asked, bound: &str) -> Result<Query, QueryError> {
        let now = service.ledger.inner().clock.now().wall;
        let query = asked.reader.asks(Query::parse(&self.pairs, now)?).for_call(bound);
        match &self.cursor {
            Some(cursor) => service.ledger.resume(query, cursor),
            None => Ok(query),
        }
    }
}

/// Filters of a body as name and value pairs.
pub(super) fn filters(filter: Map<String, Value>) -> Result<Vec<(String, String)>, Problem> {
    let mut pairs = Vec::new();
    for (name, value) in filter {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => {
                let detail = format!("filter `{name}`: a text is expected");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-filter-value", detail));
            }
        };
        if ["limit", "order", "cursor", "watch", "from"].contains(&name.as_str()) {
            let detail = format!("`{name}` is no filter");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "unknown-filter", detail));
        }
        pairs.push((name, text));
    }
    Ok(pairs)
}

/// Reads a body strictly: unknown members are refused (RA7).
pub(super) fn read<T: for<'de> Deserialize<'de>>(headers: &HeaderMap, bytes: &Bytes) -> Result<T, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media.split(';').next().is_none_or(|media| !media.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "content-type: application/json is expected".to_owned();
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-body", error.to_string()))
}
