//! `portcullis check`: configuration, files, policies and the running process; each finding with the next command.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base_ports::{Clock, SystemClock, UnixTime};
use clap::{Args, ValueEnum};
use policies_store::{AdminSocket, Way};
use serde_json::{Value, json};

use super::{Global, block_on};
use crate::assemble::entities;
use crate::config::Config;
use crate::messages::{Message, Severity};
use crate::output::{Answer, Exit};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Warning,
    Error,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Look at files only, not at the running process
    #[arg(long)]
    pre: bool,
    /// Warn of what does not renew by itself and expires within this time
    #[arg(long, default_value = "14d", value_parser = super::run::parse_duration)]
    expiry_threshold: std::time::Duration,
    /// Exit 1 from this level on
    #[arg(long, value_enum, default_value = "error")]
    fail_on: Level,
}

pub(crate) fn run(options: &Options, global: &Global) -> Exit {
    let loaded = match global.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let mut lines = vec![Line::ok("config", format!("{} is valid", loaded.config.source.display()))];
    lines.extend(loaded.warnings.into_iter().map(|warning| Line::found("config", warning)));
    files(&loaded.config, &mut lines);
    policies(&loaded.config, &mut lines);
    if !options.pre {
        block_on(process(&loaded.config, global, options, &mut lines));
    }
    let worst = lines.iter().filter_map(|line| line.message.as_ref()).map(|message| message.severity);
    let fails =
        worst.clone().any(|severity| severity == Severity::Error || options.fail_on == Level::Warning);
    let items = lines
        .iter()
        .map(|line| json!({ "group": line.group, "ok": line.message.is_none(), "text": line.text, "finding": line.message.as_ref().map(Message::to_json) }))
        .collect::<Vec<Value>>();
    let text = lines.iter().map(Line::show).collect::<Vec<_>>().join("\n");
    Answer { json: json!({ "apiVersion": "portcullis/v1", "kind": "CheckList", "items": items }), text }
        .print(global.format());
    if fails { Exit::Failed } else { Exit::Done }
}

struct Line {
    group: &'static str,
    text: String,
    message: Option<Message>,
}

impl Line {
    fn ok(group: &'static str, text: impl Into<String>) -> Self {
        Self { group, text: text.into(), message: None }
    }

    fn found(group: &'static str, message: Message) -> Self {
        Self { group, text: message.text.clone(), message: Some(message) }
    }

    fn show(&self) -> String {
        let Some(message) = &self.message else {
            return format!("ok       {:<10} {}", self.group, self.text);
        };
        let tick = if message.severity == Severity::Error { "FAILED" } else { "warning" };
        let mut text = format!("{tick:<8} {:<10} {}", self.group, message.in_one_line());
        for (name, line) in [("help", &message.help), ("next", &message.next)] {
            if let Some(line) = line {
                text.push_str(&format!("\n         {name}: {line}"));
            }
        }
        text
    }
}

fn files(config: &Config, lines: &mut Vec<Line>) {
    let dir = &config.data_dir;
    match std::fs::metadata(dir) {
        Err(_absent) => {
            lines.push(Line::ok("state", format!("{} does not exist yet; run makes it", dir.display())))
        }
        Ok(about) if about.permissions().mode() & 0o077 != 0 => lines.push(Line::found(
            "state",
            Message::error(
                "PC0108",
                format!(
                    "`{}` is open to others (mode {:o})",
                    dir.display(),
                    about.permissions().mode() & 0o777
                ),
            )
            .next(format!("chmod 700 {}", dir.display())),
        )),
        Ok(_) => lines.push(Line::ok("state", format!("{} is private", dir.display()))),
    }
    for key in keys(&config.data_dir) {
        if let Some(mode) = std::fs::metadata(&key)
            .ok()
            .map(|about| about.permissions().mode() & 0o777)
            .filter(|mode| mode & 0o077 != 0)
        {
            let message = Message::error("PC0108", format!("key file `{}` has mode {mode:o}", key.display()));
            lines.push(Line::found("state", message.next(format!("chmod 600 {}", key.display()))));
        }
    }
}

fn keys(dir: &Path) -> Vec<std::path::PathBuf> {
    let below = std::fs::read_dir(dir.join("keys")).into_iter().flatten().flatten().map(|entry| entry.path());
    below
        .chain([dir.join("seal.key"), dir.join("policy-signing.key"), dir.join("quic-reset.key")])
        .filter(|path| path.is_file())
        .collect()
}

fn policies(config: &Config, lines: &mut Vec<Line>) {
    if let Some(join) = &config.join {
        lines.push(Line::ok("policies", format!("of the authority at {}", join.url())));
        return observing(config, lines);
    }
    let Some(policies) = &config.policies else { return };
    if let Some(follow) = &policies.follow {
        lines.push(Line::ok(
            "policies",
            format!("of the publisher at {}", AdminSocket(follow.socket.clone()).place()),
        ));
        return observing(config, lines);
    }
    let ask = policies_store::LintAsk { now: SystemClock.now().wall, usage: None, threshold: 0 };
    let report = policies_store::lint_path(&policies.dir, &entities::configured(config), ask);
    let findings: Vec<_> = report.diagnostics.iter().map(Message::from).collect();
    if findings.is_empty() {
        let text = format!("{} policies in {}", report.policies, policies.dir.display());
        lines.push(Line::ok("policies", text));
    }
    let verb = if report.is_valid { "lint" } else { "validate" };
    for mut found in findings {
        // What lint finds in policies that are valid does not stop anything (DO6).
        if report.is_valid && found.severity == Severity::Error {
            found.severity = Severity::Warning;
        }
        if found.severity != Severity::Note {
            let next = format!("portcullis policy {verb} {}", policies.dir.display());
            lines.push(Line::found("policies", found.next(next)));
        }
    }
    observing(config, lines);
}

