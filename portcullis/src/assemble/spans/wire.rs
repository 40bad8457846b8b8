//! The part of OTLP that tells spans (opentelemetry-proto 1.x, `collector/trace/v1`), field by field as numbered there.

use enforcer_proxy::{Attribute, Span as Call};
use prost::Message;

use super::super::collector::wire::{KeyValue, Resource, Scope, Value, attribute, scope};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

/// SPAN_KIND_SERVER.
const SERVER: i32 = 2;
/// STATUS_CODE_ERROR.
const ERROR: i32 = 2;

/// The body that tells these calls.
pub(super) fn request<'a>(resource: &Resource, calls: impl Iterator<Item = Call<'a>>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans: calls.map(span).collect() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource.clone()), scope_spans }];
    Request { resource_spans }.encode_to_vec()
}

fn span(call: Call<'_>) -> Span {
    let began = u64::try_from(call.began.as_nanos()).unwrap_or(0);
    let took = u64::try_from(call.took.as_nanos()).unwrap_or(0);
    let attributes = call.attributes.into_iter().map(|(key, value)| {
        let value = match value {
            Attribute::Text(text) => Value::Text(text.into_owned()),
            Attribute::Number(number) => Value::Number(number),
        };
        attribute(key, value)
    });
    Span {
        trace_id: call.ids.trace.to_vec(),
        span_id: call.ids.span.to_vec(),
        parent_span_id: call.ids.parent.map(Vec::from).unwrap_or_default(),
        name: call.name,
        kind: SERVER,
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(took),
        attributes: attributes.collect(),
        status: call.failed.map(|message| Status { message: message.to_owned(), code: ERROR }),
    }
}
