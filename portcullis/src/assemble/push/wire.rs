//! The part of OTLP that tells metrics (opentelemetry-proto 1.x, `metrics/v1`), field by field as numbered there.

use base_ports::UnixTime;
use base_telemetry::{FamilyRead, Histogram as Bounds, Read};
use prost::Message;

use crate::assemble::collector::wire::{KeyValue, Resource, Scope, Value, attribute, scope};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<Number>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<Number>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(fixed64, tag = "2")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    time_unix_nano: u64,
    #[prost(sfixed64, tag = "6")]
    as_int: i64,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<Buckets>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Buckets {
    #[prost(fixed64, tag = "2")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    explicit_bounds: Vec<f64>,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

/// AGGREGATION_TEMPORALITY_CUMULATIVE.
const CUMULATIVE: i32 = 2;

/// The body that tells these families, counted from the first time to the second.
pub(super) fn request(
    resource: &Resource,
    families: Vec<FamilyRead>,
    (began, now): (UnixTime, UnixTime),
) -> Vec<u8> {
    let times = (nanos(began), nanos(now));
    let metrics = families.into_iter().map(|family| metric(family, times)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics }];
    let resource_metrics = vec![ResourceMetrics { resource: Some(resource.clone()), scope_metrics }];
    Request { resource_metrics }.encode_to_vec()
}

fn nanos(time: UnixTime) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0)
}

/// A family has one kind of series, so one list is filled.
fn metric(family: FamilyRead, (began, now): (u64, u64)) -> Metric {
    let FamilyRead { info, series } = family;
    let (mut numbers, mut buckets, mut grows) = (Vec::new(), Vec::new(), false);
    for (labels, read) in series {
        let labels = info.labels.iter().zip(labels);
        let attributes = labels.map(|(name, value)| attribute(name, Value::Text(value))).collect();
        let (as_int, from) = match read {
            Read::Counter(count) => {
                grows = true;
                (i64::try_from(count).unwrap_or(i64::MAX), began)
            }
            Read::Gauge(value) => (value, 0),
            Read::Histogram { counts, sum } => {
                buckets.push(Buckets {
                    start_time_unix_nano: began,
                    time_unix_nano: now,
                    count: counts.iter().fold(0, |sum, count| sum.wrapping_add(*count)),
                    sum: Some(sum.as_secs_f64()),
                    bucket_counts: counts,
                    explicit_bounds: Bounds::bounds().map(|bound| bound.as_secs_f64()).collect(),
                    attributes,
                });
                continue;
            }
        };
        numbers.push(Number { start_time_unix_nano: from, time_unix_nano: now, as_int, attributes });
    }
    let aggregation_temporality = CUMULATIVE;
    let data = if !buckets.is_empty() {
        Data::Histogram(Histogram { data_points: buckets, aggregation_temporality })
    } else if grows {
        Data::Sum(Sum { data_points: numbers, aggregation_temporality, is_monotonic: true })
    } else {
        Data::Gauge(Gauge { data_points: numbers })
    };
    let unit = [("_seconds", "s"), ("_bytes", "By")].iter().find(|(suffix, _)| info.name.ends_with(suffix));
    Metric {
        name: info.name.to_owned(),
        description: info.help.to_owned(),
        unit: unit.map_or("1", |(_, unit)| unit).to_owned(),
        data: Some(data),
    }
}
