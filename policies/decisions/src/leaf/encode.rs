//! From the values of the engine to a leaf. Runs on the writer thread only (LS2).
//!
//! Inner maps have text keys in the order of RFC 8949 4.2.1: shorter first, then by bytes. What may never be
//! recorded (RE5) is refused here once more, whatever a schema declares.

mod caller;
mod facts;

use std::{collections::BTreeMap, sync::Arc};

use policies_engine::{
    ActivationRecord, AdministrationRecord, Audit, AuthorityRecord, Credential, DecisionId, DecisionRecord,
    Effect, Mode, PolicyError, Principal, ReadRecord, Record, Versions, Would,
};

use super::{
    Kind, MAX_LEAF, Stream, VERSION,
    body::{Body, Gap},
    caps::{Caps, Field, Limits},
    key,
};
use crate::{
    cbor::{IntMap, TextMap, Writer},
    redact::Redaction,
};
use base_ports::Now;
use caller::{behalf, credential_members, principal};

/// Members that every record has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) id: DecisionId,
    pub(crate) stream: &'a Stream,
    pub(crate) seq: u64,
    pub(crate) lost: u64,
    /// What does not go on record in clear.
    pub(crate) redaction: &'a Redaction,
}

/// Appends the leaf of a record.
pub(crate) fn record(out: &mut Vec<u8>, head: Head<'_>, record: &Record) {
    match record {
        Record::Decision(record) => decision(out, head, record),
        Record::Activation(record) => activation(out, head, record),
        Record::Authority(record) => authority(out, head, record),
        Record::Read(record) => read(out, head, record),
        Record::Administration(record) => administration(out, head, record),
    }
}

/// Appends the leaf of a decision; one that is over 32 KiB is written with tighter caps.
pub(crate) fn decision(out: &mut Vec<u8>, head: Head<'_>, record: &DecisionRecord) {
    let start = out.len();
    decision_within(out, head, record, Limits::NORMAL);
    if out.len() - start > MAX_LEAF {
        out.truncate(start);
        decision_within(out, head, record, Limits::TIGHT);
    }
}

/// Appends the leaf of a record of the ledger itself: gap, heartbeat, stream and recovery records.
pub(crate) fn own(out: &mut Vec<u8>, head: Head<'_>, time: Now, body: &Body) {
    other(out, head, body.kind(), time, None, None, |map, _| match body {
        Body::Gap(gap) => gap_members(map, gap),
        Body::Heartbeat(heartbeat) => {
            if heartbeat.is_last {
                map.key("last").bool(true);
            }
            map.key("lost").uint(heartbeat.lost);
            last_numbers(map, &heartbeat.lanes);
            if let Some(signature) = &heartbeat.signature {
                map.key("signature").bytes(signature);
            }
        }
        Body::StreamOpen { build, chain } => {
            map.key("build").text(build);
            if !chain.is_empty() {
                let mut writer = map.key("chain");
                writer.array(chain.len());
                chain.iter().for_each(|certificate| writer.bytes(certificate));
            }
        }
        Body::StreamClose { lanes } => last_numbers(map, lanes),
        Body::Recovery { boot, lanes } => {
            map.key("boot").bytes(boot);
            let mut writer = map.key("lanes");
            writer.array(lanes.len());
            for (lane, stored, reserved) in lanes {
                writer.text_map(|map| {
                    map.key("lane").uint(u64::from(*lane));
                    map.key("stored").uint(*stored);
                    map.key("reserved").uint(*reserved);
                });
            }
        }
        _ => (),
    });
}

fn last_numbers(map: &mut TextMap<'_>, lanes: &BTreeMap<u16, u64>) {
    let mut writer = map.key("lanes");
    writer.int_map(|map| lanes.iter().for_each(|(lane, seq)| map.key(u64::from(*lane)).uint(*seq)));
}

