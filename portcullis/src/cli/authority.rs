//! `portcullis ca`, `entry` and `agent`: the authority of the running process.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use crate::output::{Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Root and signing keys, with their expiries
    #[command(after_help = "Example:\n  portcullis ca show")]
    Show,
}

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

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Register a workload: processes that match all selectors get the identity
    #[command(
        after_help = "Example:\n  portcullis entry create --id spiffe://example.org/web --selector unix:uid:1000"
    )]
    Create(CreateOptions),
    /// All entries
    #[command(alias = "ls", after_help = "Example:\n  portcullis entry list -o json")]
    List,
    /// Delete an entry; its workloads lose the identity at once
    #[command(alias = "rm", after_help = "Example:\n  portcullis entry delete ENTRY_ID --yes")]
    Delete {
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// SPIFFE ID to issue
    #[arg(long)]
    id: String,
    /// A fact that must hold; repeat for several
    #[arg(long = "selector", required = true)]
    selectors: Vec<String>,
    /// DNS name in the certificate; repeat for several
    #[arg(long = "dns-name")]
    dns_names: Vec<String>,
    /// Lifetime of the SVIDs
    #[arg(long, value_parser = super::run::parse_duration)]
    ttl: Option<Duration>,
    /// Lifetime of the JWT-SVIDs
    #[arg(long, value_parser = super::run::parse_duration)]
    jwt_ttl: Option<Duration>,
    /// Hint for workloads with several identities
    #[arg(long)]
    hint: Option<String>,
    /// Namespace in policies
    #[arg(long)]
    namespace: Option<String>,
}

pub(crate) fn ca(command: CaCommand, global: &Global) -> Exit {
    match command {
        CaCommand::Show => global.ask(|client| async move {
            let items = items(client.get("/v1/authorities").await?);
            let columns =
                [("KIND", "/kind"), ("STATE", "/state"), ("KEY", "/key_id"), ("EXPIRES", "/not_after")];
            Ok((Answer::list("Authority", items, &columns), Exit::Done))
        }),
    }
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

pub(crate) fn entry(command: EntryCommand, global: &Global) -> Exit {
    match command {
        EntryCommand::List => global.ask(|client| async move {
            let items = items(client.get("/v1/entries?limit=1000").await?);
            let columns = [
                ("ID", "/id"),
                ("SPIFFE ID", "/spiffe_id"),
                ("SELECTORS", "/selectors"),
                ("REVISION", "/revision"),
            ];
            Ok((Answer::list("Entry", items, &columns), Exit::Done))
        }),
        EntryCommand::Create(options) => global.ask(|client| async move {
            let mut body = json!({ "spiffe_id": options.id, "selectors": options.selectors });
            if let Some(members) = body.as_object_mut() {
                let seconds = |ttl: Duration| json!(format!("{}s", ttl.as_secs()));
                let dns_names = (!options.dns_names.is_empty()).then(|| json!(options.dns_names));
                let optional = [
                    ("x509_ttl", options.ttl.map(seconds)),
                    ("jwt_ttl", options.jwt_ttl.map(seconds)),
                    ("dns_names", dns_names),
                    ("hint", options.hint.map(Value::from)),
                    ("namespace", options.namespace.map(Value::from)),
                ];
                members
                    .extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            }
            let entry = client.post("/v1/entries", &body).await?;
            let id = entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let text = format!("created entry {id}\nundo: portcullis entry delete {id} --yes");
            Ok((Answer::object("Entry", entry, text), Exit::Done))
        }),
        EntryCommand::Delete { id, yes } => {
            if !yes {
                crate::output::talk(&format!(
                    "error: deleting entry {id} takes the identity from its workloads at once; repeat with --yes"
                ));
                return Exit::Usage;
            }
            global.ask(|client| async move {
                let entry = client.get(&format!("/v1/entries/{id}")).await?;
                let revision = entry.get("revision").and_then(Value::as_str).unwrap_or_default();
                client.delete(&format!("/v1/entries/{id}"), revision).await?;
                let text = format!("deleted entry {id}\nundo: {}", undo(&entry));
                Ok((Answer::object("Deleted", json!({ "id": id, "entry": entry }), text), Exit::Done))
            })
        }
    }
}

fn undo(entry: &Value) -> String {
    let mut line = "portcullis entry create".to_owned();
    let id = entry.get("spiffe_id").and_then(Value::as_str).unwrap_or_default();
    line.push_str(&format!(" --id {id}"));
    for selector in entry.get("selectors").and_then(Value::as_array).into_iter().flatten() {
        line.push_str(&format!(" --selector {}", selector.as_str().unwrap_or_default()));
    }
    line
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
