//! `portcullis decisions export`: whole records to stdout, piece by piece, so that neither side holds more than one.

use clap::Args;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::bundle;
use super::filters::{Filters, Purpose, Range, body};
use crate::cli::{Global, block_on};
use crate::client::{Client, Fault};
use crate::output::{self, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    filters: Filters,
    /// ndjson or csv
    #[arg(long, default_value = "ndjson")]
    format: String,
    /// Go on where an export before was cut off, as it said
    #[arg(long)]
    cursor: Option<String>,
    /// Records as they were signed, each with its proof, and the texts of the policies that judged: one file that
    /// `decisions verify` checks offline
    #[arg(long, conflicts_with_all = ["format", "cursor"])]
    with_proofs: bool,
    /// Also what is no decision: reads, issuance, activations
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    purpose: Purpose,
}

pub(super) fn run(options: &Options, global: &Global) -> Exit {
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    if options.with_proofs {
        let question = asked(options, "proofs");
        return match block_on(bundle::print(&client, question, &options.purpose.headers())) {
            Ok(exit) => exit,
            Err(fault) => global.fail(&fault),
        };
    }
    let mut cursor = options.cursor.clone();
    match block_on(pieces(&client, options, &mut cursor)) {
        Ok(exit) => exit,
        Err(fault) => {
            if let Some(cursor) = cursor {
                output::talk(&format!("the export is cut off; it goes on with --cursor {cursor}"));
            }
            global.fail(&fault)
        }
    }
}

/// Prints one piece after the other; `cursor` always says where the next one begins.
async fn pieces(client: &Client, options: &Options, cursor: &mut Option<String>) -> Result<Exit, Fault> {
    let mut question = asked(options, &options.format);
    let headers = options.purpose.headers();
    let mut unread = 0_u64;
    loop {
        if let Some(cursor) = &*cursor {
            question.insert("cursor".to_owned(), cursor.as_str().into());
        }
        let asked = Value::Object(question.clone());
        let (told, text) = client.post_with("/v1/decisions:export", &asked, &headers).await?;
        output::raw(&text);
        unread += header(&told, "portcullis-damaged").and_then(|count| count.parse().ok()).unwrap_or(0);
        *cursor = header(&told, "portcullis-next-cursor");
        if cursor.is_none() {
            break;
        }
    }
    if unread > 0 {
        output::talk(&format!("{unread} records could not be read; portcullis check says more"));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

fn asked(options: &Options, format: &str) -> Map<String, Value> {
    let mut question = body(&options.range, options.filters.of_decisions(options.all));
    question.insert("format".to_owned(), format.into());
    question
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
