//! `policy diff`: how two versions differ, or a version and a directory; what the difference means for callers is told
//! by the running process, the lines by this command.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::files::{self, Files};
use super::shown::{number, text};
use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::lines;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct DiffOptions {
    /// Version, such as v41 [default: the newest]
    from: Option<String>,
    /// Version or directory [default: policies.dir of the configuration; without one, the version before]
    to: Option<String>,
}

pub(super) fn diff(options: DiffOptions, global: &Global) -> Exit {
    let dir = match (&options.from, &options.to) {
        (_, Some(to)) => (!is_version(to)).then(|| PathBuf::from(to)),
        (Some(from), None) if !is_version(from) => Some(PathBuf::from(from)),
        (_, None) => match super::place(None, global) {
            Ok((dir, _)) => Some(dir).filter(|dir| dir.is_dir()),
            Err(exit) => return exit,
        },
    };
    let from = options.from.filter(|from| is_version(from));
    global.ask(|client| async move {
        if let Some(dir) = dir {
            return against(&client, from.as_deref(), &dir).await;
        }
        let newest = files::newest(&client).await?;
        let (from, to) = match (from, options.to) {
            (Some(from), Some(to)) => {
                (super::shown::version_number(&from)?, super::shown::version_number(&to)?)
            }
            (Some(from), None) => (super::shown::version_number(&from)?, newest),
            (None, _) => (newest.saturating_sub(1), newest),
        };
        let found = client.get(&format!("/v1/policies/diff?from={from}&to={to}")).await?;
        let text = format!("policies v{from} -> v{to}\n{}", text(&found, "text").trim_end());
        Ok((Answer::object("Difference", found, text), Exit::Done))
    })
}

fn is_version(written: &str) -> bool {
    let digits = written.strip_prefix('v').unwrap_or(written);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

async fn against(client: &Client, from: Option<&str>, dir: &Path) -> Result<(Answer, Exit), Fault> {
    let there = files::read(dir)?;
    let (version, base) = files::version(client, from).await?;
    let edits = files::edits(&base, &there);
    let text = if edits.is_empty() {
        format!("{} is as policies v{version}", dir.display())
    } else {
        format!("policies v{version} -> {}\n{}", dir.display(), shown(&base, &there))
    };
    let names: Vec<_> = edits.keys().collect();
    let answer = json!({ "from": version, "to": dir.display().to_string(), "files": names, "text": text });
    Ok((Answer::object("Difference", answer, text), Exit::Done))
}

/// The lines that a change changes.
pub(super) async fn of_change(client: &Client, change: &Value) -> Result<String, Fault> {
    let base = number(change, "base");
    let base = match base {
        0 => Files::new(),
        base => files::version(client, Some(&base.to_string())).await?.1,
    };
    let mut after = base.clone();
    for edit in change.get("edits").and_then(Value::as_array).into_iter().flatten() {
        let file = text(edit, "file").to_owned();
        match edit.get("text").and_then(Value::as_str) {
            Some(text) => after.insert(file, text.to_owned()),
            None => after.remove(&file),
        };
    }
    Ok(shown(&base, &after))
}

/// What the running process says about the difference of two versions.
pub(super) async fn between(client: &Client, from: u64, to: u64) -> Result<String, Fault> {
    let found = client.get(&format!("/v1/policies/diff?from={from}&to={to}")).await?;
    Ok(text(&found, "text").trim_end().to_owned())
}

fn shown(base: &Files, after: &Files) -> String {
    let edits = files::edits(base, after);
    let parts = edits.keys().map(|file| {
        lines::difference(file, base.get(*file).map(String::as_str), after.get(*file).map(String::as_str))
    });
    parts.collect::<Vec<_>>().join("\n")
}
