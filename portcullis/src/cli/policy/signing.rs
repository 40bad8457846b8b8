//! `policy signing`: the keys that sign versions and the epoch of their numbers; a new key, a new epoch (ST4, ST5).

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::shown::number;
use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};

const PATH: &str = "/v1/policies/signing";
/// Keys that sign at the same time: the newest, and the one before it.
const BOTH: usize = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum SigningCommand {
    /// Make a new key; it and the one before it sign until the next rotation
    #[command(after_help = "Example:\n  portcullis policy signing rotate")]
    Rotate(RotateOptions),
    /// After the store was restored from a backup: let enforcers that saw later numbers follow again
    #[command(after_help = "Example:\n  portcullis policy signing raise-epoch")]
    RaiseEpoch,
}

#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    /// Do not ask: the oldest key signs no more, and nobody who pins it takes anything new
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: Option<SigningCommand>, global: &Global) -> Exit {
    match command {
        None => show(global),
        Some(SigningCommand::Rotate(options)) => rotate(options, global),
        Some(SigningCommand::RaiseEpoch) => raise_epoch(global),
    }
}

fn show(global: &Global) -> Exit {
    global.ask(|client| async move {
        let signing = client.get(PATH).await?;
        let text = format!("{}\n{}", lines(&keys(&signing)), position(&signing));
        Ok((Answer::object("PolicySigning", signing, text), Exit::Done))
    })
}

fn rotate(options: RotateOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let before = keys(&client.get(PATH).await?);
        if let (Some(oldest), true, false) = (before.last(), before.len() >= BOTH, options.yes) {
            let text = format!("`{oldest}` would sign no more");
            let message = Message::error("PC2046", text)
                .help("let every follower pin the newest key (`signer` in its configuration; hosts that joined learn it by themselves), then rotate with --yes")
                .next("portcullis status");
            return Err(Fault::new(Exit::Usage, message));
        }
        let signing = post(&client, "rotate").await?;
        let mut text = lines(&keys(&signing));
        text.push_str("\nnext: pin the newest key at every follower of this host, as `signer` in its portcullis.toml, before the next rotation; hosts that joined learn it by themselves");
        Ok((Answer::object("PolicySigning", signing, text), Exit::Done))
    })
}

fn raise_epoch(global: &Global) -> Exit {
    global.ask(|client| async move {
        let signing = post(&client, "raise-epoch").await?;
        let text = format!("{}\nnext: portcullis status", position(&signing));
        Ok((Answer::object("PolicySigning", signing, text), Exit::Done))
    })
}

async fn post(client: &Client, verb: &str) -> Result<Value, Fault> {
    client.post(&format!("{PATH}:{verb}"), &json!({})).await
}

fn keys(signing: &Value) -> Vec<String> {
    let keys = signing.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn lines(keys: &[String]) -> String {
    let line = |(at, key): (usize, &String)| match at {
        0 => format!("signs   {key}"),
        _ => format!("signs   {key}  until the next rotation"),
    };
    keys.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn position(signing: &Value) -> String {
    match number(signing, "epoch") {
        0 => "nothing is in force".to_owned(),
        epoch => format!(
            "epoch {epoch}, snapshot {}, policies v{}",
            number(signing, "snapshot"),
            number(signing, "version")
        ),
    }
}