fn decision_within(out: &mut Vec<u8>, head: Head<'_>, record: &DecisionRecord, limits: Limits) {
    let mut caps = Caps::new(limits, head.redaction);
    let caps = &mut caps;
    Writer::new(out).int_map(|map| {
        opening(map, Kind::DECISION, head, record.time);
        map.key(key::EFFECT).uint(effect(record.effect));
        map.key(key::REASON).text(record.reason.as_str());
        map.key(key::MODE).uint(match record.mode {
            Mode::Enforce => 0,
            Mode::Observe => 1,
        });
        map.key(key::PHASE).text(record.phase.as_str());
        if let Some(would) = &record.would {
            map.key(key::WOULD).text_map(|map| would_members(map, would, caps));
        }
        principal(map, &record.principal, head, caps);
        if let Some(credential) = &record.credential {
            map.key(key::CREDENTIAL).text_map(|map| credential_members(map, credential, caps));
        }
        map.key(key::ACTION).text(record.action.as_str());
        let resource = &record.resource;
        entity(map, key::RESOURCE, resource.entity_type(), caps.name("resource.id", resource.id()));
        if let Some(service) = resource.service() {
            map.key(key::SERVICE).text(caps.name("service", service));
        }
        let homes = record.versions.as_ref().map(|versions| &*versions.homes);
        let is_workload = record.principal.entity_type() == "Workload";
        let caller = homes.filter(|_| is_workload).and_then(|homes| homes.get(record.principal.id()));
        namespaces(map, resource.namespace(), caller, caps);
        texts(&mut map.key(key::DETERMINING), "determining".into(), &record.determining, caps);
        if !record.errors.is_empty() {
            errors(&mut map.key(key::ERRORS), "errors", &record.errors, caps);
        }
        if let Some(versions) = &record.versions {
            notes(map, &record.determining, versions, caps);
            map.key(key::VERSIONS).text_map(|map| versions_members(map, versions));
        }
        map.key(key::ENGINE).text_map(|map| {
            map.key("mode").text(record.evaluated.as_str());
            map.key("stale").bool(record.stale);
            map.key("reasons").text("all");
            map.key("decide_ns").uint(u64::from(record.decide_ns));
        });
        if let Some(facts) = record.facts.as_deref() {
            facts::members(map, facts, record.versions.as_deref(), caps);
            if let Some(token) = facts.token() {
                behalf(map, token, &record.principal, head, caps);
            }
        }
        if let Some(trace) = &record.trace
            && !caps.drops("trace", || trace.trace_id.len() + trace.span_id.len())
        {
            map.key(key::TRACE).text_map(|map| {
                map.key("span_id").bytes(&trace.span_id);
                map.key("trace_id").bytes(&trace.trace_id);
            });
        }
        map.key(key::AUDIT).uint(match record.audit {
            Audit::BestEffort => 0,
            Audit::Required => 1,
            Audit::Durable => 2,
        });
        let detail = record.detail.as_deref().map(|detail| caps.value("detail", detail));
        closing(map, head, caps);
        if let Some(detail) = detail {
            map.key(key::DETAIL).text(detail);
        }
    });
}

fn activation(out: &mut Vec<u8>, head: Head<'_>, record: &ActivationRecord) {
    let versions = Some(&*record.versions);
    other(out, head, Kind::ACTIVATION, record.time, record.principal.as_ref(), versions, |map, caps| {
        if let Some(detail) = &record.detail {
            map.key("detail").text(caps.value("body.detail", detail));
        }
        map.key("outcome").text(caps.value("body.outcome", &record.outcome));
    });
}

fn authority(out: &mut Vec<u8>, head: Head<'_>, record: &AuthorityRecord) {
    other(out, head, Kind::AUTHORITY, record.time, record.principal.as_ref(), None, |map, caps| {
        map.key("event").text(caps.value("body.event", &record.event));
        details(map, &record.details, caps);
        if let Some(subject) = &record.subject {
            map.key("subject").text(caps.name("body.subject", subject));
        }
    });
}

fn read(out: &mut Vec<u8>, head: Head<'_>, record: &ReadRecord) {
    let who = Some((&record.principal, record.credential.as_deref()));
    proved(out, head, Kind::READ, record.time, who, None, |map, caps| {
        map.key("call").text(record.call);
        map.key("bytes").uint(record.bytes);
        map.key("count").uint(record.count);
        map.key("query").text(caps.value("body.query", &record.query));
        if let Some(failed) = &record.failed {
            map.key("failed").text(caps.value("body.failed", failed));
        }
        if record.is_partial {
            map.key("partial").bool(true);
        }
        if let Some(purpose) = &record.purpose {
            map.key("purpose").text(caps.value("body.purpose", purpose));
        }
    });
}

