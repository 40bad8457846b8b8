//! Families as the encoder of prometheus-client wants them, and OpenMetrics text turned into Prometheus text 0.0.4.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{BOUNDS, Counter, Family, Gauge, Histogram};

/// How the shards of one series are written.
trait Shards: Sized {
    const TYPE: MetricType;
    fn write(shards: &[Self], encoder: MetricEncoder<'_>) -> fmt::Result;
}

impl<T: Shards + fmt::Debug> EncodeMetric for Family<T> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = self.series.lock();
        if self.labels.is_empty() {
            return series.values().next().map_or(Ok(()), |shards| T::write(shards, encoder));
        }
        for (values, shards) in series.iter() {
            let labels: Vec<(&str, &str)> =
                self.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            T::write(shards, encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        T::TYPE
    }
}

impl Shards for Counter {
    const TYPE: MetricType = MetricType::Counter;

    fn write(shards: &[Self], mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sum = shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(shard.get()));
        encoder.encode_counter::<NoLabelSet, _, u64>(&sum, None)
    }
}

impl Shards for Gauge {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(shards: &[Self], mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sum = shards.iter().fold(0i64, |sum, shard| sum.wrapping_add(shard.get()));
        encoder.encode_gauge(&sum)
    }
}

impl Shards for Histogram {
    const TYPE: MetricType = MetricType::Histogram;

    fn write(shards: &[Self], mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        let of = |at: usize| {
            let counts = shards.iter().filter_map(|shard| shard.0.counts.get(at));
            counts.fold(0u64, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
        };
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(at, bound)| (bound, of(at))).collect();
        let count = buckets.iter().fold(0u64, |sum, (_, count)| sum.wrapping_add(*count));
        let nanos =
            shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(shard.0.nanos.load(Ordering::Relaxed)));
        encoder.encode_histogram::<NoLabelSet>(
            std::time::Duration::from_nanos(nanos).as_secs_f64(),
            count,
            &buckets,
            None,
        )
    }
}

/// Prometheus text 0.0.4: counters carry `_total` in their `# HELP` and `# TYPE` too, and nothing marks the end.
pub(super) fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let comment = line
            .strip_prefix("# HELP ")
            .map(|rest| ("# HELP ", rest))
            .or_else(|| line.strip_prefix("# TYPE ").map(|rest| ("# TYPE ", rest)));
        match comment.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counters.contains(&name) => {
                out.push_str(&format!("{mark}{name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}
