//! `policy validate`: checks a directory or a file against the configuration; starts nothing and asks nobody.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::place;
use crate::cli::Global;
use crate::messages::Message;
use crate::output::findings::Level;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct ValidateOptions {
    /// Directory or *.cedar file [default: policies.dir of the configuration]
    dir: Option<PathBuf>,
    /// Exit 3 from this level on
    #[arg(long, value_enum, default_value = "error")]
    fail_level: Level,
}

pub(super) fn validate(options: ValidateOptions, global: &Global) -> Exit {
    let (dir, known) = match place(options.dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let report = policies_store::check_dir(&dir, &known);
    let messages: Vec<Message> = report.diagnostics.iter().map(Message::from).collect();
    if messages.iter().any(|message| options.fail_level.is_reached_by(message.severity)) {
        output::report(&messages, global.format());
        return Exit::Invalid;
    }
    messages.iter().for_each(|message| output::talk(&message.to_string()));
    let json = json!({ "dir": dir.display().to_string(), "valid": true, "policies": report.policies,
        "warnings": messages.iter().map(Message::to_json).collect::<Vec<_>>() });
    let text = format!("{}: {} policies, valid", dir.display(), report.policies);
    Answer::object("Validation", json, text).print(global.format());
    Exit::Done
}
