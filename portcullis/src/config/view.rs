//! The effective configuration: what runs, and where each value came from.

use serde_json::{Map, Value as Json, json};

use super::read::{Origin, Table, Value};
use super::value::{print_duration, print_size};

/// The checked tree as JSON; with `origins` each value is `{value, origin}`.
pub(crate) fn view(table: &Table, origins: bool) -> Json {
    let mut members = Map::new();
    for (name, (value, _, origin)) in &table.entries {
        let shown = show(value, origins);
        let shown = match value {
            Value::Table(_) | Value::Tables(_) => shown,
            _ if origins => json!({ "value": shown, "origin": print(origin) }),
            _ => shown,
        };
        members.insert((*name).to_owned(), shown);
    }
    Json::Object(members)
}

fn show(value: &Value, origins: bool) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::Duration(duration) => json!(print_duration(*duration)),
        Value::Size(bytes) => json!(print_size(*bytes)),
        Value::Path(path) => json!(path.display().to_string()),
        Value::TrustDomain(domain) => json!(domain.as_str()),
        Value::SpiffeId(id) => json!(id.as_str()),
        Value::Selector(selector) => json!(selector.to_string()),
        Value::Address(address) => json!(address.to_string()),
        Value::List(items) => items.iter().map(|item| show(item, false)).collect(),
        Value::Table(table) => view(table, origins),
        Value::Tables(tables) => tables.iter().map(|table| view(table, origins)).collect(),
    }
}

fn print(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Environment(name) => name.clone(),
        Origin::File { line } => format!("line {line}"),
    }
}
