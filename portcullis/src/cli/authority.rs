//! `portcullis agent`: agents of other hosts; and what commands read of answers.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Global, decisions};
use crate::client::{Client, Fault};
use crate::output::{Answer, Exit};

/// As many items as the API gives at once.
const PAGE: usize = 1000;

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
pub(crate) fn word<'a>(of: &'a Value, name: &str) -> &'a str {
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

/// Every item of a list that comes in pages.
pub(crate) async fn every(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
) -> Result<Vec<Value>, Fault> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let more = [("limit", PAGE.to_string())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor)));
        let query: Vec<_> = query.iter().cloned().chain(more).collect();
        let page = client.get(&decisions::path(path, &query)).await?;
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        found.extend(items(page));
        if cursor.is_none() {
            return Ok(found);
        }
    }
}