fn observing(config: &Config, lines: &mut Vec<Line>) {
    if let Some(enforcer) = config.enforcer.as_ref() {
        let observed = enforcer.observe
            || enforcer.listeners.iter().any(|l| l.observe == Some(true))
            || enforcer.routes.iter().any(|r| r.observe == Some(true));
        if observed {
            let message = Message::warning("PC4030", "observe mode is on: calls that policies deny pass");
            lines.push(Line::found("data plane", message.next("portcullis decisions query --would deny")));
        }
    }
}

async fn process(config: &Config, global: &Global, options: &Options, lines: &mut Vec<Line>) {
    let client = match global.client() {
        Ok(client) => client,
        Err(_reported) => return,
    };
    let status = match client.get("/v1/status").await {
        Ok(status) => status,
        Err(fault) => return lines.push(Line::found("process", fault.message)),
    };
    let of = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let in_force = status.pointer("/configuration/in_force").and_then(Value::as_str);
    if in_force != Some(config.digest().as_str()) {
        let text = format!("the running process has another configuration in force (mode {})", of("mode"));
        lines.push(Line::found("config", Message::warning("PC0120", text).next("portcullis config reload")));
    }
    for condition in status.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default();
        let text = format!("{} {}", of("name"), of("detail"));
        if condition.get("ok").and_then(Value::as_bool) == Some(true) {
            lines.push(Line::ok("process", text));
        } else {
            lines.push(Line::found(
                "process",
                Message::error("PC0142", format!("not ready: {text}")).next("portcullis status"),
            ));
        }
    }
    for found in status.pointer("/policies/diagnostics").and_then(Value::as_array).into_iter().flatten() {
        if let Some(mut message) = Message::from_json(found) {
            message.text = format!("last edit refused: {}", message.text);
            lines.push(Line::found("policies", message.next("portcullis policy validate")));
        }
    }
    if let Some(alarm) = status.pointer("/policies/follows/alarm").and_then(Value::as_str) {
        let message = Message::error("PC2027", alarm.to_owned());
        lines.push(Line::found("policies", message.next("portcullis status")));
    }
    standing(&status, config, lines);
    let alarms = status.pointer("/ledger/alarms").and_then(Value::as_array).into_iter().flatten();
    let before = lines.len();
    lines.extend(alarms.filter_map(Message::from_json).map(|message| Line::found("ledger", message)));
    if lines.len() == before {
        lines.push(Line::ok("ledger", "nothing lost, nobody silent, everything signed"));
    }
    if config.ca.is_some() {
        authority(&client, options, lines).await;
        federation(&client, lines).await;
    }
}

/// What a status says of the policies in force and of who may change them.
fn standing(status: &Value, config: &Config, lines: &mut Vec<Line>) {
    let is = |name: &str| status.pointer(&format!("/policies/{name}")).and_then(Value::as_bool);
    if is("differs") == Some(true) {
        let dir =
            config.policies.as_ref().map(|policies| policies.dir.display().to_string()).unwrap_or_default();
        let text = format!("`{dir}` holds other files than the version in force");
        let message = Message::warning("PC2045", text).help("they count when they are saved again");
        lines.push(Line::found("policies", message.next(format!("portcullis policy pull {dir}"))));
    }
    match is("two_person") {
        Some(true) => {
            lines.push(Line::ok("policies", "two-person rules hold: what opens something needs an approval"))
        }
        Some(false) => lines.push(Line::ok(
            "policies",
            "one person publishes alone: nobody else holds a role that may approve",
        )),
        None => {}
    }
    for slow in status.pointer("/policies/slow").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| slow.get(name).and_then(Value::as_str).unwrap_or_default();
        lines.push(Line::ok("policies", format!("{} is slow: {}", of("id"), of("why"))));
    }
}

/// Other trust domains: whether their identities are verified, and for how long still when their bundle is not seen (S26).
async fn federation(client: &crate::client::Client, lines: &mut Vec<Line>) {
    let Ok(all) = client.get("/v1/federations").await else { return };
    for relation in all.get("items").and_then(Value::as_array).into_iter().flatten() {
        let of = |pointer: &str| relation.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (domain, state) = (of("/trust_domain"), of("/state"));
        let text = match (state, of("/last_fetch/detail")) {
            ("current", "") => {
                lines.push(Line::ok("identity", format!("the bundle of {domain} is current")));
                continue;
            }
            ("current", why) => {
                format!("the identities of {domain} are refused after {}: {why}", of("/bundle/stale_after"))
            }
            (state, why) => format!("the identities of {domain} are refused, its bundle is {state}: {why}"),
        };
        let text = text.trim_end_matches(": ").to_owned();
        let is_refused = matches!(state, "stale" | "none");
        let found =
            if is_refused { Message::error("PC1007", text) } else { Message::warning("PC1007", text) };
        lines.push(Line::found("identity", found.next(format!("portcullis federation refresh {domain}"))));
    }
}

/// Only what does not renew by itself is compared with the threshold (SETTLED S26): roots.
async fn authority(client: &crate::client::Client, options: &Options, lines: &mut Vec<Line>) {
    let Ok(keys) = client.get("/v1/authorities").await else { return };
    let now = SystemClock.now().wall;
    for key in keys.get("items").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(expires) = UnixTime::parse_rfc3339(of("not_after")) else { continue };
        let left = expires.saturating_since(now);
        let text = format!("{} key expires {}", of("kind"), of("not_after"));
        if of("kind") == "root" && left < options.expiry_threshold {
            lines.push(Line::found("identity", Message::warning("PC1010", text).next("portcullis ca show")));
        } else {
            lines.push(Line::ok("identity", text));
        }
    }
}
