//! The JSON view of a record (decisions.md 2): names for numbers, text for what does not fit a double.
//!
//! Text is escaped so that a terminal shows what is there (RR5): control characters, and those that change the
//! direction of writing, leave as `\uXXXX`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use policies_engine::{Audit, Effect, Mode};
use serde_json::{Map, Value, json};

use super::{
    Entity, StoredRecord, StoredVersions, Truncated,
    body::{Body, DecisionBody, Gap, Reading, StoredCredential, Would},
};
use crate::{
    cbor::{Item, Reader},
    proof::LogView,
    sight::Seen,
};

impl StoredRecord {
    /// The JSON view; `log` is the log it was read from.
    #[must_use]
    pub fn to_json(&self, log: &LogView) -> Value {
        let mut out = Object::default();
        out.put("apiVersion", "portcullis/v1");
        out.put("kind", self.kind.name());
        out.put("id", self.id.to_string());
        out.put("time", self.time.to_string());
        out.put("mono", self.mono.to_string());
        out.put(
            "stream",
            json!({
                "enforcer": self.stream.enforcer, "instance": self.stream.instance, "boot": hex(&self.stream.boot),
                "lane": self.stream.lane, "seq": self.stream.seq.to_string(),
            }),
        );
        match &self.body {
            Body::Decision(decision) => self.decision_members(decision, &mut out),
            body => {
                out.put("principal", entity(&self.principal));
                if let Body::Read(reading) = body {
                    out.maybe("credential", reading.credential.as_ref().map(credential));
                }
                if let Some(versions) = &self.versions {
                    out.put("versions", self::versions(versions));
                }
                out.put("body", other(body));
            }
        }
        if self.lost > 0 {
            out.put("lost", self.lost);
        }
        if !self.truncated.is_empty() {
            let cut = self.truncated.iter();
            out.put("truncated", cut.map(truncated).collect::<Vec<_>>());
        }
        if !self.extra.is_empty() {
            let extra = self.extra.iter();
            let extra = extra.map(|(name, bytes)| {
                (
                    name.clone(),
                    Reader::new(bytes).item().map_or_else(|_| hex(bytes).into(), |value| item(&value)),
                )
            });
            out.put("extra", extra.collect::<Map<_, _>>());
        }
        let provable = log.covers(self.index);
        out.put(
            "log",
            json!({"origin": log.origin(), "index": self.index.to_string(), "provable": provable}),
        );
        Value::Object(out.0)
    }

    /// As a reader sees it: the outbound view (RR2) keeps what the caller knows anyway, and what came of it.
    #[must_use]
    pub fn to_json_seen(&self, log: &LogView, seen: Seen) -> Value {
        const OUTBOUND: [&str; 10] = [
            "apiVersion",
            "kind",
            "id",
            "time",
            "effect",
            "reason",
            "principal",
            "action",
            "resource",
            "trace",
        ];
        let mut whole = self.to_json(log);
        if seen == Seen::Whole {
            return whole;
        }
        if let Some(members) = whole.as_object_mut() {
            members.retain(|name, _| OUTBOUND.contains(&name.as_str()));
            members.insert("view".to_owned(), "outbound".into());
            members
                .insert("log".to_owned(), json!({"origin": log.origin(), "index": self.index.to_string()}));
        }
        whole
    }

    /// Takes out what stands in for fields that were left out: an empty text would say that the caller sent one.
    fn hide_dropped(&self, members: &mut Map<String, Value>) {
        for cut in self.truncated.iter().filter(|cut| cut.sha256.is_none()) {
            let Some((section, name)) = cut.field.split_once('.') else { continue };
            let Some(section) = members.get_mut(section).and_then(Value::as_object_mut) else { continue };
            section.remove(name);
            if cut.field == "request.path" {
                section.remove("segments");
                section.remove("segment_count");
            }
        }
    }

