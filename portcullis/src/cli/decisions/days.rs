//! `portcullis decisions report`: what whole days came to, also when their records are no longer kept (QY5).

use clap::Args;
use serde_json::{Map, Value, json};

use super::filters::Purpose;
use super::stats::{permits, shown};
use super::{answered, exit_of};
use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::output::{Answer, Exit};

const PATH: &str = "/v1/decisions:report";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Count by policy, would_policy, principal, resource, service, reason, action, hour or day
    #[arg(long, default_value = "policy")]
    by: String,
    /// What the largest is: count, allow, deny or would_deny
    #[arg(long, value_name = "MEASURE")]
    order: Option<String>,
    /// From this day on: RFC 3339, or an age such as 90d [default: 30d]
    #[arg(long)]
    since: Option<String>,
    /// Until this day
    #[arg(long)]
    until: Option<String>,
    /// Groups to tell; the rest is counted together [default: 20; all of a time]
    #[arg(long)]
    top: Option<u32>,
    /// Permits in force that decided no call for that long, such as 90d
    #[arg(long, value_name = "AGE", conflicts_with_all = ["by", "order", "since", "until", "top"])]
    unused: Option<String>,
    #[command(flatten)]
    purpose: Purpose,
}

pub(super) fn run(options: Options, global: &Global) -> Exit {
    global.ask(|client| async move {
        match &options.unused {
            Some(age) => unused(&client, age, &options.purpose).await,
            None => counted(&client, &options).await,
        }
    })
}

async fn counted(client: &Client, options: &Options) -> Result<(Answer, Exit), Fault> {
    let is_time = ["hour", "day"].contains(&options.by.as_str());
    let mut question = Map::new();
    let mut ask = |name: &str, value: Option<Value>| {
        question.extend(value.map(|value| (name.to_owned(), value)));
    };
    ask("by", Some(options.by.as_str().into()));
    ask("top", options.order.as_deref().map(Value::from));
    ask("since", options.since.as_deref().map(Value::from));
    ask("until", options.until.as_deref().map(Value::from));
    ask("limit", options.top.or((!is_time).then_some(20)).map(Value::from));
    let document = answered(client, PATH, &Value::Object(question), &options.purpose).await?;
    let by = if is_time { Vec::new() } else { vec![options.by.clone()] };
    let mut text = shown(&document, &by, is_time);
    lacks(&document).iter().for_each(|line| text.push_str(&format!("\n{line}")));
    let exit = exit_of(&document);
    Ok((Answer::object("DecisionReport", document, text), exit))
}

/// What the report does not hold, for people.
fn lacks(document: &Value) -> Vec<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut lines = Vec::new();
    if let Some(kept) =
        text(document, "kept_since").filter(|kept| text(document, "from").as_ref() < Some(kept))
    {
        lines.push(format!("counted since {kept}; nothing is known of the days before"));
    }
    let days = document.get("incomplete").and_then(Value::as_array).into_iter().flatten();
    for day in days {
        let lost = text(day, "uncounted").unwrap_or_else(|| "an unknown number of".to_owned());
        let name = text(day, "day").unwrap_or_default();
        lines.push(format!("{name}: {lost} records are not counted; they could not be read"));
    }
    lines
}

/// Permits in force that no call of that time needed, by the reports and so beyond retention.
async fn unused(client: &Client, age: &str, purpose: &Purpose) -> Result<(Answer, Exit), Fault> {
    let asked = json!({ "by": "policy", "since": age });
    let document = answered(client, PATH, &asked, purpose).await?;
    let groups = document.get("groups").and_then(Value::as_array).into_iter().flatten();
    let used: std::collections::BTreeSet<&str> =
        groups.filter_map(|group| group.pointer("/key/policy").and_then(Value::as_str)).collect();
    let mut found = Vec::new();
    for permit in permits(client).await?.iter().filter(|permit| !used.contains(permit.as_str())) {
        let policy = client.get(&super::policy_path(permit)).await?;
        found.push(json!({ "id": permit, "since": policy.pointer("/since/created") }));
    }
    let mut answer = Answer::list("UnusedPermit", found, &[("PERMIT", "/id"), ("TEXT SINCE", "/since")]);
    if let Some(members) = answer.json.as_object_mut() {
        for name in ["from", "to", "kept_since"] {
            members.insert(name.to_owned(), document.get(name).cloned().unwrap_or_default());
        }
    }
    lacks(&document).iter().for_each(|line| crate::output::talk(line));
    // Beyond the groups that are told one cannot know.
    let is_cut = document.get("other").is_some();
    Ok((answer, if is_cut { Exit::Partial } else { exit_of(&document) }))
}
