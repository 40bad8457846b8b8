//! `portcullis decisions hold`: set, list and release legal holds.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::filters::Filters;
use crate::cli::Global;
use crate::cli::authority::items;
use crate::output::{Answer, Exit};

const PATH: &str = "/v1/decisions:hold";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold a range, or the files that have a record some filters ask for
    #[command(
        after_help = "Examples:\n  portcullis decisions hold add case-7 --purpose \"inquiry 7\" --since 2026-11-01T00:00:00Z --until 2026-11-22T00:00:00Z\n  portcullis decisions hold add case-8 --purpose \"inquiry 8\" --principal spiffe://example.org/web"
    )]
    Add(Box<AddOptions>),
    /// The holds, oldest first
    #[command(after_help = "Example:\n  portcullis decisions hold list")]
    List,
    /// End a hold; needs the role approver
    #[command(after_help = "Example:\n  portcullis decisions hold release case-7")]
    Release { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct AddOptions {
    /// By which it is released
    name: String,
    /// What for; goes on record
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// From this index on
    #[arg(long, requires = "last", conflicts_with_all = ["since", "until"])]
    first: Option<u64>,
    /// To this index
    #[arg(long, requires = "first")]
    last: Option<u64>,
    /// From this time on: RFC 3339, or an age such as 7d [default: everything there is]
    #[arg(long)]
    since: Option<String>,
    /// Until this time [default: what comes as well]
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    filters: Filters,
}

pub(super) fn run(command: Command, global: &Global) -> Exit {
    global.ask(|client| async move {
        let answer = match command {
            Command::Add(options) => {
                let hold = client.post(PATH, &body(&options)).await?;
                shown("holds", hold)
            }
            Command::List => {
                let list = client.get(PATH).await?;
                let exceeds = list.get("exceeds").and_then(Value::as_bool).unwrap_or(false);
                let mut answer = Answer::list("Hold", items(list), COLUMNS);
                if exceeds {
                    answer.text.push_str("\nheld records take more room than the ledger may (PC5020)");
                }
                answer
            }
            Command::Release { name } => {
                shown("released", client.post("/v1/decisions:release", &json!({ "name": name })).await?)
            }
        };
        Ok((answer, Exit::Done))
    })
}

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "/name"),
    ("SINCE", "/range/since"),
    ("UNTIL", "/range/until"),
    ("FIRST", "/range/first"),
    ("LAST", "/range/last"),
    ("BY", "/by"),
    ("AT", "/at"),
    ("REASON", "/reason"),
];

fn shown(word: &str, hold: Value) -> Answer {
    let name = hold.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Answer::object("Hold", hold, format!("{word} {name}"))
}

fn body(options: &AddOptions) -> Value {
    let member = |(name, value): (&'static str, String)| (name.to_owned(), Value::from(value));
    let ends = [("since", &options.since), ("until", &options.until)];
    let given = ends.into_iter().filter_map(|(name, end)| Some((name, end.clone()?)));
    let mut body: Map<_, _> = given.map(member).collect();
    body.insert("name".to_owned(), options.name.as_str().into());
    body.insert("reason".to_owned(), options.purpose.as_str().into());
    if let Some(indexes) = options.first.zip(options.last) {
        body.insert("indexes".to_owned(), json!([indexes.0, indexes.1]));
    }
    let filter: Map<_, _> = options.filters.query().into_iter().map(member).collect();
    body.insert("filter".to_owned(), filter.into());
    body.into()
}
