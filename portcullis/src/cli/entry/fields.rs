//! What an entry says, as flags, as the body of a request, as text, and as differences between two of them.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::authority::word;
use crate::output;

/// What the authority adds to an entry by itself.
const OWN: [&str; 6] = ["apiVersion", "kind", "id", "revision", "created_at", "origin"];

/// Members of an entry, and the flags that set them.
const FLAGS: [(&str, &str); 8] = [
    ("selectors", "selector"),
    ("dns_names", "dns-name"),
    ("federates_with", "federates-with"),
    ("x509_ttl", "ttl"),
    ("jwt_ttl", "jwt-ttl"),
    ("hint", "hint"),
    ("namespace", "namespace"),
    ("parent_id", "parent"),
];

/// What an entry may say beyond identity and selectors.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// DNS name in the certificate; repeat for several
    #[arg(long = "dns-name")]
    dns_names: Vec<String>,
    /// Another trust domain whose bundle the workload gets; repeat for several
    #[arg(long = "federates-with", value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// Lifetime of the SVIDs
    #[arg(long, value_parser = super::super::run::parse_duration)]
    ttl: Option<Duration>,
    /// Lifetime of the JWT-SVIDs
    #[arg(long, value_parser = super::super::run::parse_duration)]
    jwt_ttl: Option<Duration>,
    /// Hint for workloads with several identities
    #[arg(long)]
    hint: Option<String>,
    /// Namespace in policies
    #[arg(long)]
    namespace: Option<String>,
    /// The agent whose workloads get it [default: every agent]
    #[arg(long, value_name = "SPIFFE_ID")]
    parent: Option<String>,
}

impl Fields {
    /// Writes what was given into a body.
    pub(super) fn write(&self, body: &mut Value) {
        let seconds = |ttl: Duration| json!(format!("{}s", ttl.as_secs()));
        let given = [
            ("dns_names", (!self.dns_names.is_empty()).then(|| json!(self.dns_names))),
            ("federates_with", (!self.federates_with.is_empty()).then(|| json!(self.federates_with))),
            ("x509_ttl", self.ttl.map(seconds)),
            ("jwt_ttl", self.jwt_ttl.map(seconds)),
            ("hint", self.hint.clone().map(Value::from)),
            ("namespace", self.namespace.clone().map(Value::from)),
            ("parent_id", self.parent.clone().map(Value::from)),
        ];
        for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            set(body, name, value);
        }
    }
}

pub(super) fn set(body: &mut Value, name: &str, value: Value) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// Takes members out, by the flags that set them.
pub(super) fn clear(body: &mut Value, flags: &[String]) {
    let Some(members) = body.as_object_mut() else { return };
    for (name, flag) in FLAGS {
        if flags.iter().any(|cleared| cleared == flag) {
            members.remove(name);
        }
    }
}

/// An entry as it was shown, as the body that would say the same.
pub(super) fn input(shown: &Value) -> Value {
    let members = shown.as_object().into_iter().flatten();
    let members = members.filter(|(name, _)| !OWN.contains(&name.as_str()));
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// What differs from `before` to `after`, one line a field.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<String> {
    let empty = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differs = |name: &&String| said(before.get(*name)) != said(after.get(*name));
    let line = |name: &String| format!("{name}: {} -> {}", said(before.get(name)), said(after.get(name)));
    names.into_iter().filter(differs).map(line).collect()
}

/// The entry as people read it, one line a field.
pub(super) fn text(entry: &Value) -> String {
    let fields = entry.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| *name != "apiVersion" && *name != "kind");
    let said = fields.map(|(name, value)| (name, said(Some(value)))).filter(|(_, said)| said != "-");
    said.map(|(name, said)| format!("{name:<11} {said}")).collect::<Vec<_>>().join("\n")
}

/// A value in one line. What is absent, empty or false is one and the same; lists of names are sets.
fn said(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            let mut items: Vec<String> = items.iter().map(|item| said(Some(item))).collect();
            items.sort_unstable();
            items.join(", ")
        }
        Some(Value::Object(members)) if members.is_empty() => "-".to_owned(),
        Some(Value::Object(members)) => {
            let pairs = members.iter().map(|(name, value)| format!("{name}={}", said(Some(value))));
            pairs.collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// The command that brings back a deleted entry.
pub(super) fn undo_delete(entry: &Value) -> String {
    let flags = flags(entry, |_| true);
    format!("portcullis entry create --id {}{flags}", word(entry, "spiffe_id"))
}

/// The command that brings back what an update changed.
pub(super) fn undo_update(before: &Value, after: &Value) -> String {
    let differs = |name: &str| said(before.get(name)) != said(after.get(name));
    let mut flags = flags(before, differs);
    for (name, flag) in FLAGS.into_iter().filter(|(name, _)| differs(name)) {
        if said(before.get(name)) == "-" {
            flags.push_str(&format!(" --clear {flag}"));
        }
    }
    format!("portcullis entry update {}{flags}", word(before, "id"))
}

fn flags(entry: &Value, is_wanted: impl Fn(&str) -> bool) -> String {
    let mut line = String::new();
    for (name, flag) in FLAGS {
        let value = entry.get(name).filter(|_| is_wanted(name));
        let values = match value {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text.as_str()],
            _ => Vec::new(),
        };
        for value in values {
            line.push_str(&format!(" --{flag} {}", quoted(value)));
        }
    }
    line
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    output::quoted(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Value {
        json!({
            "apiVersion": "portcullis/v1", "kind": "Entry", "id": "e1", "spiffe_id": "spiffe://example.org/web",
            "selectors": ["unix:uid:1", "unix:path:/a b"], "dns_names": [], "labels": {}, "jwt_jti": false,
            "x509_ttl": "1800s", "revision": "7", "created_at": "now", "origin": "api",
        })
    }

    #[test]
    fn what_an_entry_says_is_compared_by_meaning() {
        let before = input(&shown());
        assert!(before.get("id").is_none() && before.get("revision").is_none());
        let mut after = json!({
            "spiffe_id": "spiffe://example.org/web", "selectors": ["unix:path:/a b", "unix:uid:1"], "x509_ttl": "1800s",
        });
        assert_eq!(changes(&before, &after), Vec::<String>::new());
        set(&mut after, "x509_ttl", json!("60s"));
        set(&mut after, "dns_names", json!(["b", "a"]));
        assert_eq!(changes(&before, &after), ["dns_names: - -> a, b", "x509_ttl: 1800s -> 60s"]);
    }

    #[test]
    fn undo_is_a_command_for_a_shell() {
        assert_eq!(
            undo_delete(&shown()),
            "portcullis entry create --id spiffe://example.org/web --selector unix:uid:1 --selector 'unix:path:/a b' --ttl 1800s"
        );
        let mut after = input(&shown());
        set(&mut after, "x509_ttl", json!("60s"));
        set(&mut after, "hint", json!("db"));
        assert_eq!(undo_update(&shown(), &after), "portcullis entry update e1 --ttl 1800s --clear hint");
        clear(&mut after, &["hint".to_owned(), "ttl".to_owned()]);
        assert_eq!(changes(&input(&shown()), &after), ["x509_ttl: 1800s -> -"]);
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
