//! `portcullis policy`: its verbs, one file each; checked locally against the files, or asked of the running process.

mod can;
mod test;
mod validate;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::Global;
use super::decisions::encode;
use crate::assemble::entities;
use crate::output::{Answer, Exit};

pub(crate) use can::{CanOptions, can};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a directory of policies; starts nothing
    #[command(after_help = "Example:\n  portcullis policy validate ./policies")]
    Validate {
        /// Directory [default: policies.dir of the configuration]
        dir: Option<PathBuf>,
    },
    /// Run the *_test.json cases of a directory
    #[command(after_help = "Example:\n  portcullis policy test ./policies")]
    Test {
        /// Directory [default: policies.dir of the configuration]
        dir: Option<PathBuf>,
    },
    /// A least-privilege permit for a recorded denial
    #[command(after_help = "Example:\n  portcullis policy suggest 01JD8Z…7Q")]
    Suggest { id: String },
    /// The policies in force
    #[command(after_help = "Example:\n  portcullis policy list")]
    List,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Validate { dir } => validate::validate(dir, global),
        Command::Test { dir } => test::test(dir, global),
        Command::Suggest { id } => global.ask(|client| async move {
            let suggested = client.get(&format!("/v1/decisions/{}/suggest", encode(&id))).await?;
            let text =
                suggested.get("policy").and_then(Value::as_str).unwrap_or_default().trim_end().to_owned();
            Ok((Answer::object("Suggestion", suggested, text), Exit::Done))
        }),
        Command::List => global.ask(|client| async move {
            let items = super::authority::items(client.get("/v1/policies").await?);
            let columns = [
                ("ID", "/id"),
                ("EFFECT", "/effect"),
                ("SOURCE", "/file"),
                ("LINE", "/line"),
                ("SYSTEM", "/system"),
            ];
            Ok((Answer::list("Policy", items, &columns), Exit::Done))
        }),
    }
}

/// The directory, and what the configuration says policies may name. Without a configuration nothing is known.
fn place(dir: Option<PathBuf>, global: &Global) -> Result<(PathBuf, policies_engine::EntitySet), Exit> {
    let path = global.config_path();
    if let (Some(dir), false) = (&dir, path.exists()) {
        return Ok((dir.clone(), policies_engine::EntitySet::default()));
    }
    let config = global.load()?.config;
    let known = entities::of(&config, &[]);
    let dir = dir.or_else(|| config.policies.as_ref().map(|policies| policies.dir.clone()));
    Ok((dir.unwrap_or_else(|| PathBuf::from("./policies")), known))
}
