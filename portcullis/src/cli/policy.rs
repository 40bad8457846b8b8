//! `portcullis policy` and `can`: checked locally against the files, or asked of the running process.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::decisions::encode;
use crate::assemble::entities;
use crate::messages::{Message, Severity};
use crate::output::{self, Answer, Exit};

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

#[derive(Debug, Args)]
pub(crate) struct CanOptions {
    /// Who, as Workload::"spiffe://..", a SPIFFE ID, or anonymous
    principal: String,
    /// What, as Action::"grpc" or http:GET
    action: String,
    /// On what, as Method::"shop.Orders/Get", Route::"..", Service::".."
    resource: String,
    /// JSON object with the facts of the call
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Validate { dir } => validate(dir, global),
        Command::Test { dir } => test(dir, global),
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

pub(crate) fn can(options: &CanOptions, global: &Global) -> Exit {
    let mut body =
        json!({ "principal": options.principal, "action": options.action, "resource": options.resource });
    if let Some(path) = &options.context {
        let read = fs::read_to_string(path).map_err(|error| error.to_string());
        match read.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())) {
            Ok(context) => {
                if let Some(members) = body.as_object_mut() {
                    members.insert("context".to_owned(), context);
                }
            }
            Err(error) => {
                let fault = Message::error("PC0107", format!("--context `{}`: {error}", path.display()));
                output::report(&[fault], global.format());
                return Exit::Usage;
            }
        }
    }
    global.ask(|client| async move {
        let answer = client.post("/v1/policies:can", &body).await?;
        let effect = answer.get("effect").and_then(Value::as_str).unwrap_or_default().to_owned();
        let text = answer.get("text").and_then(Value::as_str).unwrap_or(&effect).to_owned();
        let exit = if effect == "allow" { Exit::Done } else { Exit::Denied };
        Ok((Answer::object("Can", answer, text), exit))
    })
}

fn validate(dir: Option<PathBuf>, global: &Global) -> Exit {
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

fn test(dir: Option<PathBuf>, global: &Global) -> Exit {
    let (dir, known) = match place(dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let report = policies_store::run_cases(&dir, &known);
    let messages: Vec<Message> = report.diagnostics.iter().map(Message::from).collect();
    if messages.iter().any(|message| message.severity == Severity::Error) {
        return output::report(&messages, global.format());
    }
    if report.cases.is_empty() {
        let fault = Message::error("PC2002", format!("`{}` holds no *_test.json with a case", dir.display()))
            .help("an empty run must not look like a passed one")
            .next("portcullis init shows a first case");
        return output::report(&[fault], global.format());
    }
    let items: Vec<_> = report
        .cases
        .iter()
        .map(|case| json!({ "file": case.file, "name": case.name, "passed": case.failure.is_none(), "failure": case.failure }))
        .collect();
    let failed = report.cases.iter().filter(|case| case.failure.is_some()).count();
    let mut answer = Answer::list(
        "Case",
        items,
        &[("PASSED", "/passed"), ("FILE", "/file"), ("CASE", "/name"), ("FAILURE", "/failure")],
    );
    answer.text.push_str(&format!("\n{} passed, {failed} failed", report.cases.len().saturating_sub(failed)));
    answer.print(global.format());
    if failed == 0 { Exit::Done } else { Exit::Invalid }
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
