//! What the ledger counts for metrics (chapter 16). The writer counts records and gaps as they are written, the keeper
//! times its syncs, the service counts reads. `portcullis` lends the registry; without it nothing is counted.

use std::{collections::HashMap, time::Duration};

use base_telemetry::{Counter, Family, Histogram, Metrics};
use parking_lot::Mutex;

use crate::leaf::{Gap, Kind};

/// Handles into a registry.
#[derive(Debug)]
pub struct Meter {
    records: Kept<1>,
    commits: Histogram,
    gaps: Kept<2>,
    dropped: Kept<1>,
    reads: Kept<2>,
}

impl Meter {
    /// Names the families of the ledger.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Meter {
        let records = "Records written by the ledger, those of its own included";
        let commits = "How long the syncs of the ledger took";
        let gaps = "Gaps that the ledger declared, and whether their count is exact";
        let dropped = "Records lost, each covered by an exact gap";
        let reads = "Reads of the ledger: ok, partial or failed";
        let counter = |name, help, labels| metrics.counter(name, help, labels);
        Meter {
            records: Kept::new(counter("portcullis_ledger_records", records, &["kind"])),
            commits: metrics.histogram("portcullis_ledger_commit_duration_seconds", commits, &[]).with(&[]),
            gaps: Kept::new(counter("portcullis_ledger_gaps", gaps, &["cause", "exact"])),
            dropped: Kept::new(counter("portcullis_decision_log_dropped", dropped, &["cause"])),
            reads: Kept::new(counter("portcullis_decision_reads", reads, &["call", "result"])),
        }
    }

    /// That many records of a kind were written.
    pub(crate) fn wrote(&self, kind: Kind, count: u64) {
        self.records.add([kind.as_str()], count);
    }

    /// A gap record was written.
    pub(crate) fn declared(&self, gap: &Gap) {
        let cause = gap.cause.as_str();
        self.gaps.add([cause, if gap.exact { "true" } else { "false" }], 1);
        // What a crash left open may never have been a record.
        if gap.exact {
            self.dropped.add([cause], gap.count);
        }
    }

    /// What was written is synced.
    pub(crate) fn synced(&self, took: Duration) {
        self.commits.observe(took);
    }

    /// Somebody read, or was refused.
    pub(crate) fn read(&self, call: &'static str, result: &'static str) {
        self.reads.add([call, result], 1);
    }
}

/// The counters of a family, each resolved once: a handle is a shard of its own.
#[derive(Debug)]
struct Kept<const N: usize> {
    family: Family<Counter>,
    counters: Mutex<HashMap<[&'static str; N], Counter>>,
}

impl<const N: usize> Kept<N> {
    fn new(family: Family<Counter>) -> Self {
        Self { family, counters: Mutex::default() }
    }

    fn add(&self, labels: [&'static str; N], count: u64) {
        self.counters.lock().entry(labels).or_insert_with(|| self.family.with(&labels)).add(count);
    }
}
