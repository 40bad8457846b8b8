//! `portcullis entry`: registration entries of the running authority, read, written one by one, and explained.

mod apply;
mod explain;
mod fields;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::authority::{every, word};
use super::{Global, decisions};
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};
use fields::Fields;

const COLUMNS: [(&str, &str); 4] =
    [("ID", "/id"), ("SPIFFE ID", "/spiffe_id"), ("SELECTORS", "/selectors"), ("REVISION", "/revision")];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a workload: processes that match all selectors get the identity
    #[command(
        after_help = "Example:\n  portcullis entry create --id spiffe://example.org/web --selector unix:uid:1000"
    )]
    Create(CreateOptions),
    /// All entries, or those that fit
    #[command(
        alias = "ls",
        after_help = "Examples:\n  portcullis entry list -o json\n  portcullis entry list --selector unix:uid:1000"
    )]
    List(Filter),
    /// One entry with everything it says
    #[command(after_help = "Example:\n  portcullis entry get ENTRY_ID -o json")]
    Get { id: String },
    /// How many entries there are, or how many fit
    #[command(after_help = "Example:\n  portcullis entry count --namespace shop")]
    Count(Filter),
    /// Change what an entry says; what is not named stays as it is
    #[command(after_help = "Example:\n  portcullis entry update ENTRY_ID --dns-name web.local --ttl 30m")]
    Update(UpdateOptions),
    /// Make entries what a file says
    #[command(
        after_help = "The file holds [[ca.entry]] tables, as portcullis.toml does.\n\nExamples:\n  portcullis entry apply -f entries.toml --dry-run\n  portcullis entry apply -f entries.toml"
    )]
    Apply(apply::Options),
    /// Which entries a process matches, and which it nearly does
    #[command(after_help = "Example:\n  portcullis entry explain 4711")]
    Explain {
        /// Process id on this host
        #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
        pid: i32,
    },
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
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Id of the entry
    #[arg(value_name = "ENTRY_ID")]
    id: String,
    /// A fact that must hold, in place of all selectors; repeat for several
    #[arg(long = "selector")]
    selectors: Vec<String>,
    #[command(flatten)]
    fields: Fields,
    /// What the entry is to say no longer; repeat for several
    #[arg(long, value_name = "FIELD", value_parser = ["dns-name", "federates-with", "ttl", "jwt-ttl", "hint", "namespace", "parent"])]
    clear: Vec<String>,
}

/// Which entries; all given ones must hold.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Grants this SPIFFE ID
    #[arg(long)]
    id: Option<String>,
    /// Asks for this selector
    #[arg(long)]
    selector: Option<String>,
    /// Is in this namespace
    #[arg(long)]
    namespace: Option<String>,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::List(filter) => global.ask(|client| async move {
            Ok((Answer::list("Entry", all(&client, &filter).await?, &COLUMNS), Exit::Done))
        }),
        Command::Count(filter) => global.ask(|client| async move {
            let count = all(&client, &filter).await?.len();
            Ok((Answer::object("EntryCount", json!({ "count": count }), count.to_string()), Exit::Done))
        }),
        Command::Get { id } => global.ask(|client| async move {
            let entry = get(&client, &id).await?;
            let text = fields::text(&entry);
            Ok((Answer::object("Entry", entry, text), Exit::Done))
        }),
        Command::Create(options) => global.ask(|client| create(client, options)),
        Command::Update(options) => global.ask(|client| update(client, options)),
        Command::Apply(options) => apply::run(&options, global),
        Command::Explain { pid } => global.ask(|client| explain::run(client, pid)),
        Command::Delete { id, yes } => {
            if !yes {
                let text = format!(
                    "deleting entry {id} takes the identity from its workloads at once; repeat with --yes"
                );
                return global.fail(&Fault::new(Exit::Usage, Message::error("PC0104", text)));
            }
            global.ask(|client| delete(client, id))
        }
    }
}

async fn create(client: Client, options: CreateOptions) -> Result<(Answer, Exit), Fault> {
    let mut body = json!({ "spiffe_id": options.id, "selectors": options.selectors });
    options.fields.write(&mut body);
    let entry = client.post("/v1/entries", &body).await?;
    let id = word(&entry, "id").to_owned();
    let text = format!("created entry {id}\nundo: portcullis entry delete {id} --yes");
    Ok((Answer::object("Entry", entry, text), Exit::Done))
}

async fn update(client: Client, options: UpdateOptions) -> Result<(Answer, Exit), Fault> {
    let before = get(&client, &options.id).await?;
    let mut body = fields::input(&before);
    if !options.selectors.is_empty() {
        fields::set(&mut body, "selectors", json!(options.selectors));
    }
    fields::clear(&mut body, &options.clear);
    options.fields.write(&mut body);
    let changes = fields::changes(&fields::input(&before), &body);
    if changes.is_empty() {
        let text = format!("entry {} says this already", options.id);
        return Ok((Answer::object("Entry", before, text), Exit::Done));
    }
    let entry = put(&client, &before, &body).await?;
    let mut text = format!("updated entry {}", options.id);
    for change in &changes {
        text.push_str(&format!("\n  {change}"));
    }
    if word(&before, "origin") == "configuration" {
        text.push_str("\nit was written in the configuration, which does not change it from now on");
    }
    text.push_str(&format!("\nundo: {}", fields::undo_update(&before, &body)));
    Ok((Answer::object("Entry", entry, text), Exit::Done))
}

async fn delete(client: Client, id: String) -> Result<(Answer, Exit), Fault> {
    let entry = get(&client, &id).await?;
    client.delete(&place(&id), word(&entry, "revision")).await?;
    let text = format!("deleted entry {id}\nundo: {}", fields::undo_delete(&entry));
    Ok((Answer::object("Deleted", json!({ "id": id, "entry": entry }), text), Exit::Done))
}

/// Every entry that fits, over all pages.
async fn all(client: &Client, filter: &Filter) -> Result<Vec<Value>, Fault> {
    let asked = [("spiffe_id", &filter.id), ("selector", &filter.selector), ("namespace", &filter.namespace)];
    let query: Vec<_> = asked.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    every(client, "/v1/entries", &query).await
}

async fn get(client: &Client, id: &str) -> Result<Value, Fault> {
    client.get(&place(id)).await.map_err(|fault| fault.or_next("portcullis entry list"))
}

/// Replaces an entry as it was read.
async fn put(client: &Client, before: &Value, body: &Value) -> Result<Value, Fault> {
    client.put(&place(word(before, "id")), body, word(before, "revision")).await
}

/// The path of an entry.
fn place(id: &str) -> String {
    format!("/v1/entries/{}", decisions::encode(id))
}
