//! Exports with proofs: how one is written from what the process gives, and how one is checked without it (VF6).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base_ports::{Clock, SystemClock};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policies_decisions::{Bundle, Bundled, StoredRecord, VerifierKey};
use serde_json::{Map, Value, json};

use super::export::header;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

/// Longest line, bytes: all policy files of a version stand in one.
const LINE: u64 = 128 << 20;

/// How a bundle begins.
pub(super) const HEAD: &[u8] = b"{";

/// Prints head, records with their proofs, policies and end.
pub(super) async fn print(
    client: &Client,
    mut question: Map<String, Value>,
    headers: &[(&'static str, String)],
) -> Result<Exit, Fault> {
    let log = client.get("/v1/log/keys").await?;
    let head = json!({
        "kind": "DecisionBundle", "apiVersion": "portcullis/v1", "origin": log.get("origin"),
        "made": SystemClock.now().wall.to_string(), "question": question,
    });
    output::raw(format!("{head}\n").as_bytes());
    let (mut entries, mut lacking) = (0_u64, 0_u64);
    // By the hash of its policies, one snapshot that judged.
    let mut judged = BTreeMap::new();
    loop {
        let (told, text) =
            client.post_with("/v1/decisions:export", &question.clone().into(), headers).await?;
        output::raw(&text);
        entries += number(header(&told, "portcullis-rows"));
        lacking += number(header(&told, "portcullis-damaged")) + number(header(&told, "portcullis-unproved"));
        judged.extend(text.split(|byte| *byte == b'\n').filter_map(manifest));
        match header(&told, "portcullis-next-cursor") {
            Some(cursor) => question.insert("cursor".to_owned(), cursor.into()),
            None => break,
        };
    }
    let snapshots: BTreeSet<u64> = judged.into_values().collect();
    let mut policies = 0_u64;
    for snapshot in snapshots {
        match client.get(&format!("/v1/policies/snapshots/{snapshot}/sources")).await {
            Ok(sources) => {
                let line = json!({
                    "kind": "Policies", "snapshot": snapshot, "version": sources.get("version"),
                    "files": sources.get("items"),
                });
                output::raw(format!("{line}\n").as_bytes());
                policies += 1;
            }
            Err(fault) => {
                let why = fault.message.text;
                output::talk(&format!("the policies of snapshot {snapshot} are not in the file: {why}"));
                lacking += 1;
            }
        }
    }
    let end = json!({ "kind": "End", "entries": entries, "policies": policies });
    output::raw(format!("{end}\n").as_bytes());
    if lacking > 0 {
        output::talk(
            "the file does not hold all that was asked for: a record was not readable or is not yet signed, or policies are missing",
        );
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The policies that a record names, and a snapshot with them.
fn manifest(line: &[u8]) -> Option<([u8; 32], u64)> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let leaf = STANDARD.decode(entry.get("leaf")?.as_str()?).ok()?;
    let versions = StoredRecord::decode(0, leaf.into()).ok()?.versions?;
    (versions.manifest != [0; 32]).then_some((versions.manifest, versions.numbers.snapshot))
}

/// Whether the file is a bundle, and no proof of one record.
pub(super) fn is_bundle(path: &Path) -> bool {
    let mut head = [0];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == HEAD
}

/// Checks a bundle line by line.
pub(super) fn verify(path: &Path, keys: &[VerifierKey]) -> Result<(Answer, Exit), Fault> {
    let unreadable = |error: std::io::Error| {
        let text = format!("`{}`: {error}", path.display());
        Fault::new(Exit::Invalid, Message::error("PC6022", text))
    };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut bundle, mut line) = (Bundle::new(keys), Vec::new());
    loop {
        line.clear();
        if file.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        bundle.line(line.strip_suffix(b"\n").unwrap_or(&line));
    }
    let found = bundle.finish();
    let exit = match (found.wrong, found.untold.is_empty()) {
        (0, true) => Exit::Done,
        (0, false) => Exit::Partial,
        _ => Exit::Failed,
    };
    Ok((Answer::object("Verification", shown(&found), told(&found)), exit))
}

fn result(found: &Bundled) -> &'static str {
    match (found.wrong, found.untold.is_empty()) {
        (0, true) => "proved",
        (0, false) => "proved, without all policies",
        _ => "tampered or inconsistent",
    }
}

fn told(found: &Bundled) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    let range = found.range.map(|(first, last)| format!(", index {first} to {last}")).unwrap_or_default();
    line("records", format!("{} proved{range}, {} decisions", found.entries, found.decisions));
    line("tree", format!("{} records, signed by {}", found.size, found.origin));
    let versions = |of: &BTreeMap<String, u64>| {
        let numbers: BTreeSet<u64> = of.values().copied().collect();
        numbers.iter().map(|number| format!("v{number}")).collect::<Vec<_>>().join(", ")
    };
    if !found.judged.is_empty() {
        line("policies", format!("{}, by their texts in the file", versions(&found.judged)));
    }
    if !found.untold.is_empty() {
        line("policies", format!("{}: the texts are not in the file", versions(&found.untold)));
    }
    found.faults.iter().for_each(|fault| line("wrong", format!("line {}: {}", fault.line, fault.what)));
    line("result", result(found).to_owned());
    lines.join("\n")
}

fn shown(found: &Bundled) -> Value {
    let faults = found.faults.iter().map(|fault| json!({ "line": fault.line, "what": fault.what }));
    json!({
        "result": result(found), "origin": found.origin, "size": found.size.to_string(),
        "entries": found.entries.to_string(), "decisions": found.decisions.to_string(),
        "first": found.range.map(|(first, _)| first.to_string()),
        "last": found.range.map(|(_, last)| last.to_string()), "policies": found.judged,
        "missing_policies": found.untold, "faults": faults.collect::<Vec<_>>(), "wrong": found.wrong,
    })
}
