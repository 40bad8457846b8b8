//! The table of keys as a JSON Schema for editors, and as text for `config explain`.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind};

/// JSON Schema 2020-12 of the configuration file.
pub(crate) fn json_schema() -> Value {
    let mut schema = object("");
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".to_owned(), json!("portcullis.toml"));
    }
    schema
}

/// Everything about one key, or about each key of a section; `None` when there is none.
pub(crate) fn explain(path: &str) -> Option<String> {
    let key = keys::find(path)?;
    let mut text = about(key);
    if matches!(key.kind, Kind::Table | Kind::Tables) {
        for (_, below) in keys::children(path) {
            text.push('\n');
            text.push_str(&about(below));
        }
    }
    Some(text)
}

/// All key paths, for did-you-mean on `config explain`.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    keys::all().map(|key| key.path)
}

fn about(key: &Key) -> String {
    let presence = match (key.required, key.default) {
        (true, _) => "required".to_owned(),
        (false, None | Some("")) => "optional".to_owned(),
        (false, Some(default)) => format!("default {default}"),
    };
    let mut text = format!("{}\n  {}\n  {}; {presence}\n", key.path, key.text, key.kind.wanted());
    if !matches!(key.kind, Kind::Table | Kind::Tables) {
        text.push_str(&format!(
            "  example: {} = {}\n",
            key.path.rsplit('.').next().unwrap_or(key.path),
            key.example
        ));
    }
    if !matches!(key.kind, Kind::Table) {
        let when = if keys::is_live(key.path) { "reload" } else { "restart" };
        text.push_str(&format!("  takes effect: at a {when}\n"));
    }
    if let Some(variable) = key.variable() {
        text.push_str(&format!("  environment: {variable}\n"));
    }
    text
}

fn object(path: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, key) in keys::children(path) {
        let mut schema = of_kind(&key.kind, key.path);
        if let Some(members) = schema.as_object_mut() {
            members.insert("description".to_owned(), json!(key.text));
            if let (Some(default), true) =
                (key.default, matches!(key.kind, Kind::Text | Kind::Duration | Kind::Choice(_) | Kind::Path))
            {
                members.insert("default".to_owned(), json!(default));
            }
        }
        properties.insert(name.to_owned(), schema);
        if key.required {
            required.push(name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn of_kind(kind: &Kind, path: &str) -> Value {
    match kind {
        Kind::Text | Kind::Path => json!({ "type": "string" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|min|h|d)$" }),
        Kind::Size => json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" }),
        Kind::TrustDomain => json!({ "type": "string", "pattern": "^[a-z0-9._-]{1,255}$" }),
        Kind::SpiffeId => {
            json!({ "type": "string", "pattern": "^spiffe://[a-z0-9._-]+(/[a-zA-Z0-9._-]+)*$" })
        }
        Kind::Selector => json!({ "type": "string", "pattern": "^[a-z0-9_]+:.+$" }),
        Kind::Address(schemes) | Kind::Endpoint(schemes) => {
            json!({ "type": "string", "pattern": format!("^({})://.+$", schemes.join("|")) })
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List(of) => json!({ "type": "array", "items": of_kind(of, path) }),
        Kind::Table => object(path),
        Kind::Tables => json!({ "type": "array", "items": object(path) }),
    }
}
