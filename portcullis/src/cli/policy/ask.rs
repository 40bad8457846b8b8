//! `portcullis who-can` and `what-can`: the reverse questions, asked of the running process.

use clap::Args;
use serde_json::Value;

use super::shown::text;
use crate::cli::Global;
use crate::cli::decisions::path;
use crate::output::{self, Answer, Exit, table};

#[derive(Debug, Args)]
pub(crate) struct WhoCanOptions {
    /// What, as grpc or http:GET
    action: String,
    /// On what, as Method::"shop.Orders/Get", Route::"..", Service::".."
    resource: String,
    #[command(flatten)]
    page: PageOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WhatCanOptions {
    /// Who, as a SPIFFE ID, Workload::"spiffe://..", or anonymous
    principal: String,
    /// This action alone
    #[arg(long)]
    action: Option<String>,
    #[command(flatten)]
    page: PageOptions,
}

#[derive(Debug, Args)]
struct PageOptions {
    /// At most this many lines
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Go on where the answer before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl PageOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let limit = [("limit", self.limit.to_string())];
        limit.into_iter().chain(self.cursor.clone().map(|cursor| ("cursor", cursor))).collect()
    }
}

pub(crate) fn who_can(options: WhoCanOptions, global: &Global) -> Exit {
    let mut pairs = vec![("action", options.action), ("resource", options.resource)];
    pairs.extend(options.page.pairs());
    ask("WhoCanList", path("/v1/policies:who-can", &pairs), &["WHO"], |line| vec![who(line)], global)
}

pub(crate) fn what_can(options: WhatCanOptions, global: &Global) -> Exit {
    let mut pairs = vec![("principal", options.principal)];
    pairs.extend(options.action.map(|action| ("action", action)));
    pairs.extend(options.page.pairs());
    let what = |line: &Value| vec![words(line.get("actions")), text(line, "resource").to_owned()];
    ask("WhatCanList", path("/v1/policies:what-can", &pairs), &["ACTION", "RESOURCE"], what, global)
}

/// Lines of `columns`, each with verdict, policies and condition. Nobody and nothing is an answer too: exit 2.
fn ask(
    kind: &'static str,
    path: String,
    columns: &[&str],
    cells: impl Fn(&Value) -> Vec<String>,
    global: &Global,
) -> Exit {
    global.ask(|client| async move {
        let answer = client.get(&path).await?;
        let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        for hint in
            answer.get("hints").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            output::talk(&format!("hint: {hint}"));
        }
        let headers = [columns, &["VERDICT", "POLICIES", "WHEN"]].concat();
        let rows = items.iter().map(|line| {
            let verdict = text(line, "verdict").to_owned();
            let condition = line.get("condition").and_then(Value::as_str).unwrap_or("-").to_owned();
            [cells(line), vec![verdict, places(line), condition]].concat()
        });
        let mut shown = table(&headers, rows);
        shown.push_str(&format!("\n\n{}", counts(&answer)));
        let exit = if items.is_empty() { Exit::Denied } else { Exit::Done };
        Ok((Answer { text: shown, ..Answer::object(kind, answer, String::new()) }, exit))
    })
}

fn who(line: &Value) -> String {
    let one = line.get("principal").and_then(Value::as_str);
    one.unwrap_or_else(|| text(line, "class")).to_owned()
}

/// `orders-read (orders.cedar:4)`.
fn places(line: &Value) -> String {
    let place = |policy: &Value| {
        let at = |pointer: &str| policy.pointer(pointer).cloned().unwrap_or_default();
        let (file, line) = (at("/source/file"), at("/source/line"));
        format!("{} ({}:{line})", text(policy, "policy"), file.as_str().unwrap_or_default())
    };
    let policies = line.get("policies").and_then(Value::as_array);
    policies.into_iter().flatten().map(place).collect::<Vec<_>>().join(", ")
}

fn words(list: Option<&Value>) -> String {
    let words = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(", ")
}

fn counts(answer: &Value) -> String {
    let of =
        |name: &str| answer.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or_default();
    let policies = answer.get("policies").and_then(Value::as_u64).unwrap_or_default();
    let more = match answer.get("next").and_then(Value::as_str) {
        Some(next) => format!("; more with --cursor '{next}'"),
        None => String::new(),
    };
    format!(
        "policies v{policies}: {} always, {} under a condition, {} never{more}",
        of("allow"),
        of("depends"),
        of("deny")
    )
}
