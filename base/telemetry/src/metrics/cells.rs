//! What handles count in: relaxed atomics, each on cache lines of its own.

use super::{AnyFamily, Family};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Bounds of duration buckets, in nanoseconds: 100 us to 10 s.
pub(super) const BOUNDS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Two cache lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A number that only grows. A clone writes the same shard.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<Line<AtomicU64>>);

/// A number that goes both ways. All handles of a series share it.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Line<AtomicI64>>);

/// How long things took. A clone writes the same shard.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Line<Buckets>>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.0.fetch_add(count, Relaxed);
    }

    /// What this shard counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.0.load(Relaxed)
    }
}

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.0.store(value, Relaxed);
    }

    /// Adds to it; negative to take away.
    pub fn add(&self, by: i64) {
        self.0.0.fetch_add(by, Relaxed);
    }

    /// What it holds.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.0.load(Relaxed)
    }
}

impl Histogram {
    /// Upper bounds of the buckets of all histograms, each of which its bucket includes.
    pub fn bounds() -> impl Iterator<Item = Duration> {
        BOUNDS.into_iter().map(Duration::from_nanos)
    }

    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let buckets = &self.0.0;
        if let Some(count) = buckets.counts.get(BOUNDS.partition_point(|bound| *bound < nanos)) {
            count.fetch_add(1, Relaxed);
        }
        buckets.nanos.fetch_add(nanos, Relaxed);
    }

    /// Counts by bucket, the last one without bound, and the sum in nanoseconds, over all shards.
    pub(super) fn sum(shards: &[Histogram]) -> ([u64; BOUNDS.len() + 1], u64) {
        let mut sum = ([0_u64; BOUNDS.len() + 1], 0_u64);
        for Histogram(line) in shards {
            for (all, count) in sum.0.iter_mut().zip(&line.0.counts) {
                *all = all.wrapping_add(count.load(Relaxed));
            }
            sum.1 = sum.1.wrapping_add(line.0.nanos.load(Relaxed));
        }
        sum
    }
}

/// What a family does with each kind of cell.
pub(super) trait Cell: Sized + Clone + Default {
    /// A handle on the series that these shards make up.
    fn attach(shards: &mut Vec<Self>) -> Self;
    fn of(any: &AnyFamily) -> Option<&Family<Self>>;
    fn any(family: Family<Self>) -> AnyFamily;
}

/// A shard that nobody holds any longer goes on where it stopped, so that shards are as many as holders.
fn shard<T: Clone + Default>(shards: &mut Vec<T>, is_free: impl Fn(&T) -> bool) -> T {
    if let Some(free) = shards.iter().find(|shard| is_free(shard)) {
        return free.clone();
    }
    let new = T::default();
    shards.push(new.clone());
    new
}

impl Cell for Counter {
    fn attach(shards: &mut Vec<Self>) -> Self {
        shard(shards, |shard| Arc::strong_count(&shard.0) == 1)
    }

    fn of(any: &AnyFamily) -> Option<&Family<Self>> {
        if let AnyFamily::Counter(family) = any { Some(family) } else { None }
    }

    fn any(family: Family<Self>) -> AnyFamily {
        AnyFamily::Counter(family)
    }
}

impl Cell for Gauge {
    fn attach(shards: &mut Vec<Self>) -> Self {
        shard(shards, |_| true)
    }

    fn of(any: &AnyFamily) -> Option<&Family<Self>> {
        if let AnyFamily::Gauge(family) = any { Some(family) } else { None }
    }

    fn any(family: Family<Self>) -> AnyFamily {
        AnyFamily::Gauge(family)
    }
}

impl Cell for Histogram {
    fn attach(shards: &mut Vec<Self>) -> Self {
        shard(shards, |shard| Arc::strong_count(&shard.0) == 1)
    }

    fn of(any: &AnyFamily) -> Option<&Family<Self>> {
        if let AnyFamily::Histogram(family) = any { Some(family) } else { None }
    }

    fn any(family: Family<Self>) -> AnyFamily {
        AnyFamily::Histogram(family)
    }
}
