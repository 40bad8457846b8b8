//! `portcullis policy`: its verbs, one file each; checked locally against the files, or asked of the running process.

mod ask;
mod can;
mod case;
mod change;
mod diff;
#[cfg(test)]
mod examples;
mod files;
mod fmt;
mod history;
mod impact;
mod lint;
mod live;
mod mine;
mod new;
mod push;
mod shown;
mod signing;
mod snapshot;
mod suggest;
mod test;
mod validate;
mod version;

use std::path::PathBuf;

use super::Global;
use crate::assemble::entities;
use crate::output::Exit;
use clap::Subcommand;

pub(crate) use ask::{WhatCanOptions, WhoCanOptions, what_can, who_can};
pub(crate) use can::{CanOptions, can};
pub(crate) use shown::standing;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a directory of policies, or one file; starts nothing
    #[command(after_help = "Example:\n  portcullis policy validate ./policies --fail-level warning")]
    Validate(validate::ValidateOptions),
    /// Look for what is valid and still wrong
    #[command(
        after_help = "Examples:\n  portcullis policy lint ./policies\n  portcullis policy lint ./policies --format sarif --fail-level warning\n  portcullis policy lint ./policies --fix"
    )]
    Lint(lint::LintOptions),
    /// Write policy files in Cedar's form
    #[command(
        after_help = "Examples:\n  portcullis policy fmt ./policies\n  portcullis policy fmt --check ./policies"
    )]
    Fmt(fmt::FormatOptions),
    /// Run the *_test.json cases of a directory, or of one file
    #[command(
        after_help = "Examples:\n  portcullis policy test ./policies\n  portcullis policy test ./policies --coverage --threshold 80"
    )]
    Test(test::TestOptions),
    /// A least-privilege permit for a recorded denial, or permits for all denials of a range
    #[command(
        after_help = "Examples:\n  portcullis policy suggest 01JD8Z…7Q\n  portcullis policy suggest 01JD8Z…7Q --write ./policies\n  portcullis policy suggest --since 24h --write ./suggested"
    )]
    Suggest(suggest::SuggestOptions),
    /// The policies in force
    #[command(alias = "ls", after_help = "Example:\n  portcullis policy list")]
    List,
    /// One policy: its text, in force or in a version
    #[command(after_help = "Example:\n  portcullis policy get orders-read --version v3")]
    Get(history::GetOptions),
    /// A policy to begin with, and its first case
    #[command(after_help = "Example:\n  portcullis policy new orders-read")]
    New(new::NewOptions),
    /// Make a change of a directory, and check it
    #[command(
        after_help = "Examples:\n  portcullis policy push ./policies -m 'orders: read only' --ticket SEC-12\n  portcullis policy push ./policies --publish"
    )]
    Push(push::PushOptions),
    /// Changes that are open, and the last that ended
    #[command(after_help = "Example:\n  portcullis policy changes")]
    Changes,
    /// One change: where it stands, what it changes, what can be done next
    #[command(after_help = "Example:\n  portcullis policy show c17")]
    Show(change::ShowOptions),
    /// Check a change against what is in force: findings, cases, what it opens
    #[command(after_help = "Example:\n  portcullis policy check c17")]
    Check(change::OneChange),
    /// Let a change start from the newest version, when that changed other files
    #[command(after_help = "Example:\n  portcullis policy rebase c17")]
    Rebase(change::OneChange),
    /// Say yes to a change that somebody else wrote
    #[command(after_help = "Example:\n  portcullis policy approve c17")]
    Approve(change::OneChange),
    /// Make a signed, numbered version of a change; not yet in force
    #[command(after_help = "Example:\n  portcullis policy commit c17")]
    Commit(change::OneChange),
    /// Give a change up
    #[command(after_help = "Example:\n  portcullis policy abandon c17")]
    Abandon(change::OneChange),
    /// Versions, newest first
    #[command(after_help = "Example:\n  portcullis policy versions")]
    Versions,
    /// Put a committed version into force
    #[command(after_help = "Example:\n  portcullis policy activate v41")]
    Activate(version::OneVersion),
    /// Go back: the files of an older version, in force under a new number
    #[command(
        after_help = "Examples:\n  portcullis policy rollback\n  portcullis policy rollback v40 -m 'orders broke'"
    )]
    Rollback(version::RollbackOptions),
    /// Evaluate a version beside the one in force, and record where it would differ
    #[command(after_help = "Examples:\n  portcullis policy shadow v42\n  portcullis policy shadow --stop")]
    Shadow(version::ShadowOptions),
    /// Versions that changed a policy, newest first
    #[command(after_help = "Example:\n  portcullis policy history orders-read")]
    History(history::OnePolicy),
    /// Who last changed each line of a policy
    #[command(after_help = "Example:\n  portcullis policy blame orders-read")]
    Blame(history::OnePolicy),
    /// How two versions differ, or a version and a directory
    #[command(after_help = "Examples:\n  portcullis policy diff\n  portcullis policy diff v40 v41")]
    Diff(diff::DiffOptions),
    /// What a directory, a change or a version would have done to the calls on record
    #[command(
        after_help = "Examples:\n  portcullis policy impact ./policies --since 24h\n  portcullis policy impact --change c17 --fail-on newly-denied\n  portcullis policy impact ./policies --ledger ./data/ledger"
    )]
    Impact(impact::ImpactOptions),
    /// Write the files of a version into a directory
    #[command(after_help = "Example:\n  portcullis policy pull ./policies --version v41")]
    Pull(files::PullOptions),
    /// Write a version into one file, or the signed snapshot that a follower may begin with
    #[command(
        after_help = "Examples:\n  portcullis policy export policies.json\n  portcullis policy export --snapshot policies.pcsnap"
    )]
    Export(files::ExportOptions),
    /// Make a change of an exported file, and check it
    #[command(after_help = "Example:\n  portcullis policy import policies.json -m 'from staging'")]
    Import(files::ImportOptions),
    /// The keys that sign versions, and the epoch of their numbers
    #[command(after_help = "Examples:\n  portcullis policy signing\n  portcullis policy signing rotate")]
    Signing {
        #[command(subcommand)]
        what: Option<signing::SigningCommand>,
    },
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Validate(options) => validate::validate(options, global),
        Command::Lint(options) => lint::lint(options, global),
        Command::Fmt(options) => fmt::format(options, global),
        Command::Test(options) => test::test(options, global),
        Command::Suggest(options) => suggest::suggest(options, global),
        Command::List => history::list(global),
        Command::Get(options) => history::get(options, global),
        Command::New(options) => new::new(options, global),
        Command::Push(options) => push::push(options, global),
        Command::Changes => change::changes(global),
        Command::Show(options) => change::show(options, global),
        Command::Check(options) => change::check(options, global),
        Command::Rebase(options) => change::rebase(options, global),
        Command::Approve(options) => change::approve(options, global),
        Command::Commit(options) => change::commit(options, global),
        Command::Abandon(options) => change::abandon(options, global),
        Command::Versions => version::versions(global),
        Command::Activate(options) => version::activate(options, global),
        Command::Rollback(options) => version::rollback(options, global),
        Command::Shadow(options) => version::shadow(options, global),
        Command::History(options) => history::history(options, global),
        Command::Blame(options) => history::blame(options, global),
        Command::Diff(options) => diff::diff(options, global),
        Command::Impact(options) => impact::impact(options, global),
        Command::Pull(options) => files::pull(options, global),
        Command::Export(options) => files::export(options, global),
        Command::Import(options) => files::import(options, global),
        Command::Signing { what } => signing::run(what, global),
    }
}

/// The directory, and what the configuration says policies may name. Without a configuration nothing is known.
pub(super) fn place(
    dir: Option<PathBuf>,
    global: &Global,
) -> Result<(PathBuf, policies_engine::EntitySet), Exit> {
    let path = global.config_path();
    if let (Some(dir), false) = (&dir, path.exists()) {
        return Ok((dir.clone(), policies_engine::EntitySet::default()));
    }
    let config = global.load()?.config;
    let known = entities::configured(&config);
    let dir = dir.or_else(|| config.policies.as_ref().map(|policies| policies.dir.clone()));
    Ok((dir.unwrap_or_else(|| PathBuf::from("./policies")), known))
}