fn administration(out: &mut Vec<u8>, head: Head<'_>, record: &AdministrationRecord) {
    other(out, head, Kind::ADMINISTRATION, record.time, record.principal.as_ref(), None, |map, caps| {
        details(map, &record.details, caps);
        map.key("operation").text(caps.value("body.operation", &record.operation));
    });
}

/// A record that is no decision: head, principal, versions, body.
fn other(
    out: &mut Vec<u8>,
    head: Head<'_>,
    kind: Kind,
    time: Now,
    who: Option<&Principal>,
    versions: Option<&Versions>,
    body: impl FnOnce(&mut TextMap<'_>, &mut Caps<'_>),
) {
    proved(out, head, kind, time, who.map(|who| (who, None)), versions, body);
}

/// The same, with what the one who is named proved itself with.
fn proved(
    out: &mut Vec<u8>,
    head: Head<'_>,
    kind: Kind,
    time: Now,
    who: Option<(&Principal, Option<&Credential>)>,
    versions: Option<&Versions>,
    body: impl FnOnce(&mut TextMap<'_>, &mut Caps<'_>),
) {
    let mut caps = Caps::new(Limits::NORMAL, head.redaction);
    Writer::new(out).int_map(|map| {
        opening(map, kind, head, time);
        match who {
            Some((who, credential)) => {
                principal(map, who, head, &mut caps);
                if let Some(credential) = credential {
                    map.key(key::CREDENTIAL).text_map(|map| credential_members(map, credential, &mut caps));
                }
            }
            None => entity(map, key::PRINCIPAL, "Workload", &head.stream.enforcer),
        }
        if let Some(versions) = versions {
            map.key(key::VERSIONS).text_map(|map| versions_members(map, versions));
        }
        // The body is written last, yet `truncated` stands before it and must know what the body cut.
        let mut members = Vec::new();
        Writer::new(&mut members).text_map(|map| body(map, &mut caps));
        closing(map, head, &caps);
        map.key(key::BODY).raw(&members);
    });
}

fn opening(map: &mut IntMap<'_>, kind: Kind, head: Head<'_>, time: Now) {
    map.key(key::V).uint(VERSION);
    map.key(key::KIND).uint(kind.0);
    map.key(key::ID).bytes(head.id.as_bytes());
    map.key(key::STREAM).text_map(|map| {
        map.key("seq").uint(head.seq);
        map.key("boot").bytes(&head.stream.boot);
        map.key("lane").uint(u64::from(head.stream.lane));
        map.key("enforcer").text(&head.stream.enforcer);
        map.key("instance").text(&head.stream.instance);
    });
    map.key(key::TIME).int(time.wall.as_nanos());
    map.key(key::MONO).uint(time.mono.as_nanos());
}

fn closing(map: &mut IntMap<'_>, head: Head<'_>, caps: &Caps<'_>) {
    if head.lost > 0 {
        map.key(key::LOST).uint(head.lost);
    }
    let cut = caps.cut();
    if !cut.is_empty() {
        let mut writer = map.key(key::TRUNCATED);
        writer.array(cut.len());
        for cut in cut {
            writer.text_map(|map| {
                map.key("field").text(&cut.field);
                map.key("length").uint(cut.length);
                if let Some(sha256) = &cut.sha256 {
                    map.key("sha256").bytes(sha256);
                }
            });
        }
    }
}

fn effect(effect: Effect) -> u64 {
    match effect {
        Effect::Deny => 0,
        Effect::Allow => 1,
    }
}

/// The tickets of the determining policies, for those who look for what a change did.
fn notes(map: &mut IntMap<'_>, determining: &[Arc<str>], versions: &Versions, caps: &mut Caps<'_>) {
    let mut tickets: Vec<&str> =
        determining.iter().filter_map(|id| versions.tickets.get(id)).map(|ticket| &**ticket).collect();
    tickets.sort_unstable();
    tickets.dedup();
    if !tickets.is_empty() {
        map.key(key::NOTES)
            .text_map(|map| texts(&mut map.key("ticket"), "notes.ticket".into(), &tickets, caps));
    }
}

