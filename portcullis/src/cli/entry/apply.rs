//! `entry apply -f FILE`: makes registered entries what a file says, after showing what that changes.
//!
//! An entry of the file is the registered one with the same identity, agent and selectors; where selectors differ, the
//! only one left with the same identity and agent. What is registered and not in the file stays, unless `--prune` says
//! otherwise; entries of the configuration are never deleted here.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Filter, all, fields, place, put};
use crate::cli::Global;
use crate::cli::authority::word;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// File with [[ca.entry]] tables
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete entries that are not in the file; needs --yes
    #[arg(long)]
    prune: bool,
    /// Delete without asking
    #[arg(long, requires = "prune")]
    yes: bool,
}

/// One step from what is registered to what the file says.
#[derive(Debug)]
enum Step {
    Create { body: Value },
    Update { before: Value, body: Value },
    Delete { before: Value },
}

pub(super) fn run(options: &Options, global: &Global) -> Exit {
    let bodies = match crate::config::entries(&options.file) {
        Ok(entries) => entries.iter().map(body).collect::<Vec<_>>(),
        Err(faults) => return crate::output::report(&faults, global.format()),
    };
    global.ask(|client| async move {
        let registered = all(&client, &Filter { id: None, selector: None, namespace: None }).await?;
        let (steps, unchanged) = plan(bodies, registered, options.prune);
        let deleted = steps.iter().filter(|step| matches!(step, Step::Delete { .. })).count();
        if deleted > 0 && !options.yes && !options.dry_run {
            let text =
                format!("{deleted} entries would be deleted, and their workloads lose the identity at once");
            let message = Message::error("PC0104", text).help("look with --dry-run, then repeat with --yes");
            return Err(Fault::new(Exit::Usage, message));
        }
        let mut items = Vec::new();
        for step in &steps {
            let outcome = match options.dry_run {
                true => Ok(()),
                false => step.take(&client).await,
            };
            items.push(step.told(outcome.err().map(|fault| fault.message.text)));
        }
        Ok(answer(items, unchanged, options.dry_run))
    })
}

/// What the file says, as the API takes it.
fn body(entry: &ca_authority::NewEntry) -> Value {
    let seconds = |ttl: Option<std::time::Duration>| ttl.map(|ttl| format!("{}s", ttl.as_secs()));
    json!({
        "spiffe_id": entry.spiffe_id.as_str(),
        "parent_id": entry.parent_id.as_ref().map(ToString::to_string),
        "selectors": entry.selectors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "x509_ttl": seconds(entry.x509_ttl),
        "jwt_ttl": seconds(entry.jwt_ttl),
        "jwt_jti": entry.jwt_jti,
        "dns_names": entry.dns_names,
        "federates_with": entry.federates_with.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "hint": entry.hint,
        "namespace": entry.namespace,
    })
}

/// The steps, and how many entries say the same already.
fn plan(bodies: Vec<Value>, registered: Vec<Value>, prune: bool) -> (Vec<Step>, usize) {
    let mut left = registered;
    let mut take = |fits: &dyn Fn(&Value) -> bool, only: bool| {
        let mut found = left.iter().enumerate().filter(|(_, entry)| fits(entry)).map(|(at, _)| at);
        let first = found.next().filter(|_| !only || found.next().is_none());
        first.map(|at| left.remove(at))
    };
    let differ = |one: &Value, other: &Value, names: &[&str]| {
        let only = |of: &Value| names.iter().map(|name| ((*name).to_owned(), of[*name].clone())).collect();
        !fields::changes(&Value::Object(only(one)), &Value::Object(only(other))).is_empty()
    };
    const NAME: [&str; 3] = ["spiffe_id", "parent_id", "selectors"];
    let mut pairs: Vec<(Value, Option<Value>)> = bodies
        .into_iter()
        .map(|body| {
            let same = take(&|entry| !differ(entry, &body, &NAME), false);
            (body, same)
        })
        .collect();
    let open: Vec<Value> =
        pairs.iter().filter(|(_, same)| same.is_none()).map(|(body, _)| body.clone()).collect();
    for (body, same) in pairs.iter_mut().filter(|(_, same)| same.is_none()) {
        let body = &*body;
        let is_alike = |entry: &Value| !differ(entry, body, &["spiffe_id", "parent_id"]);
        if open.iter().filter(|other| is_alike(other)).count() == 1 {
            *same = take(&is_alike, true);
        }
    }
    let (mut steps, mut unchanged) = (Vec::new(), 0);
    for (mut body, before) in pairs {
        let Some(before) = before else {
            steps.push(Step::Create { body });
            continue;
        };
        // The file cannot say these, so they stay.
        for name in ["labels", "expires_at"] {
            if let Some(kept) = before.get(name) {
                fields::set(&mut body, name, kept.clone());
            }
        }
        match fields::changes(&fields::input(&before), &body).is_empty() {
            true => unchanged += 1,
            false => steps.push(Step::Update { before, body }),
        }
    }
    if prune {
        let ours = left.into_iter().filter(|entry| word(entry, "origin") != "configuration");
        steps.extend(ours.map(|before| Step::Delete { before }));
    }
    (steps, unchanged)
}

