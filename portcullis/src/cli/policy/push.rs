//! `policy push`: a directory becomes a change, checked at once; with `--publish` it goes all the way into force.
//! A change of yours whose checks failed is written again by the next push, so that fixing a mistake is one command.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::change::{act, path};
use super::files::{self, Files};
use super::shown::{self, number, text};
use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct PushOptions {
    /// Directory [default: policies.dir of the configuration]
    dir: Option<PathBuf>,
    #[command(flatten)]
    about: About,
}

/// What a change is for, and how far it goes.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// What the change is for
    #[arg(short = 'm', long, default_value = "")]
    message: String,
    /// Where it was asked for
    #[arg(long)]
    ticket: Option<String>,
    /// Write this open change of yours again
    #[arg(long, value_name = "CHANGE")]
    change: Option<String>,
    /// Commit and activate it at once, when the policies permit
    #[arg(long)]
    publish: bool,
}

pub(super) fn push(options: PushOptions, global: &Global) -> Exit {
    let dir = match options.dir {
        Some(dir) => dir,
        None => match super::place(None, global) {
            Ok((dir, _)) => dir,
            Err(exit) => return exit,
        },
    };
    let read = match files::read(&dir) {
        Ok(read) => read,
        Err(fault) => return global.fail(&fault),
    };
    send(
        read,
        Source { again: format!("portcullis policy push {}", dir.display()), dir: Some(dir) },
        options.about,
        global,
    )
}

/// Where the files came from.
pub(super) struct Source {
    /// The command that sends them again.
    pub(super) again: String,
    /// Where a person edits them.
    pub(super) dir: Option<PathBuf>,
}

impl Source {
    /// Findings name files as the store knows them; whoever edits them looks for them here.
    fn place(&self, wanted: &Files, mut found: Message) -> Message {
        if let (Some(dir), Some(place)) = (&self.dir, found.place.as_mut()) {
            let is_it = |name: &&String| place.file == **name || place.file.ends_with(&format!("/{name}"));
            if let Some(name) = wanted.keys().filter(is_it).max_by_key(|name| name.len()) {
                place.file = dir.join(name).display().to_string();
            }
        }
        found
    }
}

/// Makes a change of `wanted`, or writes one again, checks it, and goes as far as asked.
pub(super) fn send(wanted: Files, source: Source, about: About, global: &Global) -> Exit {
    global.ask(|client| async move {
        let change = match draft(&client, &wanted, &about).await? {
            Drafted::Nothing(version) => {
                let text = format!("nothing differs from policies v{version}");
                let answer = json!({ "change": null, "version": version });
                return Ok((Answer::object("Push", answer, text), Exit::Done));
            }
            Drafted::Change(change) => change,
        };
        let id = text(&change, "id").to_owned();
        let checked = client.post(&path(&id, ":validate"), &json!({})).await;
        let checked = checked.map_err(|mut fault| {
            fault.message.text = format!("change {id}: {}", fault.message.text);
            fault.findings = std::mem::take(&mut fault.findings)
                .into_iter()
                .map(|found| source.place(&wanted, found))
                .collect();
            let again = format!("{} --change {id}", source.again);
            fault.or_next(format!("{again}   (after fixing it; nothing was put into force)"))
        })?;
        if about.publish {
            return publish(&client, &id).await;
        }
        let change = checked.get("change").cloned().unwrap_or_default();
        let next = if number(&change, "version") == 0 {
            format!("portcullis policy commit {id}")
        } else {
            String::new()
        };
        let about = shown::checked(&checked, &change);
        let text = format!("{about}\nnext: portcullis policy show {id}, then {next}");
        Ok((Answer::object("Push", checked, text), Exit::Done))
    })
}

enum Drafted {
    Nothing(u64),
    Change(Value),
}

async fn draft(client: &Client, wanted: &Files, about: &About) -> Result<Drafted, Fault> {
    let open = match &about.change {
        Some(id) => Some(client.get(&path(id, "")).await?),
        None => unfinished(client).await?,
    };
    let base = match &open {
        Some(change) => number(change, "base"),
        None => files::newest(client).await?,
    };
    let (_, there) = match base {
        0 => (0, Files::new()),
        base => files::version(client, Some(&base.to_string())).await?,
    };
    let mut edits = files::edits(&there, wanted);
    let Some(change) = open else {
        if edits.is_empty() {
            return Ok(Drafted::Nothing(base));
        }
        let body = json!({ "base": (base > 0).then_some(base), "message": about.message, "ticket": about.ticket, "edits": listed(&edits) });
        return client.post("/v1/policies/changes", &body).await.map(Drafted::Change);
    };
    // What the change has and the directory has not is as it was in the base.
    let edited: Vec<_> = change
        .get("files")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in edited {
        edits.entry(name).or_insert_with(|| there.get(name).map(String::as_str));
    }
    let id = text(&change, "id");
    let body = json!({ "edits": listed(&edits) });
    client.patch(&path(id, ""), &body, &number(&change, "revision").to_string()).await.map(Drafted::Change)
}

/// The newest change of this user whose checks did not pass, on the newest version.
async fn unfinished(client: &Client) -> Result<Option<Value>, Fault> {
    let me = format!("Portcullis::LocalUser::\"{}\"", rustix::process::geteuid().as_raw());
    let newest = files::newest(client).await?;
    let changes = crate::cli::authority::items(client.get("/v1/policies/changes").await?);
    let is_it = |change: &Value| {
        text(change, "author") == me && text(change, "stage") == "draft" && number(change, "base") == newest
    };
    Ok(changes.into_iter().find(is_it))
}

fn listed(edits: &std::collections::BTreeMap<&str, Option<&str>>) -> Vec<Value> {
    edits.iter().map(|(file, text)| json!({ "file": file, "text": text })).collect()
}

/// From a checked change into force.
async fn publish(client: &Client, id: &str) -> Result<(Answer, Exit), Fault> {
    let committed = act(client, id, "commit")
        .await
        .map_err(|fault| fault.or_next(format!("portcullis policy show {id}")))?;
    let version = number(&committed, "version");
    let activated = client.post(&format!("/v1/policies/versions/{version}:activate"), &json!({})).await?;
    let text = format!("policies v{version} are in force (change {id})\nundo: portcullis policy rollback");
    Ok((Answer::object("PolicyVersion", activated, text), Exit::Done))
}
