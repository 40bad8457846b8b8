//! Bundles as the ledger exports them, and with every byte of them changed.

use base_ports::MemoryDisk;
use policies_engine::{Audit, Effect, Numbers, Versions};
use std::sync::Arc;

use super::*;
use crate::{
    Caps, Ledger, LedgerConfig, Query, Sight,
    export::{Form, ROWS},
    proof::growing::{key, opened, signing},
    testing::{NOON, Namespaces, decision, eventually, query, versions},
};

const FILES: [(&str, &str); 2] =
    [("baseline/system.cedar", "permit(a,b,c);"), ("orders.cedar", "forbid(ü);\n")];

fn filled(count: usize) -> Ledger {
    let ledger = opened(&MemoryDisk::new(), LedgerConfig { ..signing() }).unwrap();
    let mut lane = ledger.lane(0);
    let numbers = Numbers { epoch: 1, snapshot: 9, policies: 4 };
    let judged = Arc::new(Versions { numbers, manifest: Snapshot::manifest_of(FILES), ..versions() });
    for n in 0..count {
        let effect = if n % 3 == 0 { Effect::Deny } else { Effect::Allow };
        let mut record = decision(effect, Audit::BestEffort, NOON);
        record.versions = Some(Arc::clone(&judged));
        lane.record(record);
    }
    let tree = ledger.inner().tree.clone().unwrap();
    eventually("signed", || tree.covered() > count as u64);
    ledger
}

fn asked() -> Query {
    let pairs = [("since", "2026-11-01T00:00:00Z"), ("until", "2026-12-30T00:00:00Z"), ("kind", "decision")];
    query(&pairs, NOON).seen_by(Sight::new(Namespaces(&[""])), "r").for_call("proofs")
}

/// The lines of a bundle whose pieces have so many rows.
fn lines(ledger: &Ledger, rows: usize) -> Vec<String> {
    let origin = ledger.origin();
    let mut lines = vec![format!(
        r#"{{"kind":"DecisionBundle","apiVersion":"portcullis/v1","origin":"{origin}","made":"now","question":{{}}}}"#
    )];
    let (mut question, mut entries) = (asked(), 0);
    loop {
        let now = ledger.inner().clock.mono();
        let piece = ledger.export(&question, Form::Proofs, rows, Caps::READER, now).unwrap();
        entries += piece.rows;
        assert_eq!(piece.unproved, 0);
        lines.extend(piece.text.lines().map(str::to_owned));
        match piece.swept.next_cursor {
            Some(cursor) => question = ledger.resume(asked(), &cursor).unwrap(),
            None => break,
        }
    }
    let files: Vec<_> =
        FILES.iter().map(|(file, text)| serde_json::json!({"file": file, "text": text})).collect();
    lines.push(
        serde_json::json!({"kind": "Policies", "snapshot": 9, "version": 4, "files": files}).to_string(),
    );
    lines.push(format!(r#"{{"kind":"End","entries":{entries},"policies":1}}"#));
    lines
}

fn checked(lines: &[String]) -> Bundled {
    let keys = [key()];
    let mut bundle = Bundle::new(&keys);
    lines.iter().for_each(|line| bundle.line(line.as_bytes()));
    bundle.finish()
}

#[test]
fn vf6_an_export_with_proofs_is_proved_by_the_key_alone() {
    let ledger = filled(40);
    for rows in [ROWS, 7] {
        let found = checked(&lines(&ledger, rows));
        assert_eq!((found.faults.as_slice(), found.entries, found.decisions), ([].as_slice(), 40, 40));
        assert_eq!(found.judged.values().collect::<Vec<_>>(), [&4]);
        assert!(found.untold.is_empty() && found.origin == ledger.origin());
    }
}

#[test]
fn vf6_a_changed_bundle_is_refused_and_the_line_is_named() {
    let ledger = filled(5);
    let whole = lines(&ledger, ROWS);
    let with = |at: usize, from: &str, to: &str| {
        let mut lines = whole.clone();
        assert!(lines[at].contains(from), "{}", lines[at]);
        lines[at] = lines[at].replacen(from, to, 1);
        checked(&lines)
    };
    let wrong = |found: &Bundled| found.faults.first().map(|fault| (fault.line, fault.what.clone()));
    let entry: serde_json::Value = serde_json::from_str(&whole[3]).unwrap();
    let index: u64 = entry["index"].as_str().unwrap().parse().unwrap();
    let (from, to) = (format!(r#""index":"{index}""#), format!(r#""index":"{}""#, index + 1));
    assert!(wrong(&with(3, &from, &to)).is_some_and(|(line, _)| line == 4));
    assert!(wrong(&with(1, r#""note":"example"#, r#""note":"exbmple"#)).is_some_and(|(line, _)| line == 2));
    // Another text is another manifest: the records name one that is not there.
    let other = with(7, "forbid", "permit");
    assert_eq!((other.faults.len(), other.untold.len()), (0, 1));
    let without = |at: usize| {
        let mut lines = whole.clone();
        lines.remove(at);
        checked(&lines)
    };
    for at in [0, 1, 3, 7, 8] {
        assert!(without(at).wrong > 0, "line {at}");
    }
    let mut twice = whole.clone();
    twice.insert(4, whole[3].clone());
    assert!(wrong(&checked(&twice)).is_some_and(|(_, what)| what.contains("twice")));
    // No byte of a record, of its path or of the checkpoint is free.
    for at in [1, 2] {
        for byte in 0..whole[at].len() {
            let mut bytes = whole[at].clone().into_bytes();
            bytes[byte] = if bytes[byte] == b'A' { b'B' } else { b'A' };
            let (keys, mut lines) = ([key()], whole.iter());
            let mut bundle = Bundle::new(&keys);
            lines.by_ref().take(at).for_each(|line| bundle.line(line.as_bytes()));
            bundle.line(&bytes);
            lines.skip(1).for_each(|line| bundle.line(line.as_bytes()));
            assert!(bundle.finish().wrong > 0, "line {at} byte {byte}");
        }
    }
}

#[test]
fn vf6_bytes_that_are_no_bundle_are_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "{\"kind\":\"End\",\"entries\":0,\"policies\":0}",
        "\u{0}",
        "{\"kind\":\"Nonsense\"}",
    ] {
        assert!(checked(&[text.to_owned()]).wrong > 0, "{text}");
    }
    assert!(checked(&[]).wrong > 0);
}