impl Step {
    async fn take(&self, client: &Client) -> Result<(), Fault> {
        match self {
            Self::Create { body } => client.post("/v1/entries", body).await.map(drop),
            Self::Update { before, body } => put(client, before, body).await.map(drop),
            Self::Delete { before } => {
                let (id, revision) = (word(before, "id"), word(before, "revision"));
                client.delete(&place(id), revision).await.map(drop)
            }
        }
    }

    fn told(&self, error: Option<String>) -> Value {
        let (verb, entry, changes) = match self {
            Self::Create { body } => ("create", body, Vec::new()),
            Self::Update { before, body } => {
                ("update", before, fields::changes(&fields::input(before), body))
            }
            Self::Delete { before } => ("delete", before, Vec::new()),
        };
        json!({
            "step": verb, "id": entry.get("id"), "spiffe_id": entry.get("spiffe_id"),
            "selectors": entry.get("selectors"), "changes": changes, "error": error,
        })
    }
}

fn answer(items: Vec<Value>, unchanged: usize, dry_run: bool) -> (Answer, Exit) {
    let failed = items.iter().filter(|item| !item["error"].is_null()).count();
    let mut lines = Vec::new();
    for item in &items {
        let sign = match word(item, "step") {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        let selectors = item["selectors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let selectors = selectors.collect::<Vec<_>>().join(", ");
        lines.push(format!("{sign} {}  {selectors}", word(item, "spiffe_id")));
        for change in item["changes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            lines.push(format!("    {change}"));
        }
        if let Some(error) = item["error"].as_str() {
            lines.push(format!("    failed: {error}"));
        }
    }
    let what = if dry_run { "would change" } else { "changed" };
    lines.push(format!(
        "{} {what}, {failed} failed, {unchanged} unchanged",
        items.len().saturating_sub(failed)
    ));
    let exit = match failed {
        0 => Exit::Done,
        all if all == items.len() => Exit::Invalid,
        _ => Exit::Partial,
    };
    let json = json!({ "dry_run": dry_run, "unchanged": unchanged, "items": items });
    (Answer::object("EntryChanges", json, lines.join("\n")), exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(id: &str, path: &str, selectors: &[&str]) -> Value {
        json!({
            "id": id, "revision": "1", "origin": "api", "spiffe_id": format!("spiffe://example.org{path}"),
            "selectors": selectors, "dns_names": [], "labels": { "team": "a" },
        })
    }

    fn wanted(path: &str, selectors: &[&str], hint: Option<&str>) -> Value {
        json!({ "spiffe_id": format!("spiffe://example.org{path}"), "selectors": selectors, "hint": hint })
    }

    fn told(bodies: Vec<Value>, entries: Vec<Value>, prune: bool) -> (Vec<(String, String)>, usize) {
        let (steps, unchanged) = plan(bodies, entries, prune);
        let of = |item: &Value| {
            let id = item["id"].as_str().unwrap_or("new").to_owned();
            (word(item, "step").to_owned(), id)
        };
        (steps.iter().map(|step| of(&step.told(None))).collect(), unchanged)
    }

    fn steps(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(verb, id)| ((*verb).to_owned(), (*id).to_owned())).collect()
    }

    #[test]
    fn en_04_what_is_the_same_stays_and_what_differs_is_changed() {
        let entries = vec![
            registered("a", "/a", &["unix:uid:1", "unix:gid:1"]),
            registered("b", "/b", &["unix:uid:2"]),
            registered("c", "/c", &["unix:uid:3"]),
        ];
        let bodies = vec![
            wanted("/a", &["unix:gid:1", "unix:uid:1"], None),
            wanted("/b", &["unix:uid:2"], Some("db")),
            wanted("/d", &["unix:uid:4"], None),
        ];
        let (without, unchanged) = told(bodies.clone(), entries.clone(), false);
        assert_eq!((without, unchanged), (steps(&[("update", "b"), ("create", "new")]), 1));
        let (with, _) = told(bodies, entries, true);
        assert_eq!(with, steps(&[("update", "b"), ("create", "new"), ("delete", "c")]));
    }

    #[test]
    fn en_04_other_selectors_are_a_change_only_when_it_is_clear_of_what() {
        let one = vec![registered("a", "/a", &["unix:uid:1"])];
        let (changed, _) = told(vec![wanted("/a", &["unix:uid:9"], None)], one.clone(), false);
        assert_eq!(changed, steps(&[("update", "a")]));
        let two = vec![wanted("/a", &["unix:uid:8"], None), wanted("/a", &["unix:uid:9"], None)];
        let (changed, _) = told(two, one, false);
        assert_eq!(changed, steps(&[("create", "new"), ("create", "new")]));
    }

    #[test]
    fn en_04_entries_of_the_configuration_are_not_pruned_and_labels_stay() {
        let mut file = registered("a", "/a", &["unix:uid:1"]);
        fields::set(&mut file, "origin", json!("configuration"));
        assert_eq!(told(Vec::new(), vec![file.clone()], true).0, steps(&[]));
        let (steps, _) = plan(vec![wanted("/a", &["unix:uid:1"], Some("x"))], vec![file], false);
        let Step::Update { body, .. } = &steps[0] else { panic!("{steps:?}") };
        assert_eq!(body["labels"], json!({ "team": "a" }));
    }
}
