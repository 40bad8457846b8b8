//! `policy impact`: what a candidate would have done to recorded calls, told by the running process, or from the files
//! of a ledger where none runs (IM2).
//! Exit 3 when it does what `--fail-on` names, 4 when some records could not be judged again and nothing else is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base_ports::{Clock, SystemClock, SystemDisk, UnixTime};
use clap::Args;
use policies_decisions::{LedgerDir, Query};
use serde_json::{Value, json};

use super::files;
use super::shown::{number, text};
use crate::cli::Global;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{self, Answer, Exit};
use crate::replay::{Records, Source, replay};

/// Seconds a replay may take unless told otherwise.
const TIME: u64 = 20;

#[derive(Debug, Args)]
pub(crate) struct ImpactOptions {
    /// Directory of the candidate [default: policies.dir of the configuration]
    #[arg(conflicts_with_all = ["change", "version"])]
    dir: Option<PathBuf>,
    /// Change, such as c17, instead of a directory
    #[arg(long, value_name = "C", conflicts_with = "version")]
    change: Option<String>,
    /// Version, such as v41, instead of a directory
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Read the ledger in this directory and ask no process; callers are known as the configuration tells them
    #[arg(long, value_name = "DIR", conflicts_with_all = ["change", "version"])]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    range: RangeOptions,
    /// Exit 3 when a call would be decided so
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
}

/// Which records are looked at.
#[derive(Debug, Args)]
pub(crate) struct RangeOptions {
    /// From this time on: RFC 3339, or an age such as 24h
    #[arg(long, default_value = "24h")]
    since: String,
    /// Until this time
    #[arg(long)]
    until: Option<String>,
    /// A filter of the ledger, such as service=orders; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Seconds it may take
    #[arg(long, value_name = "SECONDS", default_value_t = TIME)]
    time_limit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Somebody would lose what was allowed
    NewlyDenied,
    /// Somebody would gain what was denied
    NewlyAllowed,
    /// Either
    Any,
}

pub(super) fn impact(mut options: ImpactOptions, global: &Global) -> Exit {
    if let Some(ledger) = options.ledger.take() {
        return offline(options, &ledger, global);
    }
    let (patience, fail_on) = (options.range.time_limit(), options.fail_on);
    let (path, body) = match question(options, global) {
        Ok(question) => question,
        Err(exit) => return exit,
    };
    global.ask(|client| async move {
        let impact = client.ask(&path, &body, patience).await?;
        let exit = exit(&impact, fail_on);
        Ok((answer(impact), exit))
    })
}

fn answer(impact: Value) -> Answer {
    let text = format!("{}{}", text(&impact, "text"), rest(&impact)).trim_end().to_owned();
    Answer::object("Impact", impact, text)
}

/// The same from the files of a ledger. Who may read them has what is in them, so nobody is asked and nothing recorded.
fn offline(options: ImpactOptions, ledger: &Path, global: &Global) -> Exit {
    let (dir, known) = match super::place(options.dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let candidate = match policies_store::compile_dir(&dir, &known) {
        Ok(candidate) => candidate,
        Err(found) => {
            let messages: Vec<Message> = found.iter().map(Message::from).collect();
            return output::report(&messages, global.format());
        }
    };
    let unread = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = Message::error("PC6001", format!("decision ledger: {error}{cause}"));
        Fault::new(
            Exit::Failed,
            message.help("--ledger is the directory that holds `wal`, such as ./data/ledger"),
        )
    };
    let clock = SystemClock;
    let replayed = options.range.query(clock.now().wall).and_then(|query| {
        let ledger = LedgerDir::open(ledger, Arc::new(SystemDisk)).map_err(|error| unread(&error))?;
        let source = Source {
            records: Records::Dir(&ledger),
            store: None,
            clock: &clock,
            query: &query,
            limit: options.range.time_limit(),
            is_cancelled: &AtomicBool::new(false),
        };
        replay(&source, &candidate).map_err(|error| unread(&error))
    });
    match replayed {
        Ok(replayed) => {
            let impact = replayed.to_json(&candidate);
            let exit = exit(&impact, options.fail_on);
            answer(impact).print(global.format());
            exit
        }
        Err(fault) => global.fail(&fault),
    }
}

/// Where the candidate is asked about, and how.
fn question(options: ImpactOptions, global: &Global) -> Result<(String, Value), Exit> {
    let range = options.range.body().map_err(|fault| global.fail(&fault))?;
    let plain = "/v1/policies:impact".to_owned();
    match (options.change, options.version) {
        // The counts are noted with the change.
        (Some(change), _) => Ok((super::change::path(&change, ":impact"), range)),
        (None, Some(version)) => Ok((plain, json!({ "version": version, "range": range }))),
        (None, None) => {
            let (dir, _) = super::place(options.dir, global)?;
            let mut files = files::read(&dir).map_err(|fault| global.fail(&fault))?;
            files.retain(|name, _| !name.ends_with("_test.json"));
            Ok((plain, json!({ "files": files, "range": range })))
        }
    }
}

