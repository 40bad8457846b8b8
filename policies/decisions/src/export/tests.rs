//! Pieces join to the whole, and nothing in them acts.

use std::sync::Arc;

use base_ports::MemoryDisk;
use policies_engine::{Effect, OwnedFacts, OwnedRequest, Principal};

use super::*;
use crate::{
    Sight,
    testing::{NOON, Namespaces, allow, clock, config, eventually, open_with, placed, query},
};

fn pieces(ledger: &Ledger, form: Form, rows: usize, eyes: &'static [&'static str]) -> Vec<Piece> {
    let asked = || {
        query(&[("since", "1d"), ("until", "2100-01-01T00:00:00Z")], NOON)
            .seen_by(Sight::new(Namespaces(eyes)), "r")
            .for_call(form.as_str())
    };
    let mut found = Vec::new();
    let mut question = asked();
    loop {
        let begun = ledger.inner().clock.mono();
        let piece = ledger.export(&question, form, rows, Caps::READER, begun).unwrap();
        let next = piece.swept.next_cursor.clone();
        found.push(piece);
        match next {
            Some(cursor) => question = ledger.resume(asked(), &cursor).unwrap(),
            None => return found,
        }
    }
}

const ALL: &[&str] = &["", "shop", "front"];

#[test]
fn an_export_in_pieces_is_the_whole_once() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    lane.record(placed());
    (0..25).for_each(|_| drop(lane.record(allow())));
    eventually("written", || ledger.stats().next_index == 27);
    for form in [Form::Ndjson, Form::Csv] {
        let whole = pieces(&ledger, form, ROWS, ALL);
        assert_eq!((whole.len(), whole[0].rows), (1, 27));
        let parts = pieces(&ledger, form, 4, ALL);
        assert_eq!(parts.iter().map(|piece| piece.rows).sum::<usize>(), 27);
        let joined: String = parts.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(joined, whole[0].text);
    }
    // The cursor of one form is none of the other, and one reader's is none of another's.
    let asked = |eyes: &'static [&'static str], reader: &str, form: &str| {
        query(&[("since", "1d")], NOON).seen_by(Sight::new(Namespaces(eyes)), reader).for_call(form)
    };
    let mine = asked(ALL, "r", "csv");
    let piece = ledger.export(&mine, Form::Csv, 1, Caps::READER, ledger.inner().clock.mono()).unwrap();
    let cursor = piece.swept.next_cursor.unwrap();
    assert!(ledger.resume(asked(ALL, "r", "csv"), &cursor).is_ok());
    assert!(ledger.resume(asked(ALL, "r", "ndjson"), &cursor).is_err());
    assert!(ledger.resume(asked(ALL, "other", "csv"), &cursor).is_err());
}

#[test]
fn rr1_an_export_holds_visible_rows_only() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    lane.record(placed());
    lane.record(allow());
    eventually("written", || ledger.stats().next_index == 3);
    let text = |eyes| pieces(&ledger, Form::Ndjson, ROWS, eyes).remove(0).text;
    assert_eq!(text(&["shop"]).lines().count(), 1);
    assert!(text(&["shop"]).contains("shop.Orders/Refund"));
    assert!(!text(&[""]).contains("shop.Orders/Refund"));
    assert!(text(&["front"]).contains("\"view\":\"outbound\""));
    let csv = pieces(&ledger, Form::Csv, ROWS, &["front"]).remove(0).text;
    assert!(!csv.contains("10.0.0.7") && csv.contains("shop.Orders/Refund"), "{csv}");
}

#[test]
fn rr5_hostile_text_is_harmless_in_every_export() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let formulas = ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"];
    let hostile = "/a\u{1b}[2J\u{202e}\r\n\"x\",<script>";
    for path in formulas.into_iter().chain([hostile]) {
        let mut record = allow();
        let request =
            OwnedRequest { path: path.to_owned(), host: path.to_owned(), ..OwnedRequest::default() };
        record.facts = Some(OwnedFacts::local("l").with_request(request).into());
        record.principal = Principal::from_parts("User", path).unwrap();
        lane.record(record);
    }
    assert_eq!(allow().effect, Effect::Allow);
    eventually("written", || ledger.stats().next_index == 8);
    let csv = pieces(&ledger, Form::Csv, ROWS, ALL).remove(0).text;
    let mut lines = csv.split_terminator("\r\n");
    let header = lines.next().unwrap();
    assert!(header.starts_with("index,time,id,kind,effect,reason") && header.ends_with(",body"), "{header}");
    for line in lines.clone() {
        let fields = fields(line);
        assert_eq!(fields.len(), header.split(',').count(), "{line}");
        for field in fields {
            assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{field}");
            assert!(!field.contains(|c: char| c.is_control() || c == '\u{202e}'), "{field}");
        }
    }
    assert!(csv.contains("'=cmd") && csv.contains("\\u001b[2J\\u202e\\u000d\\u000a"), "{csv}");
    let ndjson = pieces(&ledger, Form::Ndjson, ROWS, ALL).remove(0).text;
    assert_eq!(ndjson.lines().count(), 8);
    assert!(!ndjson.contains(['\u{1b}', '\u{202e}', '\r']));
    for line in ndjson.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

/// The fields of one line, as RFC 4180 has them.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}