    fn decision_members(&self, decision: &DecisionBody, out: &mut Object) {
        out.put("effect", decision.effect.as_str());
        out.put("reason", decision.reason.as_str());
        out.maybe("detail", decision.detail.as_deref());
        out.put(
            "mode",
            match decision.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
        );
        out.put("phase", decision.phase.as_str());
        out.maybe("would", decision.would.as_ref().map(would));
        out.put("principal", entity(&self.principal));
        out.maybe("credential", decision.credential.as_ref().map(credential));
        out.maybe(
            "jwt",
            decision.behalf.as_ref().map(|behalf| match &behalf.id {
                Some(id) => json!({"id": id, "issuer": behalf.issuer}),
                None => json!({"issuer": behalf.issuer}),
            }),
        );
        out.put("action", decision.action.as_str());
        out.put("resource", entity(&decision.resource));
        out.maybe("service", decision.service.as_deref());
        out.maybe("namespaces", namespaces(decision));
        out.put("determining", decision.determining.as_slice());
        if !decision.tickets.is_empty() {
            out.put("notes", json!({"ticket": decision.tickets}));
        }
        if !decision.errors.is_empty() {
            out.put("errors", errors(&decision.errors));
        }
        out.maybe("versions", self.versions.as_ref().map(versions));
        out.put(
            "engine",
            json!({
                "mode": decision.evaluated, "reasons": "all", "stale": decision.stale, "decide_ns": decision.decide_ns,
            }),
        );
        if let Some(facts) = &decision.facts {
            out.0.extend(facts.to_json());
            self.hide_dropped(&mut out.0);
        }
        out.maybe(
            "trace",
            decision
                .trace
                .map(|trace| json!({"trace_id": hex(&trace.trace_id), "span_id": hex(&trace.span_id)})),
        );
        out.put(
            "audit",
            match decision.audit {
                Audit::BestEffort => "best_effort",
                Audit::Required => "required",
                Audit::Durable => "durable",
            },
        );
    }
}

/// Prints a JSON value in one line, with everything escaped that would act on a terminal.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = Vec::new();
    let mut printer = serde_json::Serializer::with_formatter(&mut out, Escaping);
    match serde::Serialize::serialize(value, &mut printer) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        // INVARIANT: a `Value` has text keys only and a Vec takes every byte, so there is no error to report.
        Err(_) => String::new(),
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // INVARIANT: writing to a String does not fail.
        write!(out, "{byte:02x}").unwrap_or_default();
        out
    })
}

/// An object in its printing order.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn maybe(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

fn effect(effect: Effect) -> &'static str {
    effect.as_str()
}

fn entity(entity: &Entity) -> Value {
    json!({"type": entity.kind, "id": entity.id})
}

fn truncated(cut: &Truncated) -> Value {
    let mut out = Object::default();
    out.put("field", cut.field.as_str());
    out.put("length", cut.length);
    out.maybe("sha256", cut.sha256.map(|sha256| hex(&sha256)));
    out.0.into()
}

fn errors(errors: &[(String, String)]) -> Value {
    errors.iter().map(|(policy, class)| json!({"policy": policy, "class": class})).collect()
}

fn would(would: &Would) -> Value {
    let mut out = Object::default();
    out.put("effect", effect(would.effect));
    out.put("reason", would.reason.as_str());
    out.put("determining", would.determining.as_slice());
    if !would.errors.is_empty() {
        out.put("errors", errors(&would.errors));
    }
    out.maybe("version", would.version);
    out.0.into()
}

fn credential(credential: &StoredCredential) -> Value {
    let mut out = Object::default();
    out.put("kind", credential.kind.as_str());
    out.maybe("serial", credential.serial.as_deref());
    out.maybe("fingerprint", credential.fingerprint.map(|bytes| hex(&bytes)));
    out.maybe("issuer", credential.issuer.as_deref());
    out.maybe("not_after", credential.not_after.map(|time| time.to_string()));
    out.0.into()
}

fn versions(versions: &StoredVersions) -> Value {
    json!({
        "epoch": versions.numbers.epoch, "snapshot": versions.numbers.snapshot, "policies": versions.numbers.policies,
        "manifest": hex(&versions.manifest), "schema": hex(&versions.schema), "entities": hex(&versions.entities),
        "routes": hex(&versions.routes), "engine": versions.engine,
    })
}

