//! `policy validate`: checks a directory against the configuration; starts nothing and asks nobody.

use std::path::PathBuf;

use serde_json::json;

use super::place;
use crate::cli::Global;
use crate::messages::{Message, Severity};
use crate::output::{self, Answer, Exit};

pub(super) fn validate(dir: Option<PathBuf>, global: &Global) -> Exit {
    let (dir, known) = match place(dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let report = policies_store::check_dir(&dir, &known);
    let messages: Vec<Message> = report.diagnostics.iter().map(Message::from).collect();
    if messages.iter().any(|message| message.severity == Severity::Error) {
        return output::report(&messages, global.format());
    }
    messages.iter().for_each(|message| output::talk(&message.to_string()));
    let json = json!({ "dir": dir.display().to_string(), "valid": true, "policies": report.policies,
        "warnings": messages.iter().map(Message::to_json).collect::<Vec<_>>() });
    let text = format!("{}: {} policies, valid", dir.display(), report.policies);
    Answer::object("Validation", json, text).print(global.format());
    Exit::Done
}
