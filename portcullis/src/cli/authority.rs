//! What commands read of answers: members, items, lists that come in pages.

use serde_json::Value;

use super::decisions;
use crate::client::{Client, Fault};

/// As many items as the API gives at once.
const PAGE: usize = 1000;

/// A member of an answer, empty where it has none.
pub(crate) fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list answer.
pub(crate) fn items(list: Value) -> Vec<Value> {
    match list {
        Value::Object(mut members) => match members.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// Every item of a list that comes in pages.
pub(crate) async fn every(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
) -> Result<Vec<Value>, Fault> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let more = [("limit", PAGE.to_string())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor)));
        let query: Vec<_> = query.iter().cloned().chain(more).collect();
        let page = client.get(&decisions::path(path, &query)).await?;
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        found.extend(items(page));
        if cursor.is_none() {
            return Ok(found);
        }
    }
}
