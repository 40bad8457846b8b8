//! `portcullis ca`: the keys of the authority of the running process, and the steps that people have them take.

mod crl;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Global;
use super::authority::{items, word};
use crate::client::{Client, Fault};
use crate::output::{self, Answer, Exit};

const PATH: &str = "/v1/authorities";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Roots, signing CAs and keys for tokens, with their states and ends
    #[command(after_help = "Example:\n  portcullis ca show")]
    Show,
    /// Revocation lists of roots and signing CAs, for verifiers that know no deny set
    #[command(after_help = "Examples:\n  portcullis ca crl\n  portcullis ca crl --format pem > crls.pem")]
    Crl(crl::Options),
    /// Make a successor; a root or a key for tokens enters the bundle, so that verifiers know it in time
    #[command(after_help = "Example:\n  portcullis ca prepare --kind root")]
    Prepare {
        #[arg(long)]
        kind: Kind,
        /// In place of one that is prepared already
        #[arg(long)]
        replace: bool,
    },
    /// Have the prepared key sign from now on; a root comes with a signing CA of its own
    #[command(after_help = "Example:\n  portcullis ca activate --kind root --yes")]
    Activate(Step),
    /// Prepare and activate, once this process knows the successor
    #[command(after_help = "Example:\n  portcullis ca rotate --kind signing --yes")]
    Rotate(Step),
    /// Have everything that an old key signed issued anew; it still verifies
    #[command(after_help = "Example:\n  portcullis ca taint --kind signing --yes")]
    Taint(Old),
    /// End an old key for good: nothing that it signed is taken any more, on open connections too
    #[command(after_help = "Example:\n  portcullis ca revoke --kind signing --reason \"key leaked\" --yes")]
    Revoke {
        #[command(flatten)]
        old: Old,
        /// Why; goes on record
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Although what it signed was not issued anew
        #[arg(long)]
        skip_taint: bool,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Anchor of the bundle
    Root,
    /// Signs certificates, under the root
    Signing,
    /// Signs JWT-SVIDs
    Jwt,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Signing => "signing",
            Self::Jwt => "jwt",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Step {
    #[arg(long)]
    kind: Kind,
    /// Without waiting until verifiers know it; goes on record
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Old {
    #[arg(long)]
    kind: Kind,
    /// Of several old keys, this one
    #[arg(long, value_name = "KEY_ID")]
    key: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Show => global.ask(|client| async move {
            let items = items(client.get(PATH).await?);
            let columns = [
                ("KIND", "/kind"),
                ("STATE", "/state"),
                ("TAINTED", "/tainted"),
                ("KEY", "/key_id"),
                ("EXPIRES", "/not_after"),
            ];
            Ok((Answer::list("Authority", items, &columns), Exit::Done))
        }),
        Command::Crl(options) => crl::run(&options, global),
        Command::Prepare { kind, replace } => global.ask(|client| async move {
            let body = json!({ "kind": kind.as_str(), "replace": replace });
            let key = client.post(&verb("prepare"), &body).await?;
            let text = format!(
                "prepared the {} key {}; the bundle is {}\nnext: portcullis ca activate --kind {0} --yes\nundo: it signs nothing until it is activated; --replace removes it",
                kind.as_str(), word(&key, "key_id"), word(&key, "bundle_sequence")
            );
            Ok((Answer::object("Authority", key, text), Exit::Done))
        }),
        Command::Activate(step) => activate("activate", step, global),
        Command::Rotate(step) => activate("rotate", step, global),
        Command::Taint(old) => taint(old, global),
        Command::Revoke { old, reason, skip_taint } => global.ask(|client| async move {
            let mut body = body(&old);
            body.insert("reason".to_owned(), reason.into());
            body.insert("skip_taint".to_owned(), skip_taint.into());
            if !old.yes {
                return planned(&client, old.kind, body).await;
            }
            let key = client.post(&verb("revoke"), &body.into()).await?;
            let text = format!(
                "revoked the {} key {}; its file is destroyed\nundo: none; what it signed is issued anew by the active key",
                old.kind.as_str(),
                word(&key, "key_id")
            );
            Ok((Answer::object("Authority", key, text), Exit::Done))
        }),
    }
}

fn activate(step: &'static str, Step { kind, force, yes }: Step, global: &Global) -> Exit {
    let kind = kind.as_str();
    if !yes {
        return output::unconfirmed(&format!(
            "the {kind} key in use becomes old: it signs nothing new, and what it signed still verifies"
        ));
    }
    global.ask(|client| async move {
        let key = client.post(&verb(step), &json!({ "kind": kind, "force": force })).await?;
        let text = format!(
            "the {kind} key {} signs from now on\nnext: portcullis ca taint --kind {kind} --yes, if what the old one signed is to be issued anew\nundo: none; portcullis ca rotate --kind {kind} --yes makes another one",
            word(&key, "key_id")
        );
        Ok((Answer::object("Authority", key, text), Exit::Done))
    })
}

fn taint(old: Old, global: &Global) -> Exit {
    let kind = old.kind.as_str();
    if !old.yes {
        return output::unconfirmed(&format!(
            "everything that the old {kind} key signed is issued anew within 30 s, while it still verifies"
        ));
    }
    global.ask(|client| async move {
        let key = client.post(&verb("taint"), &body(&old).into()).await?;
        let id = word(&key, "key_id");
        let text = format!(
            "tainted the {kind} key {id}; what it signed is issued anew within 30 s\nnext: portcullis ca revoke --kind {kind} --key {id} --reason TEXT --yes\nundo: none; a tainted key still verifies until it is revoked"
        );
        Ok((Answer::object("Authority", key, text), Exit::Done))
    })
}

/// What a revocation would do; nothing is done without `--yes`.
async fn planned(client: &Client, kind: Kind, mut body: Map<String, Value>) -> Result<(Answer, Exit), Fault> {
    body.insert("dry_run".to_owned(), true.into());
    let planned = client.post(&verb("revoke"), &body.into()).await?;
    let (id, live) = (word(&planned, "key_id"), planned.get("live_svids").and_then(Value::as_u64));
    let live = live.unwrap_or_default();
    let effect = match kind {
        Kind::Root => format!("takes it out of the bundle and ends {live} live certificates below it"),
        // AU-07: others trust the chain while the root stands.
        Kind::Signing => format!(
            "ends {live} live certificates here; verifiers that know no deny set take its chain until it ends, which portcullis ca rotate --kind root prevents"
        ),
        Kind::Jwt => "takes it out of the bundle, so that no token of it is taken".to_owned(),
    };
    let exit = output::unconfirmed(&format!("revoking the {} key {id} {effect}", kind.as_str()));
    Ok((Answer::object("Authority", planned, String::new()), exit))
}

fn body(old: &Old) -> Map<String, Value> {
    let mut body = Map::from_iter([("kind".to_owned(), old.kind.as_str().into())]);
    body.extend(old.key.clone().map(|key| ("key_id".to_owned(), key.into())));
    body
}

fn verb(word: &str) -> String {
    format!("{PATH}:{word}")
}
