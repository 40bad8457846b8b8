//! `portcullis schema`: what policies can speak about, and whether a site's part of it is right.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Global, policy};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every type and action, as policies see them
    #[command(after_help = "Example:\n  portcullis schema show ./policies")]
    Show {
        /// Directory or *.cedarschema file [default: policies.dir of the configuration, else what is shipped]
        path: Option<PathBuf>,
    },
    /// Check the schema of a directory, or one file; starts nothing
    #[command(after_help = "Example:\n  portcullis schema validate ./policies/site.cedarschema")]
    Validate {
        /// Directory or *.cedarschema file [default: policies.dir of the configuration]
        path: Option<PathBuf>,
    },
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Show { path } => show(path, global),
        Command::Validate { path } => validate(path, global),
    }
}

fn show(path: Option<PathBuf>, global: &Global) -> Exit {
    let path = match path {
        None if !global.config_path().exists() => None,
        path => match policy::place(path, global) {
            Ok((path, _)) => Some(path),
            Err(exit) => return exit,
        },
    };
    let schema = match path
        .map_or_else(|| Ok(policies_engine::SchemaText::default()), |path| policies_store::schema_of(&path))
    {
        Ok(schema) => schema,
        Err(found) => return report(&found, global),
    };
    let parts: Vec<_> = schema.parts().map(|(file, text)| json!({ "file": file, "text": text })).collect();
    let text: Vec<_> = schema.parts().map(|(file, text)| format!("// {file}\n{}", text.trim_end())).collect();
    Answer::object("Schema", json!({ "parts": parts }), text.join("\n\n")).print(global.format());
    Exit::Done
}

fn validate(path: Option<PathBuf>, global: &Global) -> Exit {
    let path = match policy::place(path, global) {
        Ok((path, _)) => path,
        Err(exit) => return exit,
    };
    let found = policies_store::check_schema(&path);
    if !found.is_empty() {
        return report(&found, global);
    }
    let json = json!({ "path": path.display().to_string(), "valid": true });
    Answer::object("SchemaValidation", json, format!("{}: valid", path.display())).print(global.format());
    Exit::Done
}

fn report(found: &[policies_engine::Diagnostic], global: &Global) -> Exit {
    let messages: Vec<_> = found.iter().map(Message::from).collect();
    output::report(&messages, global.format())
}
