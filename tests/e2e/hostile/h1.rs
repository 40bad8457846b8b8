//! HTTP/1 from a caller whose bytes are its own: every class of hardening.md 3, alone and after a good request on the
//! same connection. What is refused is followed by a second request in the same write, which nobody may ever see.

mod rows;

use std::collections::HashMap;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::recorder::{Received, Recorder};
use tests::wire::{Caller, Heard, PATIENCE, Reply, Wire};
use tests::{Gateway, Result, check};

use super::Table;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("in5_hostile_http1_is_answered_as_its_class_says", None, classes)]
}

/// The head of a call is due within that.
const HEADER_TIME: &str = "600ms";

/// One class. Its id begins with the rule that answers.
pub(super) struct Row {
    id: String,
    /// What the caller sends. Each further part follows an answer.
    parts: Vec<Vec<u8>>,
    /// It says nothing more after that.
    ends: bool,
    /// Statuses of the answers, and what becomes of the connection.
    expected: &'static str,
    /// What the upstream must have received of what is served.
    has: &'static [&'static str],
    /// What it must not have received.
    lacks: &'static [&'static str],
}

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Follows every row in the same write: served where the connection is kept, seen by nobody where it is not.
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn classes() -> Result {
    let origin = Recorder::start();
    let gateway = Gateway::build()
        .listener(&format!("header_timeout = \"{HEADER_TIME}\""))
        .site(origin.address)
        .route_line("header_timeout = \"2s\"\ntimeout = \"700ms\"")
        .start()?;
    let caller = Caller::new(gateway.address, &gateway.identity()?, b"http/1.1")?;
    let mut table = Table::new("http/1");
    let mut refused = HashMap::<String, u64>::new();
    for row in rows::all() {
        let alone = seen(&mut caller.dial()?, &origin, &row)?;
        let mut wire = caller.dial()?;
        wire.send(GOOD);
        let good = wire.hear(false, PATIENCE)?;
        check!(matches!(good, Heard::Reply(reply) if reply.status == 200), "before {}: no answer", row.id);
        origin.take();
        let behind = seen(&mut wire, &origin, &row)?;
        let seen = if alone == behind { alone } else { format!("{alone}; after a good one {behind}") };
        let rule = row.id.split('/').next().unwrap_or_default();
        if rule != "-" && row.expected.split(' ').any(|word| word.starts_with('4') || word.starts_with('5')) {
            *refused.entry(rule.to_owned()).or_default() += 2;
        }
        table.row(row.id, row.expected, seen);
    }
    // LM-02: what the gate refuses is counted with the id of its rule.
    let (_, metrics) = gateway.http("/metrics")?;
    for (rule, times) in refused {
        let series = format!("portcullis_gate_refused_total{{class=\"{rule}\"}} ");
        let counted = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or("0");
        table.row(format!("LM-02/{rule}"), format!("counted {times}"), format!("counted {counted}"));
    }
    table.end(60)
}

/// What becomes of a row on that connection.
fn seen(wire: &mut Wire, origin: &Recorder, row: &Row) -> Result<String> {
    let is_head = |part: &[u8]| part.starts_with(b"HEAD ");
    let mut said = Vec::new();
    let mut end = None;
    let is_whole = !row.ends && !row.expected.starts_with("408");
    for (number, part) in row.parts.iter().enumerate() {
        let is_last = number + 1 == row.parts.len();
        match is_last && is_whole {
            true => wire.send(&[part, AFTER].concat()),
            false => wire.send(part),
        }
        if row.ends {
            wire.finish();
        }
        while end.is_none() {
            match wire.hear(is_head(part), PATIENCE)? {
                Heard::Closed => end = Some("close"),
                Heard::Silence => end = Some("silence"),
                Heard::Reply(reply) if told(&reply)["path"] == "/after" => end = Some("keep"),
                Heard::Reply(reply) => {
                    said.push(if reply.is_whole { reply.status.to_string() } else { "broken".into() });
                    if !is_last {
                        break;
                    }
                }
            }
        }
    }
    let mut seen = format!("{} {}", said.join(" "), end.unwrap_or("open")).trim_start().to_owned();
    let received = origin.take();
    let whole: Vec<_> = received.iter().filter(|one| one.broken.is_none()).collect();
    let served = said.iter().filter(|status| *status == "200").count() + usize::from(end == Some("keep"));
    if whole.len() != served {
        seen.push_str(&format!(", but {} requests were forwarded: {whole:?}", whole.len()));
    }
    let text = whole.iter().filter(|one| one.target() != "/after").map(|one| text(one)).collect::<String>();
    for wanted in row.has.iter().filter(|wanted| served > 0 && !text.contains(**wanted)) {
        seen.push_str(&format!(", but {wanted:?} is missing in {text:?}"));
    }
    for odd in row.lacks.iter().filter(|odd| text.contains(**odd)) {
        seen.push_str(&format!(", but {odd:?} was forwarded in {text:?}"));
    }
    Ok(seen)
}

fn text(received: &Received) -> String {
    format!("{}\r\n\r\n{}", received.head.to_lowercase(), String::from_utf8_lossy(&received.body))
}

fn told(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}
