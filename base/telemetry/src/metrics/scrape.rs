//! Families as text, in the form a scraper asks for. Numbers and escapes are prometheus-client's.

use super::{
    AnyFamily, Counter, Family, Gauge, Histogram,
    cells::{BOUNDS, Cell},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use std::{borrow::Cow, fmt, time::Duration};

/// The form of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus text 0.0.4: counters carry `_total` in their name, and nothing marks the end.
    Classic,
}

impl Form {
    /// By the `Accept` header: OpenMetrics where it is named, in a version we speak, and wanted no less than text.
    pub(super) fn of(accept: &str) -> Form {
        let (mut open, mut classic) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut is_spoken) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    name if name.eq_ignore_ascii_case("q") => quality = value.parse().unwrap_or(0.0),
                    name if name.eq_ignore_ascii_case("version") => is_spoken = value == "1.0.0",
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text") && is_spoken {
                open = open.max(quality);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                classic = classic.max(quality);
            }
        }
        if open > 0.0 && open >= classic { Form::Open } else { Form::Classic }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Form::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub(super) fn render(families: Vec<AnyFamily>, form: Form) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { families, form }));
    let mut out = String::new();
    let end = |out: &mut String| if form == Form::Open { text::encode_eof(out) } else { Ok(()) };
    if text::encode_registry(&mut out, &registry).and_then(|()| end(&mut out)).is_err() {
        tracing::error!(event = "metrics_not_encoded", "metrics could not be written");
    }
    (form.content_type(), out)
}

#[derive(Debug)]
struct Scrape {
    families: Vec<AnyFamily>,
    form: Form,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.families.iter().try_for_each(|family| match family {
            AnyFamily::Counter(family) => write(family, self.form, &mut encoder),
            AnyFamily::Gauge(family) => write(family, self.form, &mut encoder),
            AnyFamily::Histogram(family) => write(family, self.form, &mut encoder),
        })
    }
}

fn write<T: Samples>(family: &Family<T>, form: Form, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let inner = &*family.0;
    let series = inner.series.lock();
    if series.is_empty() {
        return Ok(());
    }
    let name = T::name(inner.name, form);
    let help = inner.help.trim_end_matches('.');
    let mut metric = encoder.encode_descriptor(&name, help, None, T::TYPE)?;
    for (values, shards) in series.iter() {
        let labels: Vec<(&str, &str)> =
            inner.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
        if labels.is_empty() {
            T::write(shards, form, &mut metric)?;
        } else {
            T::write(shards, form, &mut metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// How the shards of one series are written.
trait Samples: Cell {
    const TYPE: MetricType;

    fn name(name: &'static str, _form: Form) -> Cow<'static, str> {
        name.into()
    }

    fn write(shards: &[Self], form: Form, encoder: &mut MetricEncoder<'_>) -> fmt::Result;
}

impl Samples for Counter {
    const TYPE: MetricType = MetricType::Counter;

    fn name(name: &'static str, form: Form) -> Cow<'static, str> {
        match form {
            Form::Open => name.into(),
            Form::Classic => format!("{name}_total").into(),
        }
    }

    fn write(shards: &[Self], form: Form, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let sum = shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.get()));
        match form {
            Form::Open => encoder.encode_counter::<NoLabelSet, _, u64>(&sum, None),
            // The name has its suffix already, and a gauge is written without one.
            Form::Classic => encoder.encode_gauge(&sum),
        }
    }
}

impl Samples for Gauge {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(shards: &[Self], _form: Form, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&shards.first().map_or(0, Gauge::get))
    }
}

impl Samples for Histogram {
    const TYPE: MetricType = MetricType::Histogram;

    fn write(shards: &[Self], _form: Form, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let (counts, nanos) = Histogram::sum(shards);
        let seconds = |nanos| Duration::from_nanos(nanos).as_secs_f64();
        // prometheus-client adds the buckets up itself.
        let bounds = BOUNDS.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = counts.iter().fold(0_u64, |sum, count| sum.wrapping_add(*count));
        encoder.encode_histogram::<NoLabelSet>(seconds(nanos), count, &buckets, None)
    }
}
