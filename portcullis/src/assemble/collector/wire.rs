//! What all of OTLP is told with (opentelemetry-proto 1.x, `common` and `resource`), field by field as numbered there.

use prost::Message;

/// Attributes of the process.
#[derive(Clone, PartialEq, Message)]
pub(in crate::assemble) struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// What tells.
#[derive(Clone, PartialEq, Message)]
pub(in crate::assemble) struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::assemble) struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::assemble) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::assemble) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(message, tag = "5")]
    List(List),
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::assemble) struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

impl Value {
    pub(in crate::assemble) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Value {
        let values = texts.into_iter().map(|text| AnyValue::from(Value::Text(text.to_owned())));
        Value::List(List { values: values.collect() })
    }
}

impl From<Value> for AnyValue {
    fn from(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }
}

/// The process, by these attributes.
pub(in crate::assemble) fn resource(attributes: &[(String, String)]) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| attribute(key, Value::Text(value.clone())));
    Resource { attributes: attributes.collect() }
}

/// This product.
pub(in crate::assemble) fn scope() -> Scope {
    Scope { name: "portcullis".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

pub(in crate::assemble) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value.into()) }
}
