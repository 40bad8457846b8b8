//! Families as values, for an exporter that writes a form of its own.

use super::{AnyFamily, Counter, Family, FamilyInfo, Gauge, Histogram, Kind, Metrics, cells::Cell};
use std::time::Duration;

/// A family and its series, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyRead {
    /// What it is.
    pub info: FamilyInfo,
    /// Values of its labels, in their order, and what was counted for them.
    pub series: Vec<(Vec<String>, Read)>,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// So many since the process began.
    Counter(u64),
    /// So many now.
    Gauge(i64),
    /// Durations since the process began.
    Histogram {
        /// How many fell into each bucket of [`Histogram::bounds`], and in the last place how many beyond them.
        counts: Vec<u64>,
        /// All of them together.
        sum: Duration,
    },
}

impl Metrics {
    /// Every family that has a series, in order.
    #[must_use]
    pub fn read(&self) -> Vec<FamilyRead> {
        let families: Vec<_> = self.families.lock().values().cloned().collect();
        let read = families.iter().map(|family| match family {
            AnyFamily::Counter(family) => of(family, Kind::Counter, |shards: &[Counter]| {
                Read::Counter(shards.iter().fold(0_u64, |sum, shard| sum.wrapping_add(shard.get())))
            }),
            AnyFamily::Gauge(family) => {
                of(family, Kind::Gauge, |shards: &[Gauge]| Read::Gauge(shards.first().map_or(0, Gauge::get)))
            }
            AnyFamily::Histogram(family) => of(family, Kind::Histogram, |shards| {
                let (counts, nanos) = Histogram::sum(shards);
                Read::Histogram { counts: counts.to_vec(), sum: Duration::from_nanos(nanos) }
            }),
        });
        read.filter(|family| !family.series.is_empty()).collect()
    }
}

fn of<T: Cell>(family: &Family<T>, kind: Kind, read: impl Fn(&[T]) -> Read) -> FamilyRead {
    let series = family.0.series.lock();
    let series = series.iter().map(|(labels, shards)| (labels.to_vec(), read(shards))).collect();
    FamilyRead { info: family.info(kind), series }
}