fn exit(impact: &Value, fail_on: Option<FailOn>) -> Exit {
    let (denied, allowed) = (number(impact, "newly_denied") > 0, number(impact, "newly_allowed") > 0);
    let is_hit = match fail_on {
        None => false,
        Some(FailOn::NewlyDenied) => denied,
        Some(FailOn::NewlyAllowed) => allowed,
        Some(FailOn::Any) => denied || allowed,
    };
    if is_hit {
        Exit::Invalid
    } else if number(impact, "undecided") > 0 || is_partial(impact) {
        Exit::Partial
    } else {
        Exit::Done
    }
}

fn is_partial(impact: &Value) -> bool {
    impact.get("partial").and_then(Value::as_bool).unwrap_or(false)
}

/// What of the range was not looked at.
pub(super) fn rest(impact: &Value) -> String {
    let mut told = String::new();
    if let Some(until) = impact.get("considered_until") {
        let until =
            until.as_str().map_or_else(|| "nothing".to_owned(), |until| format!("records until {until}"));
        told.push_str(&format!(
            "\nthe time was over: {until} looked at; give it longer with --time-limit, or less with --since\n"
        ));
    }
    match number(impact, "unreadable") {
        0 => {}
        lost => told.push_str(&format!("\n{lost} records could not be read: portcullis check\n")),
    }
    told
}

impl RangeOptions {
    /// A range that another verb was told.
    pub(super) fn of(
        since: String,
        until: Option<String>,
        filter: Vec<String>,
        time_limit: Option<u64>,
    ) -> RangeOptions {
        RangeOptions { since, until, filter, time_limit: time_limit.unwrap_or(TIME) }
    }

    pub(super) fn time_limit(&self) -> Duration {
        Duration::from_secs(self.time_limit)
    }

    /// The filters by name.
    fn filters(&self) -> Result<BTreeMap<&str, &str>, Fault> {
        let malformed = |written: &str| {
            let message = Message::error("PC0104", format!("--filter `{written}` is not NAME=VALUE"));
            Fault::new(Exit::Usage, message.help("such as --filter service=orders"))
        };
        let written = self.filter.iter();
        written.map(|written| written.split_once('=').ok_or_else(|| malformed(written))).collect()
    }

    /// The range as the ledger takes it.
    fn query(&self, now: UnixTime) -> Result<Query, Fault> {
        let mut pairs = self.filters()?;
        pairs.insert("since", &self.since);
        pairs.extend(self.until.as_deref().map(|until| ("until", until)));
        let pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Query::parse(&pairs, now)
            .map_err(|error| Fault::new(Exit::Invalid, Message::error("PC0104", error.to_string())))
    }

    /// The range as the API takes it.
    pub(super) fn body(&self) -> Result<Value, Fault> {
        let filter = self.filters()?;
        Ok(json!({
            "since": self.since, "until": self.until, "filter": filter, "time_limit": self.time_limit,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im2_exit_codes_tell_a_gate_from_what_could_not_be_told() {
        let of = |denied: u64, allowed: u64, undecided: u64| json!({ "newly_denied": denied, "newly_allowed": allowed, "undecided": undecided });
        for (impact, fail_on, expected) in [
            (of(0, 0, 0), Some(FailOn::Any), Exit::Done),
            (of(3, 0, 0), None, Exit::Done),
            (of(3, 0, 0), Some(FailOn::NewlyDenied), Exit::Invalid),
            (of(3, 0, 0), Some(FailOn::NewlyAllowed), Exit::Done),
            (of(0, 1, 0), Some(FailOn::NewlyAllowed), Exit::Invalid),
            (of(0, 1, 9), Some(FailOn::Any), Exit::Invalid),
            (of(0, 1, 9), Some(FailOn::NewlyDenied), Exit::Partial),
            (of(0, 0, 9), None, Exit::Partial),
        ] {
            assert_eq!(exit(&impact, fail_on), expected, "{impact} {fail_on:?}");
        }
        assert_eq!(exit(&json!({ "partial": true }), None), Exit::Partial);
    }

    #[test]
    fn a_filter_is_a_name_and_a_value() {
        let options = |filter: &str| RangeOptions {
            since: "1h".to_owned(),
            until: None,
            filter: vec![filter.to_owned()],
            time_limit: 5,
        };
        assert_eq!(options("path~=a=b").body().unwrap()["filter"]["path~"], "a=b");
        assert_eq!(options("banana").body().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_was_not_looked_at_is_told() {
        let told = rest(&json!({ "considered_until": "2026-11-22T07:00:00Z", "unreadable": 3 }));
        assert!(told.contains("until 2026-11-22T07:00:00Z") && told.contains("3 records"), "{told}");
        assert_eq!(rest(&json!({})), "");
    }
}
