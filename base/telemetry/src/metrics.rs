//! One registry for the process. Families are named where they are counted; a handle is resolved once and kept.
//!
//! Every handle is a shard of its own: two workers never write the same cache line, and a scrape adds the shards up.

mod encode;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// Series of one family; what comes later is counted under the label value `other`.
const MAX_SERIES: usize = 10_000;

/// Bounds of duration buckets, seconds.
const BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The registry.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Counter(Family<Counter>),
    Gauge(Family<Gauge>),
    Histogram(Family<Histogram>),
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counters named `name`, without the `_total` that the scrape adds. The same name gives the same family.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        let mut families = self.families.lock();
        if let Some(Kind::Counter(family)) = families.get(name) {
            return family.clone();
        }
        let family = Family::new(labels);
        self.registry.lock().register(name, help.trim_end_matches('.'), family.clone());
        families.insert(name, Kind::Counter(family.clone()));
        family
    }

    /// Gauges named `name`.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Gauge> {
        let mut families = self.families.lock();
        if let Some(Kind::Gauge(family)) = families.get(name) {
            return family.clone();
        }
        let family = Family::new(labels);
        self.registry.lock().register(name, help.trim_end_matches('.'), family.clone());
        families.insert(name, Kind::Gauge(family.clone()));
        family
    }

    /// Histograms of durations, named with the suffix `_seconds`.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Histogram> {
        let mut families = self.families.lock();
        if let Some(Kind::Histogram(family)) = families.get(name) {
            return family.clone();
        }
        let family = Family::new(labels);
        self.registry.lock().register(name, help.trim_end_matches('.'), family.clone());
        families.insert(name, Kind::Histogram(family.clone()));
        family
    }

    /// Content type and text of a scrape: OpenMetrics 1.0 for whom accepts it, else Prometheus text 0.0.4.
    #[must_use]
    pub fn render(&self, accept: &str) -> (&'static str, String) {
        let mut open = String::new();
        if text::encode(&mut open, &self.registry.lock()).is_err() {
            tracing::error!(event = "metrics_not_encoded", "metrics could not be written");
        }
        if accept.contains("application/openmetrics-text") {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", open)
        } else {
            ("text/plain; version=0.0.4; charset=utf-8", encode::classic(&open))
        }
    }
}

/// One metric with several label sets.
#[derive(Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    series: Arc<Mutex<BTreeMap<Vec<String>, Vec<T>>>>,
}

impl<T> Clone for Family<T> {
    fn clone(&self) -> Self {
        Self { labels: self.labels, series: Arc::clone(&self.series) }
    }
}

impl<T: Clone + Default> Family<T> {
    fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, series: Arc::default() }
    }

    /// A new shard of the series with these label values, in the order of the labels. Keep it: never per request.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> T {
        let mut values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        values.resize(self.labels.len(), String::new());
        let mut series = self.series.lock();
        if series.len() >= MAX_SERIES && !series.contains_key(&values) {
            values.fill("other".to_owned());
        }
        let shard = T::default();
        series.entry(values).or_default().push(shard.clone());
        shard
    }
}

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What this shard counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes both ways; the shards of a series are added up.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets this shard.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to this shard; negative to take away.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// What this shard holds.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.0.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scraped() -> Metrics {
        let metrics = Metrics::new();
        let calls = metrics.counter("portcullis_requests", "Calls.", &["route", "code"]);
        calls.with(&["a", "200"]).add(2);
        calls.with(&["a", "200"]).inc();
        calls.with(&["b\"\n", "500"]).inc();
        metrics.gauge("portcullis_open", "Open.", &[]).with(&[]).set(7);
        metrics
            .histogram("portcullis_took_seconds", "Took.", &[])
            .with(&[])
            .observe(Duration::from_micros(300));
        metrics
    }

    #[test]
    fn shards_of_a_series_are_added_up() {
        let (kind, text) = scraped().render("application/openmetrics-text; version=1.0.0");
        assert!(kind.starts_with("application/openmetrics-text"));
        assert!(text.contains("portcullis_requests_total{route=\"a\",code=\"200\"} 3"), "{text}");
        assert!(text.contains("portcullis_open 7"), "{text}");
        assert!(text.contains("portcullis_took_seconds_bucket{le=\"0.0005\"} 1"), "{text}");
        assert!(text.contains("portcullis_took_seconds_count 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_scraper_of_the_old_form_gets_the_old_form() {
        let (kind, text) = scraped().render("text/plain");
        assert!(kind.starts_with("text/plain; version=0.0.4"));
        assert!(text.contains("# TYPE portcullis_requests_total counter"), "{text}");
        assert!(!text.contains("# EOF"));
        assert!(text.contains("route=\"b\\\"\\n\""), "label values are escaped: {text}");
    }

    #[test]
    fn the_same_name_gives_the_same_family() {
        let metrics = Metrics::new();
        metrics.counter("a", "A.", &[]).with(&[]).inc();
        metrics.counter("a", "A.", &[]).with(&[]).inc();
        let text = metrics.render("").1;
        assert!(text.contains("a_total 2"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1);
    }

    #[test]
    fn ob1_series_beyond_the_cap_are_counted_as_other() {
        let metrics = Metrics::new();
        let family = metrics.counter("a", "A.", &["x"]);
        for n in 0..MAX_SERIES + 5 {
            family.with(&[&n.to_string()]).inc();
        }
        assert!(metrics.render("").1.contains("a_total{x=\"other\"} 5"));
    }
}
