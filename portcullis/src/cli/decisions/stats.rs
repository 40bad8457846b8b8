//! `portcullis decisions stats`: what is denied most, what policies do, when; and permits that nobody used.
//!
//! Counted from the ledger by scan, so no further back than it is kept.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::filters::{Filters, Purpose, Range, body};
use super::{answered, exit_of};
use crate::cli::Global;
use crate::cli::authority::items;
use crate::client::{Client, Fault};
use crate::output::{Answer, Exit, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    filters: Filters,
    /// Count by these fields, at most three: principal, service, policy, reason, resource, ..
    #[arg(long, value_delimiter = ',', default_value = "principal,action,resource")]
    by: Vec<String>,
    /// Count by time as well: 1m to 1d
    #[arg(long, value_name = "WIDTH")]
    every: Option<String>,
    /// Groups to tell; the rest is counted together
    #[arg(long, default_value_t = 20)]
    top: u32,
    /// Permits in force that decided no call for that long, such as 30d
    #[arg(long, value_name = "AGE", conflicts_with_all = ["every", "since", "until"])]
    unused: Option<String>,
    #[command(flatten)]
    purpose: Purpose,
}

pub(super) fn run(options: Options, global: &Global) -> Exit {
    global.ask(|client| async move {
        match &options.unused {
            Some(age) => unused(&client, age).await,
            None => counted(&client, &options).await,
        }
    })
}

async fn counted(client: &Client, options: &Options) -> Result<(Answer, Exit), Fault> {
    let mut question = body(&options.range, options.filters.of_decisions(false));
    // A histogram without `--by` would otherwise be one of callers.
    question.insert("group_by".to_owned(), json!(options.by));
    question.insert("limit".to_owned(), options.top.into());
    if let Some(width) = &options.every {
        question.insert("bucket".to_owned(), width.as_str().into());
    }
    let question = Value::Object(question);
    let document = answered(client, "/v1/decisions:aggregate", &question, &options.purpose).await?;
    let text = shown(&document, &options.by, options.every.is_some());
    let exit = exit_of(&document);
    Ok((Answer::object("DecisionAggregate", document, text), exit))
}

/// Groups as a table: by these members, or by time, or both.
pub(super) fn shown(document: &Value, by: &[String], is_timed: bool) -> String {
    let count = |group: &Value, name: &str| group.get(name).and_then(Value::as_u64).unwrap_or_default();
    let measures = ["count", "allow", "deny", "would_deny"];
    let mut headers: Vec<String> = Vec::new();
    headers.extend(is_timed.then(|| "TIME".to_owned()));
    headers.extend(by.iter().map(|name| name.to_uppercase()));
    headers.extend(measures.map(|name| name.to_uppercase().replace('_', " ")));
    headers.push("LAST".to_owned());
    let row = |group: &Value, label: Option<&str>| {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("-").to_owned();
        let mut cells = Vec::new();
        cells.extend(is_timed.then(|| match label {
            Some(label) if by.is_empty() => label.to_owned(),
            _ => text(group.get("bucket")),
        }));
        cells.extend(by.iter().enumerate().map(|(at, name)| match label {
            Some(label) if at == 0 => label.to_owned(),
            Some(_) => String::new(),
            None => text(group.pointer(&format!("/key/{name}"))),
        }));
        cells.extend(measures.map(|name| count(group, name).to_string()));
        cells.push(text(group.get("last")));
        cells
    };
    let groups = document.get("groups").and_then(Value::as_array).into_iter().flatten();
    let mut rows: Vec<_> = groups.map(|group| row(group, None)).collect();
    rows.extend(document.get("other").map(|other| row(other, Some("(other)"))));
    rows.extend(document.get("total").map(|total| row(total, Some("(total)"))));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    table(&headers, rows.into_iter())
}

/// Permits in force that the calls of that time did not need.
async fn unused(client: &Client, age: &str) -> Result<(Answer, Exit), Fault> {
    let usage = client.post("/v1/policies:usage", &json!({ "since": age })).await?;
    let permits = permits(client).await?;
    let policies = usage.get("policies").and_then(Value::as_object).into_iter().flatten();
    let found: Vec<Value> = policies
        .filter(|(id, used)| used.get("matched").and_then(Value::as_u64) == Some(0) && permits.contains(*id))
        .map(|(id, used)| json!({ "id": id, "since": used.get("since"), "overruled": used.pointer("/overruled/calls") }))
        .collect();
    let is_partial = usage.get("partial").and_then(Value::as_bool).unwrap_or(false);
    let answer = Answer::list(
        "UnusedPermit",
        found,
        &[("PERMIT", "/id"), ("TEXT SINCE", "/since"), ("CALLS A FORBID REFUSED", "/overruled")],
    );
    Ok((answer, if is_partial { Exit::Partial } else { Exit::Done }))
}

/// Ids of the permits in force.
pub(super) async fn permits(client: &Client) -> Result<BTreeSet<String>, Fault> {
    let policies = items(client.get("/v1/policies").await?);
    let permits = policies
        .iter()
        .filter(|policy| policy.get("effect").and_then(Value::as_str) == Some("permit"))
        .filter_map(|policy| policy.get("id").and_then(Value::as_str).map(str::to_owned));
    Ok(permits.collect())
}
