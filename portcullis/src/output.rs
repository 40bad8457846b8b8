//! How every command answers: data to stdout in the form asked for, talk to stderr, one exit code.
//! The only room that prints.

pub(crate) mod findings;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use base_telemetry::redact::escape;
use serde_json::{Value, json};

use crate::messages::{Message, Severity};

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Ndjson,
}

/// How a command ended (experience OU, chapter 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Denied = 2,
    Invalid = 3,
    Partial = 4,
    Usage = 64,
    Unavailable = 69,
    Temporary = 75,
    NotPermitted = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An answer that can be shown in every form.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The document: single objects carry `apiVersion` and `kind`, lists an array `items`.
    pub(crate) json: Value,
    /// The same for people, without a final line break.
    pub(crate) text: String,
}

impl Answer {
    /// A single object of `kind`.
    pub(crate) fn object(kind: &str, value: Value, text: String) -> Self {
        let mut json = json!({ "apiVersion": "portcullis/v1", "kind": kind });
        if let (Some(members), Value::Object(fields)) = (json.as_object_mut(), value) {
            members.extend(fields.into_iter().filter(|(name, _)| name != "apiVersion" && name != "kind"));
        }
        Self { json, text }
    }

    /// A list whose members are `kind`; the text is a table of `columns`.
    pub(crate) fn list(kind: &str, items: Vec<Value>, columns: &[(&str, &str)]) -> Self {
        let rows = items
            .iter()
            .map(|item| columns.iter().map(|(_, pointer)| cell(item.pointer(pointer))).collect::<Vec<_>>());
        let headers: Vec<_> = columns.iter().map(|(header, _)| *header).collect();
        let text = table(&headers, rows);
        Self {
            json: json!({ "apiVersion": "portcullis/v1", "kind": format!("{kind}List"), "items": items }),
            text,
        }
    }

    /// Writes the answer to stdout, harmless for a terminal (OU6). A closed pipe ends in silence.
    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Table => self.text.lines().for_each(|line| data(&escape(line))),
            Format::Json => data(&harmless(&serde_json::to_string_pretty(&self.json).unwrap_or_default())),
            Format::Ndjson => match self.json.get("items").and_then(Value::as_array) {
                Some(items) => items.iter().for_each(|item| data(&harmless(&item.to_string()))),
                None => data(&harmless(&self.json.to_string())),
            },
        }
    }
}

/// JSON in which nothing moves a cursor or turns text around. serde_json escapes what JSON must escape; of the rest,
/// what is harmful can only stand inside strings, where an escape means the same.
fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let mut one = [0; 4];
        match c == '\n' || matches!(escape(c.encode_utf8(&mut one)), std::borrow::Cow::Borrowed(_)) {
            true => out.push(c),
            false => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out
}

/// Lines up `rows` below `headers`, two spaces apart; cells are escaped for a terminal.
pub(crate) fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.iter().map(|cell| escape(cell).into_owned()).collect()).collect();
    let mut widths: Vec<usize> = headers.iter().map(|header| header.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headers.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    }
}

/// One line of data. A reader that has gone ends the command in silence.
pub(crate) fn data(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        closed();
    }
}

/// Text that is lines already, and harmless. A reader that has gone ends the command in silence.
pub(crate) fn raw(text: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(text).and_then(|()| out.flush()).is_err() {
        closed();
    }
}

static LEFT_BEHIND: parking_lot::Mutex<Option<std::path::PathBuf>> = parking_lot::Mutex::new(None);

/// The directory to remove when nobody reads any more.
pub(crate) fn when_closed(dir: Option<std::path::PathBuf>) {
    *LEFT_BEHIND.lock() = dir;
}

fn closed() -> ! {
    if let Some(dir) = LEFT_BEHIND.lock().take() {
        drop(std::fs::remove_dir_all(dir));
    }
    std::process::exit(0)
}

/// A line that the next one of its kind replaces, on a terminal.
pub(crate) fn status(line: &str) {
    let mut out = io::stdout().lock();
    if write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()).is_err() {
        closed();
    }
}

/// One line of talk.
pub(crate) fn talk(line: &str) {
    // A closed stderr must not end a command that does its work.
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Says what a command would do and that it was not done, because nobody has said yes to it.
pub(crate) fn unconfirmed(effect: &str) -> Exit {
    talk(&format!("error: {effect}; repeat with --yes"));
    Exit::Usage
}

/// A text as a shell takes it for one word.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Prints messages to stderr, or as the answer in a machine format, and gives the exit code they mean.
pub(crate) fn report(messages: &[Message], format: Format) -> Exit {
    let failed = messages.iter().any(|message| message.severity == Severity::Error);
    match format {
        Format::Table => messages.iter().for_each(|message| talk(&format!("{message}\n"))),
        Format::Json | Format::Ndjson => {
            let items: Vec<_> = messages.iter().map(Message::to_json).collect();
            Answer {
                json: json!({ "apiVersion": "portcullis/v1", "kind": "MessageList", "items": items }),
                text: String::new(),
            }
            .print(format);
        }
    }
    if failed { Exit::Invalid } else { Exit::Done }
}

/// Whether stdout is a terminal that may be drawn on.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_escape_hostile_cells() {
        let rows =
            vec![vec!["web".to_owned(), "1".to_owned()], vec!["a\u{1b}[31m".to_owned(), "22".to_owned()]];
        let text = table(&["NAME", "N"], rows.into_iter());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("NAME"));
        assert!(!text.contains('\u{1b}'));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn json_for_a_terminal_is_harmless_and_means_the_same() {
        let value = json!({ "path": "/\u{9b}31mRED\u{202e}x", "é": "你好" });
        let shown = harmless(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.contains(['\u{9b}', '\u{202e}']));
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }

    #[test]
    fn an_object_carries_version_and_kind_first() {
        let answer = Answer::object("Status", json!({ "a": 1, "kind": "other" }), String::new());
        assert_eq!(answer.json.to_string(), r#"{"apiVersion":"portcullis/v1","kind":"Status","a":1}"#);
    }
}
