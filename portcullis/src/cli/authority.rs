//! `portcullis agent`: agents of other hosts; and what commands read of answers.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use crate::output::{Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// A join token: good for one agent, once
    #[command(after_help = "Example:\n  portcullis agent token --ttl 10m")]
    Token {
        /// How long it can be used
        #[arg(long, default_value = "10m", value_parser = super::run::parse_duration)]
        ttl: Duration,
    },
}

pub(crate) fn agent(command: AgentCommand, global: &Global) -> Exit {
    match command {
        AgentCommand::Token { ttl } => global.ask(|client| async move {
            let token = client.post("/v1/agents:token", &json!({ "ttl": format!("{}s", ttl.as_secs()) })).await?;
            let of = |name: &str| token.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let text = format!("token    {}\nexpires  {}\nuse it once: POST /v1/agents:attest with the token and a certificate request", of("token"), of("expires"));
            Ok((Answer::object("JoinToken", token, text), Exit::Done))
        }),
    }
}

/// A member of an answer, empty where it has none.
pub(crate) fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list answer.
pub(crate) fn items(list: Value) -> Vec<Value> {
    match list {
        Value::Object(mut members) => match members.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
