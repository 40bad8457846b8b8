//! One registry for the process. Families are named where they are counted; a handle is resolved once and kept (MT-01).
//!
//! A counter or histogram handle is a shard of its own: two workers never write the same cache line, and a scrape adds
//! the shards up. Refuses to grow: a family has at most 10,000 series, what comes later is counted as `other` (OB1).

mod cells;
mod read;
mod scrape;

use cells::Cell;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

pub use cells::{Counter, Gauge, Histogram};
pub use read::{FamilyRead, Read};

/// Series of one family.
const MAX_SERIES: usize = 10_000;
const OTHER: &str = "other";
const OVERFLOW: &str = "portcullis_metrics_overflow";

/// The registry.
#[derive(Debug, Default)]
pub struct Metrics {
    families: Mutex<BTreeMap<&'static str, AnyFamily>>,
}

/// One metric with several label sets. Clones share it.
#[derive(Debug)]
pub struct Family<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    series: Mutex<Series<T>>,
    /// Counts label sets beyond the cap; none for the family that counts them.
    overflow: Option<Family<Counter>>,
}

/// The shards of each series by its label values.
type Series<T> = BTreeMap<Box<[String]>, Vec<T>>;

#[derive(Debug, Clone)]
enum AnyFamily {
    Counter(Family<Counter>),
    Gauge(Family<Gauge>),
    Histogram(Family<Histogram>),
}

/// What a family counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// A family as the reference lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyInfo {
    /// Its name, without the `_total` of counters.
    pub name: &'static str,
    /// Its meaning.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts in.
    pub kind: Kind,
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counters named `name`; the scrape adds `_total`. The same name gives the same family.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        self.family(name.trim_end_matches("_total"), help, labels)
    }

    /// Gauges named `name`.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Gauge> {
        self.family(name, help, labels)
    }

    /// Histograms of durations, named with the suffix `_seconds`.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Histogram> {
        self.family(name, help, labels)
    }

    /// Every family that was named so far, in order.
    #[must_use]
    pub fn families(&self) -> Vec<FamilyInfo> {
        self.families.lock().values().map(AnyFamily::info).collect()
    }

    /// Content type and text of a scrape: OpenMetrics 1.0 for whom asks for it, else Prometheus text 0.0.4.
    #[must_use]
    pub fn render(&self, accept: &str) -> (&'static str, String) {
        scrape::render(self.families.lock().values().cloned().collect(), scrape::Form::of(accept))
    }

    /// A name that two callers use for different things is a defect of ours: the second one counts unseen.
    fn family<T: Cell>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<T> {
        let mut families = self.families.lock();
        if let Some(known) = families.get(name) {
            return match T::of(known) {
                Some(family) if family.0.labels == labels => family.clone(),
                _ => {
                    tracing::error!(event = "metric_conflict", name, ?labels, "a metric is defined twice");
                    Family::new(name, help, labels, None)
                }
            };
        }
        let overflow = families.entry(OVERFLOW).or_insert_with(|| {
            let help = "Label sets beyond the cap of a family, counted as other.";
            AnyFamily::Counter(Family::new(OVERFLOW, help, &["family"], None))
        });
        let overflow = Counter::of(overflow).cloned();
        let family = Family::new(name, help, labels, overflow);
        families.insert(name, T::any(family.clone()));
        family
    }
}

impl AnyFamily {
    fn info(&self) -> FamilyInfo {
        match self {
            AnyFamily::Counter(family) => family.info(Kind::Counter),
            AnyFamily::Gauge(family) => family.info(Kind::Gauge),
            AnyFamily::Histogram(family) => family.info(Kind::Histogram),
        }
    }
}

impl<T> Clone for Family<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Family<Counter> {
    /// A counter of the series with these label values, in the order of the labels. Keep it: this takes a lock.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Counter {
        self.0.attach(values)
    }
}

impl Family<Gauge> {
    /// The gauge of the series with these label values, in the order of the labels. Keep it: this takes a lock.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Gauge {
        self.0.attach(values)
    }
}

impl Family<Histogram> {
    /// A histogram of the series with these label values, in the order of the labels. Keep it: this takes a lock.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Histogram {
        self.0.attach(values)
    }
}

impl<T: Cell> Inner<T> {
    fn attach(&self, values: &[&str]) -> T {
        let given = values.iter().copied().chain(std::iter::repeat(""));
        let mut key: Box<[String]> = given.take(self.labels.len()).map(str::to_owned).collect();
        let mut series = self.series.lock();
        if series.len() >= MAX_SERIES && !series.contains_key(&key) {
            key.fill(OTHER.to_owned());
            if let Some(overflow) = &self.overflow {
                overflow.with(&[self.name]).inc();
            }
        }
        T::attach(series.entry(key).or_default())
    }
}

impl<T> Family<T> {
    fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        overflow: Option<Family<Counter>>,
    ) -> Self {
        Self(Arc::new(Inner { name, help, labels, series: Mutex::default(), overflow }))
    }

    fn info(&self, kind: Kind) -> FamilyInfo {
        let Inner { name, help, labels, .. } = &*self.0;
        FamilyInfo { name, help, labels, kind }
    }
}

#[cfg(test)]
mod tests;
