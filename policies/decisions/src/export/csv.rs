//! CSV (RFC 4180) that a spreadsheet opens without running anything of it (RR5, OU6).
//!
//! Control and bidirectional characters are shown as `\uXXXX`. A field that begins as a formula does gets an apostrophe
//! in front. Lists are joined by `;` in one quoted field.

use policies_engine::{Audit, Facts, Mode};

use crate::{
    leaf::{DecisionBody, StoredRecord, acts_on_a_terminal, hex, json_text},
    proof::LogView,
    sight::Seen,
};

/// The columns, in their order. One is added at the end, never moved or removed.
const COLUMNS: [&str; 37] = [
    "index",
    "time",
    "id",
    "kind",
    "effect",
    "reason",
    "detail",
    "mode",
    "phase",
    "would_effect",
    "would_reason",
    "principal_type",
    "principal",
    "credential",
    "serial",
    "action",
    "resource_type",
    "resource",
    "service",
    "namespace",
    "caller_namespace",
    "determining",
    "errors",
    "tickets",
    "policies",
    "snapshot",
    "enforcer",
    "instance",
    "source_ip",
    "method",
    "host",
    "path",
    "rpc",
    "trace_id",
    "audit",
    "lost",
    "body",
];

/// The first line.
pub(super) fn header(out: &mut String) {
    out.push_str(&COLUMNS.join(","));
    out.push_str("\r\n");
}

/// One line.
pub(super) fn row(record: &StoredRecord, seen: Seen, out: &mut String) {
    let whole = (seen == Seen::Whole).then_some(record);
    let decision = record.decision();
    let inside = whole.and_then(StoredRecord::decision);
    let mut line = Line { out, is_first: true };
    line.text(record.index.to_string());
    line.text(record.time.to_string());
    line.text(record.id.to_string());
    line.text(record.kind.as_str());
    line.maybe(decision.map(|decision| decision.effect.as_str()));
    line.maybe(decision.map(|decision| decision.reason.as_str()));
    line.maybe(inside.and_then(|decision| decision.detail.as_deref()));
    line.maybe(inside.map(|decision| match decision.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }));
    line.maybe(inside.map(|decision| decision.phase.as_str()));
    let would = inside.and_then(|decision| decision.would.as_ref());
    line.maybe(would.map(|would| would.effect.as_str()));
    line.maybe(would.map(|would| would.reason.as_str()));
    line.text(&record.principal.kind);
    line.text(&record.principal.id);
    let credential = inside.and_then(|decision| decision.credential.as_ref());
    line.maybe(credential.map(|credential| credential.kind.as_str()));
    line.maybe(credential.and_then(|credential| credential.serial.as_deref()));
    line.maybe(decision.map(|decision| decision.action.as_str()));
    line.maybe(decision.map(|decision| decision.resource.kind.as_str()));
    line.maybe(decision.map(|decision| decision.resource.id.as_str()));
    line.maybe(inside.and_then(|decision| decision.service.as_deref()));
    line.maybe(inside.and_then(|decision| decision.namespace.as_deref()));
    line.maybe(inside.and_then(|decision| decision.caller_namespace.as_deref()));
    line.list(inside.map(|decision| decision.determining.as_slice()).unwrap_or_default());
    let errors = inside.map(|decision| decision.errors.as_slice()).unwrap_or_default();
    line.list(&errors.iter().map(|(policy, class)| format!("{policy}: {class}")).collect::<Vec<_>>());
    line.list(inside.map(|decision| decision.tickets.as_slice()).unwrap_or_default());
    let numbers = whole.and_then(|record| record.versions.as_ref()).map(|versions| versions.numbers);
    line.maybe(numbers.map(|numbers| numbers.policies.to_string()));
    line.maybe(numbers.map(|numbers| numbers.snapshot.to_string()));
    line.maybe(whole.map(|record| record.stream.enforcer.as_str()));
    line.maybe(whole.map(|record| record.stream.instance.as_str()));
    facts(record, inside, &mut line);
    let trace = decision.and_then(|decision| decision.trace);
    line.maybe(trace.map(|trace| hex(&trace.trace_id)));
    line.maybe(inside.map(|decision| match decision.audit {
        Audit::BestEffort => "best_effort",
        Audit::Required => "required",
        Audit::Durable => "durable",
    }));
    line.maybe(whole.filter(|record| record.lost > 0).map(|record| record.lost.to_string()));
    let body =
        whole.filter(|record| record.decision().is_none()).map(|record| record.to_json(&LogView::named("")));
    line.maybe(body.as_ref().and_then(|json| json.get("body")).map(json_text));
    line.out.push_str("\r\n");
}

fn facts(record: &StoredRecord, inside: Option<&DecisionBody>, line: &mut Line<'_>) {
    let facts = inside.and_then(|decision| decision.facts.as_ref());
    let request = facts.and_then(|facts| facts.request());
    let connection = facts.filter(|_| !record.is_dropped("connection.source_ip"));
    line.maybe(connection.map(|facts| facts.connection().source_ip.to_string()));
    line.maybe(request.as_ref().map(|request| request.method));
    line.maybe(request.as_ref().map(|request| request.host));
    line.maybe(request.as_ref().map(|request| request.path));
    line.maybe(facts.and_then(|facts| facts.rpc()).map(|(service, method)| format!("{service}/{method}")));
}

/// A line under construction.
struct Line<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl Line<'_> {
    fn text(&mut self, value: impl AsRef<str>) {
        self.field(value.as_ref(), false);
    }

    fn maybe(&mut self, value: Option<impl AsRef<str>>) {
        self.field(value.as_ref().map(AsRef::as_ref).unwrap_or_default(), false);
    }

    fn list(&mut self, values: &[String]) {
        self.field(&values.join(";"), !values.is_empty());
    }

    fn field(&mut self, value: &str, is_list: bool) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        let value = harmless(value);
        if is_list || value.contains([',', '"', ' ']) {
            self.out.push('"');
            self.out.push_str(&value.replace('"', "\"\""));
            self.out.push('"');
        } else {
            self.out.push_str(&value);
        }
    }
}

/// A value of which nothing acts on a terminal or in a spreadsheet.
fn harmless(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 1);
    if value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        out.push('\'');
    }
    for c in value.chars() {
        if acts_on_a_terminal(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}
