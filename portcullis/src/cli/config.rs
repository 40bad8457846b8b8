//! `portcullis config`: view, schema, validate, explain; reload alone asks a running process.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use crate::config;
use crate::messages::{Message, nearest};
use crate::output::{self, Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Effective values: file, environment and defaults together
    #[command(after_help = "Example:\n  portcullis config view --origin")]
    View {
        /// Show where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// JSON Schema of the file, for editors
    #[command(after_help = "Example:\n  portcullis config schema > portcullis.schema.json")]
    Schema,
    /// Check the file; starts nothing
    #[command(after_help = "Example:\n  portcullis config validate -c portcullis.toml")]
    Validate,
    /// Type, default and meaning of a key or section
    #[command(after_help = "Example:\n  portcullis config explain ca.entry")]
    Explain { key: String },
    /// Have the running process take the file: services, routes and modes, without losing a call
    #[command(after_help = "Example:\n  portcullis config reload")]
    Reload,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::View { origin } => match global.load() {
            Ok(loaded) => {
                let view = config::view(&loaded.table, origin);
                let text = serde_json::to_string_pretty(&view).unwrap_or_default();
                Answer::object(
                    "Configuration",
                    json!({ "source": loaded.config.source.display().to_string(), "values": view }),
                    text,
                )
                .print(global.format());
                Exit::Done
            }
            Err(exit) => exit,
        },
        Command::Schema => {
            output::data(&serde_json::to_string_pretty(&config::json_schema()).unwrap_or_default());
            Exit::Done
        }
        Command::Validate => validate(global),
        Command::Reload => reload(global),
        Command::Explain { key } => match config::explain(&key) {
            Some(text) => {
                Answer::object("Key", json!({ "key": key, "text": text }), text.trim_end().to_owned())
                    .print(global.format());
                Exit::Done
            }
            None => {
                let mut fault = Message::error("PC0103", format!("no key `{key}`"));
                fault.label =
                    nearest(&key, config::key_paths()).map(|near| format!("did you mean `{near}`?"));
                output::report(&[fault], global.format())
            }
        },
    }
}

fn reload(global: &Global) -> Exit {
    global.ask(|client| async move {
        let reload = client.post("/v1/config:reload", &json!({})).await?;
        let of = |name: &str| reload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |name: &str| reload.get(name).and_then(Value::as_array).into_iter().flatten();
        list("warnings")
            .filter_map(Message::from_json)
            .for_each(|warning| output::talk(&warning.to_string()));
        let changed: Vec<_> = list("changed").filter_map(Value::as_str).collect();
        let text = match changed.as_slice() {
            [] => format!("{}: in force already", of("source")),
            changed => format!("{}: in force; changed {}", of("source"), changed.join(", ")),
        };
        Ok((Answer::object("Reload", reload, text), Exit::Done))
    })
}

fn validate(global: &Global) -> Exit {
    match global.load() {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| output::talk(&warning.to_string()));
            let source = loaded.config.source.display().to_string();
            let warnings: Vec<_> = loaded.warnings.iter().map(Message::to_json).collect();
            let text = format!("{source}: valid, {} warnings", warnings.len());
            Answer::object(
                "Validation",
                json!({ "source": source, "valid": true, "warnings": warnings }),
                text,
            )
            .print(global.format());
            Exit::Done
        }
        Err(exit) => exit,
    }
}