/// The namespaces of both sides, as far as they have one (RR1, RR2).
fn namespaces(map: &mut IntMap<'_>, callee: Option<&str>, caller: Option<&str>, caps: &mut Caps<'_>) {
    if callee.is_none() && caller.is_none() {
        return;
    }
    let callee = callee.map(|name| caps.name("namespaces.callee", name));
    let caller = caller.map(|name| caps.name("namespaces.caller", name));
    map.key(key::NAMESPACES).text_map(|map| {
        for (side, name) in [("callee", callee), ("caller", caller)] {
            if let Some(name) = name {
                map.key(side).text(name);
            }
        }
    });
}

fn entity(map: &mut IntMap<'_>, at: u64, kind: &str, id: &str) {
    map.key(at).text_map(|map| {
        map.key("id").text(id);
        map.key("type").text(kind);
    });
}

fn would_members(map: &mut TextMap<'_>, would: &Would, caps: &mut Caps<'_>) {
    map.key("effect").uint(effect(would.effect));
    if !would.errors.is_empty() {
        errors(&mut map.key("errors"), "would.errors", &would.errors, caps);
    }
    map.key("reason").text(would.reason.as_str());
    if let Some(version) = would.version {
        map.key("version").uint(version);
    }
    texts(&mut map.key("determining"), "would.determining".into(), &would.determining, caps);
}

fn versions_members(map: &mut TextMap<'_>, versions: &Versions) {
    map.key("epoch").uint(versions.numbers.epoch);
    map.key("engine").text(&versions.engine);
    map.key("routes").bytes(&versions.routes);
    map.key("schema").bytes(&versions.schema);
    map.key("entities").bytes(&versions.entities);
    map.key("manifest").bytes(&versions.manifest);
    map.key("policies").uint(versions.numbers.policies);
    map.key("snapshot").uint(versions.numbers.snapshot);
}

fn gap_members(map: &mut TextMap<'_>, gap: &Gap) {
    if let Some(to) = gap.to {
        map.key("to").int(to.as_nanos());
    }
    map.key("boot").bytes(&gap.boot);
    if let Some(from) = gap.from {
        map.key("from").int(from.as_nanos());
    }
    map.key("lane").uint(u64::from(gap.lane));
    if let Some((_, last)) = gap.range {
        map.key("last").uint(last);
    }
    map.key("cause").text(gap.cause.as_str());
    if gap.exact {
        map.key("count").uint(gap.count);
    }
    map.key("exact").bool(gap.exact);
    if let Some((first, _)) = gap.range {
        map.key("first").uint(first);
    }
    if !gap.exact {
        map.key("at_most").uint(gap.count);
    }
    counts(map, "effects", &gap.effects);
    counts(map, "reasons", &gap.reasons);
}

fn counts(map: &mut TextMap<'_>, name: &str, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_unstable_by_key(|(word, _)| (word.len(), word.as_str()));
    map.key(name).text_map(|map| sorted.iter().for_each(|(word, count)| map.key(word).uint(**count)));
}

/// `details` of authority and administration records: pairs in their given order.
fn details(map: &mut TextMap<'_>, details: &[(String, String)], caps: &mut Caps<'_>) {
    if details.is_empty() {
        return;
    }
    let kept = caps.entries("body.details", details.len());
    let mut writer = map.key("details");
    writer.array(kept);
    for (name, value) in details.iter().take(kept) {
        writer.array(2);
        writer.text(caps.value("body.details", name));
        writer.text(caps.value("body.details", value));
    }
}

fn texts<T: AsRef<str>>(writer: &mut Writer<'_>, field: Field<'_>, members: &[T], caps: &mut Caps<'_>) {
    let kept = caps.set(field, members);
    writer.array(kept.len());
    kept.iter().for_each(|member| writer.text(caps.value(field, member.as_ref())));
}

fn errors(writer: &mut Writer<'_>, field: &str, errors: &[PolicyError], caps: &mut Caps<'_>) {
    let kept = caps.entries(field, errors.len());
    writer.array(kept);
    for error in errors.iter().take(kept) {
        writer.text_map(|map| {
            map.key("class").text(error.class.as_str());
            map.key("policy").text(caps.value(field, &error.policy));
        });
    }
}
