//! `policy list`, `get`, `history`, `blame`: the policies in force, and how each of them came to be what it is.

use clap::Args;
use serde_json::Value;

use super::shown::{self, number, text, time, who};
use crate::cli::Global;
use crate::cli::authority::items;
use crate::cli::decisions::policy_path;
use crate::output::{Answer, Exit, table};

#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    /// Policy, by its @id
    id: String,
    /// As it was in this version
    #[arg(long, value_name = "V")]
    version: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OnePolicy {
    /// Policy, by its @id
    id: String,
}

pub(super) fn list(global: &Global) -> Exit {
    global.ask(|client| async move {
        let items = items(client.get("/v1/policies").await?);
        let columns = [
            ("ID", "/id"),
            ("EFFECT", "/effect"),
            ("SOURCE", "/file"),
            ("LINE", "/line"),
            ("SYSTEM", "/system"),
        ];
        Ok((Answer::list("Policy", items, &columns), Exit::Done))
    })
}

pub(super) fn get(options: GetOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let at = match &options.version {
            Some(version) => format!("?version={}", shown::version_number(version)?),
            None => String::new(),
        };
        let policy = client.get(&format!("{}{at}", policy_path(&options.id))).await?;
        let mut text = format!(
            "// {}:{}  policies v{}",
            text(&policy, "file"),
            number(&policy, "line"),
            number(&policy, "version")
        );
        if let Some(since) = policy.get("since").filter(|since| !since.is_null()) {
            let (of, author) = (number(since, "version"), who(shown::text(since, "author")));
            text.push_str(&format!(", as it is since v{of} by {author}"));
        }
        text.push_str(&format!("\n{}", shown::text(&policy, "text").trim_end()));
        Ok((Answer::object("Policy", policy, text), Exit::Done))
    })
}

pub(super) fn history(options: OnePolicy, global: &Global) -> Exit {
    global.ask(|client| async move {
        let items = items(client.get(&format!("{}/history", policy_path(&options.id))).await?);
        let rows = items.iter().map(|step| {
            vec![
                format!("v{}", number(step, "version")),
                text(step, "step").to_owned(),
                time(text(step, "created")),
                who(text(step, "author")),
                format!("{}:{}", text(step, "file"), number(step, "line")),
                text(step, "message").to_owned(),
            ]
        });
        let text = table(&["VERSION", "STEP", "COMMITTED", "AUTHOR", "PLACE", "MESSAGE"], rows);
        Ok((shown::list("PolicyHistory", items, text), Exit::Done))
    })
}

pub(super) fn blame(options: OnePolicy, global: &Global) -> Exit {
    global.ask(|client| async move {
        let items = items(client.get(&format!("{}/blame", policy_path(&options.id))).await?);
        let rows = items.iter().map(|line| {
            vec![
                format!("v{}", number(line, "version")),
                who(text(line, "author")),
                time(text(line, "created")),
                number(line, "line").to_string(),
                line.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
            ]
        });
        let text = table(&["VERSION", "AUTHOR", "COMMITTED", "LINE", "TEXT"], rows);
        Ok((shown::list("PolicyBlame", items, text), Exit::Done))
    })
}
