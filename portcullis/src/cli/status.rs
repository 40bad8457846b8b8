//! `portcullis status` and `portcullis wait`: what the running process says of itself.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Global, block_on};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct WaitOptions {
    /// Conditions to wait for [default: all]
    #[arg(long = "for", value_delimiter = ',', value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Give up after this long
    #[arg(long, default_value = "60s", value_parser = super::run::parse_duration)]
    timeout: Duration,
}

pub(crate) fn run(global: &Global) -> Exit {
    global.ask(|client| async move {
        let status = client.get("/v1/status").await?;
        let text = text(&status);
        Ok((Answer::object("Status", status, text), Exit::Done))
    })
}

pub(crate) fn wait(options: &WaitOptions, global: &Global) -> Exit {
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut blocker = "no running process".to_owned();
    let ready = async {
        loop {
            match client.get("/v1/status").await {
                Ok(status) => match blocked(&status, &options.conditions) {
                    None => return,
                    Some(name) if name != blocker => {
                        output::talk(&format!("waiting for {name}"));
                        blocker = name;
                    }
                    Some(_) => {}
                },
                Err(fault) => tracing::debug!(error = %fault.message, "not yet"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match block_on(async { tokio::time::timeout(options.timeout, ready).await }) {
        Ok(()) => {
            Answer::object("Wait", json!({ "ready": true }), "ready".to_owned()).print(global.format());
            Exit::Done
        }
        Err(_elapsed) => {
            let text =
                format!("not ready after {}: {blocker}", crate::config::print_duration(options.timeout));
            output::report(&[Message::error("PC0142", text).next("portcullis check")], global.format());
            Exit::Temporary
        }
    }
}

/// The first condition that is not met, with its detail.
fn blocked(status: &Value, wanted: &[String]) -> Option<String> {
    let conditions = status.get("conditions").and_then(Value::as_array)?;
    let of = |condition: &Value, name: &str| {
        condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    conditions
        .iter()
        .filter(|condition| wanted.is_empty() || wanted.contains(&of(condition, "name")))
        .find(|condition| condition.get("ok").and_then(Value::as_bool) != Some(true))
        .map(|condition| format!("{}: {}", of(condition, "name"), of(condition, "detail")))
}

fn text(status: &Value) -> String {
    let mut lines = Vec::new();
    for (label, pointer) in [
        ("version", "/version"),
        ("trust domain", "/trust_domain"),
        ("policies", "/policies/version"),
        ("snapshot", "/policies/snapshot"),
        ("policy key", "/policies/keys/0"),
        ("follows", "/policies/follows/publisher"),
        ("mode", "/mode"),
        ("own svid", "/identity/id"),
        ("expires", "/identity/not_after"),
    ] {
        if let Some(value) = status.pointer(pointer).filter(|value| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push(format!("{label:<13} {value}"));
        }
    }
    lines.extend(status.pointer("/policies/follows").map(publisher));
    lines.extend(configuration(status).into_iter().map(|line| format!("{:<13} {line}", "configuration")));
    lines
        .extend(super::policy::standing(status).into_iter().map(|line| format!("{:<13} {line}", "policies")));
    for listener in status.get("listeners").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| listener.get(name).and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("{:<13} {} {}", "listener", of("name"), of("address")));
    }
    for condition in status.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default();
        let tick =
            if condition.get("ok").and_then(Value::as_bool) == Some(true) { "ok" } else { "NOT READY" };
        lines.push(format!("{:<13} {tick} {}", of("name"), of("detail")).trim_end().to_owned());
    }
    for alarm in status.pointer("/ledger/alarms").and_then(Value::as_array).into_iter().flatten() {
        if let Some(message) = Message::from_json(alarm) {
            lines.push(format!("{:<13} ALARM {}", "ledger", message.in_one_line()));
        }
    }
    lines.extend(status.pointer("/ledger/ships").filter(|ships| !ships.is_null()).map(ships));
    for enforcer in status.pointer("/policies/enforcers").and_then(Value::as_array).into_iter().flatten() {
        lines.push(followed_by(enforcer));
    }
    for found in status.pointer("/policies/diagnostics").and_then(Value::as_array).into_iter().flatten() {
        if let Some(message) = Message::from_json(found) {
            lines.push(format!("{:<13} last edit refused: {}", "policies", message.in_one_line()));
            lines.extend(message.help.map(|help| format!("{:<13} help: {help}", "")));
        }
    }
    lines.join("\n")
}

/// The configuration in force; and the one on disk, where that is another.
fn configuration(status: &Value) -> Vec<String> {
    let Some(standing) = status.get("configuration") else { return Vec::new() };
    let digest = |name: &str| standing.get(name).and_then(Value::as_str).and_then(|digest| digest.get(..12));
    let list = |name: &str| standing.get(name).and_then(Value::as_array).into_iter().flatten();
    let in_force = digest("in_force");
    let mut lines: Vec<_> = in_force.map(|digest| format!("{digest} in force")).into_iter().collect();
    for found in list("errors").filter_map(Message::from_json) {
        lines.push(format!("on disk, refused: {}", found.in_one_line()));
        lines.extend(found.help.map(|help| format!("help: {help}")));
    }
    if let Some(on_disk) = digest("on_disk").filter(|on_disk| Some(*on_disk) != in_force) {
        let restart: Vec<_> = list("waits_for_restart").filter_map(Value::as_str).collect();
        let waits = match restart.as_slice() {
            [] => "portcullis config reload brings it into force".to_owned(),
            keys => format!("needs a restart for {}", keys.join(", ")),
        };
        lines.push(format!("{on_disk} on disk: {waits}"));
    }
    let is_failed = standing.pointer("/last_reload/result").and_then(Value::as_str) == Some("failed");
    for found in standing.pointer("/last_reload/errors").and_then(Value::as_array).into_iter().flatten() {
        if let Some(found) = Message::from_json(found).filter(|_| is_failed) {
            lines.push(format!("last reload refused: {}", found.in_one_line()));
        }
    }
    lines
}

/// The publisher whose policies are in force here: since when they are, how long ago it was heard, and what is wrong.
fn publisher(follows: &Value) -> String {
    let of = |name: &str| follows.get(name).and_then(Value::as_str);
    let mut line = format!("{:<13} {}", "publisher", of("freshness").unwrap_or_default());
    match follows.get("heard_seconds_ago").and_then(Value::as_u64) {
        Some(seconds) => line.push_str(&format!(", heard {seconds} s ago")),
        None => line.push_str(", never heard"),
    }
    if let Some(since) = of("since") {
        line.push_str(&format!("; in force since {since}"));
    }
    if let Some(problem) = of("problem") {
        line.push_str(&format!("; {problem}"));
    }
    line
}

/// How far the records of this process have come at the authority.
fn ships(ships: &Value) -> String {
    let of = |name: &str| ships.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{:<13} goes to {}, {} records wait", "ledger", of("to"), of("waiting"));
    if let Some(problem) = ships.get("problem").and_then(Value::as_str) {
        line.push_str(&format!(": {problem}"));
    }
    line
}

/// One enforcer that follows the policies of this process: what it should run, what it runs, what it refused.
fn followed_by(enforcer: &Value) -> String {
    let of = |pointer: &str| enforcer.pointer(pointer).and_then(Value::as_str).unwrap_or("nothing");
    let is = |name: &str| enforcer.get(name).and_then(Value::as_bool) == Some(true);
    let state = match (is("connected"), is("current")) {
        (false, _) => "not connected,",
        (true, true) => "in step,",
        (true, false) => "BEHIND,",
    };
    let mut line =
        format!("{:<13} {} {state} runs {} of {}", "enforcer", of("/name"), of("/running"), of("/wanted"));
    if let Some(seconds) = enforcer.get("reported_seconds_ago").and_then(Value::as_u64) {
        line.push_str(&format!(", reported {seconds} s ago"));
    }
    if enforcer.pointer("/refusal/code").is_some() {
        line.push_str(&format!(", refused: {} [{}]", of("/refusal/detail"), of("/refusal/code")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unmet_condition_is_named() {
        let status = json!({ "conditions": [
            { "name": "identity", "ok": true, "detail": "" },
            { "name": "policy", "ok": false, "detail": "orders.cedar:3" },
        ]});
        assert_eq!(blocked(&status, &[]), Some("policy: orders.cedar:3".to_owned()));
        assert_eq!(blocked(&status, &["identity".to_owned()]), None);
    }
}