fn other(body: &Body) -> Value {
    match body {
        Body::Gap(gap) => self::gap(gap),
        Body::Heartbeat(heartbeat) => {
            let mut out = Object::default();
            out.put("lanes", numbers(&heartbeat.lanes));
            out.put("lost", heartbeat.lost.to_string());
            if heartbeat.is_last {
                out.put("last", true);
            }
            out.maybe("signature", heartbeat.signature.as_ref().map(|signature| hex(signature)).as_deref());
            out.0.into()
        }
        Body::StreamOpen { build, chain } => {
            let mut out = Object::default();
            out.put("build", build.as_str());
            if !chain.is_empty() {
                let chain = chain.iter().map(|certificate| Value::from(STANDARD.encode(certificate)));
                out.put("chain", chain.collect::<Vec<_>>());
            }
            out.0.into()
        }
        Body::StreamClose { lanes } => json!({"lanes": numbers(lanes)}),
        Body::Recovery { boot, lanes } => json!({
            "boot": hex(boot),
            "lanes": lanes.iter().map(|(lane, stored, reserved)| json!({
                "lane": lane, "stored": stored.to_string(), "reserved": reserved.to_string(),
            })).collect::<Vec<_>>(),
        }),
        Body::Activation { outcome, detail } => {
            let mut out = Object::default();
            out.put("outcome", outcome.as_str());
            out.maybe("detail", detail.as_deref());
            out.0.into()
        }
        Body::Authority { event, subject, details } => {
            let mut out = Object::default();
            out.put("event", event.as_str());
            out.maybe("subject", subject.as_deref());
            out.put("details", named(details));
            out.0.into()
        }
        Body::Read(reading) => self::reading(reading),
        Body::Administration { operation, details } => {
            json!({"operation": operation, "details": named(details)})
        }
        Body::Decision(_) | Body::Other => Value::Null,
    }
}

fn namespaces(decision: &DecisionBody) -> Option<Value> {
    let mut out = Object::default();
    out.maybe("callee", decision.namespace.as_deref());
    out.maybe("caller", decision.caller_namespace.as_deref());
    (!out.0.is_empty()).then(|| out.0.into())
}

fn reading(reading: &Reading) -> Value {
    let mut out = Object::default();
    out.maybe("call", reading.call.as_deref());
    out.put("query", reading.query.as_str());
    out.put("count", reading.count);
    out.put("bytes", reading.bytes);
    if reading.is_partial {
        out.put("partial", true);
    }
    out.maybe("failed", reading.failed.as_deref());
    out.maybe("purpose", reading.purpose.as_deref());
    out.0.into()
}

fn gap(gap: &Gap) -> Value {
    let mut out = Object::default();
    out.put("boot", hex(&gap.boot));
    out.put("lane", gap.lane);
    if let Some((first, last)) = gap.range {
        out.put("first", first.to_string());
        out.put("last", last.to_string());
    }
    out.put("exact", gap.exact);
    out.put(if gap.exact { "count" } else { "at_most" }, gap.count);
    out.put("cause", gap.cause.as_str());
    out.maybe("from", gap.from.map(|time| time.to_string()));
    out.maybe("to", gap.to.map(|time| time.to_string()));
    if !gap.effects.is_empty() {
        out.put("effects", json!(gap.effects));
    }
    if !gap.reasons.is_empty() {
        out.put("reasons", json!(gap.reasons));
    }
    out.0.into()
}

fn numbers(lanes: &std::collections::BTreeMap<u16, u64>) -> Map<String, Value> {
    lanes.iter().map(|(lane, seq)| (lane.to_string(), seq.to_string().into())).collect()
}

fn named(details: &[(String, String)]) -> Map<String, Value> {
    details.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

/// CBOR that this version does not know, as JSON: bytes in hex, keys as text.
fn item(value: &Item<'_>) -> Value {
    match value {
        Item::Uint(number) => (*number).into(),
        Item::Negative(number) => (-1 - i128::from(*number)).to_string().into(),
        Item::Bytes(bytes) => hex(bytes).into(),
        Item::Text(text) => (*text).into(),
        Item::Array(items) => items.iter().map(item).collect(),
        Item::Map(members) => {
            let name = |key: &Item<'_>| match item(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            members.iter().map(|(key, value)| (name(key), item(value))).collect::<Map<_, _>>().into()
        }
        Item::Simple(20) => false.into(),
        Item::Simple(21) => true.into(),
        Item::Simple(_) => Value::Null,
    }
}

/// Compact JSON whose texts are safe to show.
struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // serde_json has escaped the ASCII control characters, quotes and backslashes already.
        let mut rest = fragment;
        while let Some((at, bad)) = rest.char_indices().find(|(_, c)| acts_on_a_terminal(*c)) {
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            writer.write_all(before.as_bytes())?;
            for unit in bad.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = after.strip_prefix(bad).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Control characters, and marks that change the direction or the visibility of text.
pub(crate) fn acts_on_a_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
