//! The part of OTLP that tells logs (opentelemetry-proto 1.x, `collector/logs/v1`), field by field as numbered there, and
//! what of a decision goes into one: names of OpenTelemetry where it has them, else `portcullis.*`. Queries, headers and
//! tokens are no part of it, and neither is what the site leaves out of records.

use policies_decisions::{DecisionBody, StoredRecord};
use policies_engine::{Effect, Facts, Mode};
use prost::Message;

use crate::assemble::collector::wire::{AnyValue, KeyValue, Resource, Scope, Value, attribute, scope};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    span_id: Vec<u8>,
    #[prost(string, tag = "12")]
    event_name: String,
}

const EVENT: &str = "portcullis.decision";
/// SEVERITY_NUMBER_INFO.
const INFO: i32 = 9;
/// SEVERITY_NUMBER_WARN.
const WARN: i32 = 13;

/// The body that tells these decisions; other records are none.
pub(super) fn request(resource: &Resource, records: &[StoredRecord]) -> Vec<u8> {
    let log_records = records.iter().filter_map(|record| Some(log(record, record.decision()?))).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource.clone()), scope_logs }];
    Request { resource_logs }.encode_to_vec()
}

fn log(record: &StoredRecord, decision: &DecisionBody) -> LogRecord {
    let (severity_number, severity_text) = match decision.effect {
        Effect::Allow => (INFO, "INFO"),
        Effect::Deny => (WARN, "WARN"),
    };
    let trace = decision.trace;
    // As a person reads it in a list of logs.
    let told = format!(
        "{} {} {} {} ({})",
        decision.effect.as_str(),
        record.principal.id,
        decision.action,
        decision.resource.id,
        decision.reason
    );
    LogRecord {
        time_unix_nano: u64::try_from(record.time.as_nanos()).unwrap_or(0),
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(Value::Text(told).into()),
        attributes: attributes(record, decision),
        trace_id: trace.map(|trace| trace.trace_id.to_vec()).unwrap_or_default(),
        span_id: trace.map(|trace| trace.span_id.to_vec()).unwrap_or_default(),
        event_name: EVENT.to_owned(),
    }
}

fn attributes(record: &StoredRecord, decision: &DecisionBody) -> Vec<KeyValue> {
    let facts = decision.facts.as_ref();
    let request = facts.and_then(|facts| facts.request());
    let rpc = facts.and_then(|facts| facts.rpc());
    let is_left_out = record.incomplete().any(|field| field == "connection.source_ip");
    let source = facts.filter(|_| !is_left_out).map(|facts| facts.connection().source_ip.to_string());
    let would = decision.would.as_ref();
    let id = record.id.to_string();
    let mode = match decision.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    };
    let texts = [
        ("event.name", Some(EVENT)),
        ("portcullis.decision_id", Some(id.as_str())),
        ("portcullis.effect", Some(decision.effect.as_str())),
        ("portcullis.reason", Some(decision.reason.as_str())),
        ("portcullis.detail", decision.detail.as_deref()),
        ("portcullis.mode", Some(mode)),
        ("portcullis.phase", Some(decision.phase.as_str())),
        ("portcullis.principal.type", Some(record.principal.kind.as_str())),
        ("portcullis.principal", Some(record.principal.id.as_str())),
        ("portcullis.action", Some(decision.action.as_str())),
        ("portcullis.resource.type", Some(decision.resource.kind.as_str())),
        ("portcullis.resource", Some(decision.resource.id.as_str())),
        ("portcullis.service", decision.service.as_deref()),
        ("portcullis.namespace", decision.namespace.as_deref()),
        ("portcullis.caller_namespace", decision.caller_namespace.as_deref()),
        ("portcullis.would.effect", would.map(|would| would.effect.as_str())),
        ("portcullis.would.reason", would.map(|would| would.reason.as_str())),
        ("portcullis.enforcer", Some(record.stream.enforcer.as_str())),
        ("portcullis.instance", Some(record.stream.instance.as_str())),
        ("portcullis.listener", facts.map(|facts| &*facts.connection().listener)),
        ("http.request.method", request.as_ref().map(|request| request.method)),
        ("url.path", request.as_ref().map(|request| request.path)),
        ("server.address", request.as_ref().map(|request| request.host)),
        ("client.address", source.as_deref()),
        ("rpc.system", rpc.map(|_| "grpc")),
        ("rpc.service", rpc.map(|(service, _)| service)),
        ("rpc.method", rpc.map(|(_, method)| method)),
    ];
    // A field that the site leaves out of records is read back empty.
    let texts =
        texts.into_iter().filter_map(|(key, text)| Some((key, text.filter(|text| !text.is_empty())?)));
    let mut attributes: Vec<_> =
        texts.map(|(key, text)| attribute(key, Value::Text(text.to_owned()))).collect();
    let whole = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
    attributes.push(attribute("portcullis.index", whole(record.index)));
    if let Some(versions) = &record.versions {
        attributes.push(attribute("portcullis.policies_version", whole(versions.numbers.policies)));
    }
    let lists = [
        ("portcullis.policies", decision.determining.as_slice()),
        ("portcullis.tickets", decision.tickets.as_slice()),
    ];
    for (key, texts) in lists.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        attributes.push(attribute(key, Value::texts(texts.iter().map(String::as_str))));
    }
    attributes
}
