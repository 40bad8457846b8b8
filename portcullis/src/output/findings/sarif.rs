//! SARIF 2.1.0: one run, the rules that found something with their texts, a place for each result, and its edit.

use serde_json::{Value, json};

use super::{Finding, Findings};
use crate::messages::{self, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The log of one run.
pub(super) fn log(findings: &Findings) -> Value {
    let mut codes: Vec<&str> = findings.findings.iter().map(|finding| finding.message.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
    let results: Vec<Value> = findings.findings.iter().map(|finding| result(finding, &codes)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "portcullis",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "automationDetails": { "id": format!("portcullis {}/", findings.command) },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: &str) -> Value {
    let (title, text) = messages::find(code).map_or((code, code), |known| (known.title, known.text));
    json!({
        "id": code,
        "shortDescription": { "text": title },
        "fullDescription": { "text": text },
        "help": { "text": format!("{text} See `portcullis code {code}`.") },
    })
}

fn result(finding: &Finding, codes: &[&str]) -> Value {
    let message = &finding.message;
    let parts = [Some(&message.text), message.label.as_ref(), message.help.as_ref()];
    let text = parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("\n");
    let mut result = json!({
        "ruleId": message.code,
        "ruleIndex": codes.iter().position(|code| *code == message.code),
        "level": level(message.severity),
        "message": { "text": text },
    });
    let (Some(members), Some(place)) = (result.as_object_mut(), &message.place) else { return result };
    let uri = uri(&place.file);
    let mut location = json!({ "artifactLocation": { "uri": uri } });
    if let (Some(location), true) = (location.as_object_mut(), place.line > 0) {
        let end = place.column.saturating_add(place.length);
        let region = json!({ "startLine": place.line, "startColumn": place.column, "endColumn": end });
        location.insert("region".to_owned(), region);
    }
    members.insert("locations".to_owned(), json!([{ "physicalLocation": location }]));
    if let Some(fix) = &finding.fix {
        let region = json!({ "byteOffset": fix.range.start, "byteLength": fix.range.len() });
        let replacement = json!({ "deletedRegion": region, "insertedContent": { "text": fix.text } });
        let change = json!({ "artifactLocation": { "uri": uri }, "replacements": [replacement] });
        members.insert("fixes".to_owned(), json!([{ "artifactChanges": [change] }]));
    }
    result
}

const fn level(severity: Severity) -> &'static str {
    severity.as_str()
}

/// A path as a relative or file URI: what has a meaning there is written as `%xx`.
fn uri(file: &str) -> String {
    let mut uri = if file.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                uri.push(char::from(byte))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
