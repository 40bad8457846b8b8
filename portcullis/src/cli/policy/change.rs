//! `policy changes`, `show`, `check`, `approve`, `commit`, `abandon`: one change from draft to version. Each verb reads
//! the change first and names the revision that it read, so that nobody approves what they did not see.

use clap::Args;
use serde_json::{Value, json};

use super::shown::{self, number, text};
use crate::cli::Global;
use crate::cli::decisions::encode;
use crate::client::{Client, Fault};
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct OneChange {
    /// Change, such as c17
    change: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// Change, such as c17
    change: String,
    /// Only what it changes, as lines
    #[arg(long)]
    files: bool,
}

pub(super) fn changes(global: &Global) -> Exit {
    global.ask(|client| async move {
        let items = crate::cli::authority::items(client.get("/v1/policies/changes").await?);
        Ok((shown::changes(items), Exit::Done))
    })
}

pub(super) fn show(options: ShowOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let change = client.get(&path(&options.change, "")).await?;
        let lines = super::diff::of_change(&client, &change).await?;
        let text = if options.files {
            lines
        } else {
            let mut text = format!("{}\n\n{lines}", shown::change(&change)).trim_end().to_owned();
            if let Some(next) = next(&change) {
                text.push_str(&format!("\n\nnext: {next}"));
            }
            text
        };
        Ok((Answer::object("Change", change, text), Exit::Done))
    })
}

/// What can be done with a change as it stands.
fn next(change: &Value) -> Option<String> {
    let id = text(change, "id");
    match text(change, "stage") {
        "draft" => Some(format!("portcullis policy check {id}")),
        "checked" | "approved" => {
            Some(format!("portcullis policy approve {id}, or: portcullis policy commit {id}"))
        }
        "committed" => Some(format!("portcullis policy activate v{}", number(change, "version"))),
        _ => None,
    }
}

pub(super) fn check(options: OneChange, global: &Global) -> Exit {
    global.ask(|client| async move {
        let id = &options.change;
        let checks = client.post(&path(id, ":validate"), &json!({})).await.map_err(|fault| {
            fault.or_next(format!("portcullis policy push --change {id}   (after fixing it)"))
        })?;
        for found in checks.get("diagnostics").and_then(Value::as_array).into_iter().flatten() {
            if let Some(message) = crate::messages::Message::from_json(found) {
                crate::output::talk(&message.to_string());
            }
        }
        let change = checks.get("change").cloned().unwrap_or_default();
        let text = shown::checked(&checks, &change);
        Ok((Answer::object("Checks", checks, text), Exit::Done))
    })
}

pub(super) fn rebase(options: OneChange, global: &Global) -> Exit {
    global.ask(|client| async move {
        let change = act(&client, &options.change, "rebase").await?;
        let text = format!("{}\nnext: portcullis policy check {}", shown::change(&change), options.change);
        Ok((Answer::object("Change", change, text), Exit::Done))
    })
}

pub(super) fn approve(options: OneChange, global: &Global) -> Exit {
    global.ask(|client| async move {
        let change = act(&client, &options.change, "approve").await?;
        let text = format!("{}\nnext: portcullis policy commit {}", shown::change(&change), options.change);
        Ok((Answer::object("Change", change, text), Exit::Done))
    })
}

pub(super) fn commit(options: OneChange, global: &Global) -> Exit {
    global.ask(|client| async move {
        let version = act(&client, &options.change, "commit").await?;
        let number = number(&version, "version");
        let text = format!(
            "policies v{number} committed, not in force yet\nnext: portcullis policy activate v{number}"
        );
        Ok((Answer::object("PolicyVersion", version, text), Exit::Done))
    })
}

pub(super) fn abandon(options: OneChange, global: &Global) -> Exit {
    global.ask(|client| async move {
        let change = act(&client, &options.change, "abandon").await?;
        let text = format!("change {} abandoned; its text stays readable for a while", options.change);
        Ok((Answer::object("Change", change, text), Exit::Done))
    })
}

/// Does `verb` to the change as it is now.
pub(super) async fn act(client: &Client, id: &str, verb: &str) -> Result<Value, Fault> {
    let change = client.get(&path(id, "")).await?;
    let revision = number(&change, "revision").to_string();
    client.post_if(&path(id, &format!(":{verb}")), &json!({}), &revision).await
}

pub(super) fn path(id: &str, verb: &str) -> String {
    format!("/v1/policies/changes/{}{verb}", encode(id))
}
