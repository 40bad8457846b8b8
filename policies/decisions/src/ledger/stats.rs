//! What a ledger tells about itself: counters and sizes, for metrics and readiness.

use std::{sync::atomic::Ordering, time::Duration};

use super::Ledger;

/// Counters since the start, and sizes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Records written.
    pub records: u64,
    /// Writes that carried them.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Records lost, all of them in gap records.
    pub lost: u64,
    /// Writes that failed.
    pub write_failures: u64,
    /// Syncs.
    pub syncs: u64,
    /// Syncs that failed.
    pub sync_failures: u64,
    /// Index of the oldest record kept.
    pub first_index: u64,
    /// Index of the next record.
    pub next_index: u64,
    /// Bytes of all files.
    pub stored_bytes: u64,
    /// Index of the first record that stands in no segment yet.
    pub archived_index: u64,
    /// Segments.
    pub segments: usize,
    /// Ranges found damaged since the start (PC6021).
    pub damaged: usize,
    /// Records that could not be read and were set aside, as long as what stands in their place is kept.
    pub quarantined: u64,
    /// Records that the last signed checkpoint covers.
    pub tree_size: u64,
    /// How long records wait for a checkpoint.
    pub unsigned_for: Duration,
    /// Closed segments that the ledger looked at itself since the start.
    pub self_checked: u64,
    /// Whether the last move of records into segments worked.
    pub is_archiving: bool,
    /// Whether held records are larger than the ledger may be (PC5020).
    pub is_over_held: bool,
    /// Whether the last write and the last sync worked: what readiness asks.
    pub is_writable: bool,
}

impl Ledger {
    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (counts, tree) = (&self.0.writer.counts, self.0.tree.as_ref());
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            records: read(&counts.records),
            writes: read(&counts.writes),
            bytes: read(&counts.bytes),
            lost: read(&counts.lost),
            write_failures: read(&counts.write_failures),
            syncs: self.0.keeper.syncs(),
            sync_failures: self.0.keeper.sync_failures(),
            first_index: self.0.shelf.first_index(),
            next_index: self.0.shelf.next_index(),
            stored_bytes: self.0.shelf.bytes(),
            archived_index: self.0.shelf.archived(),
            segments: self.0.shelf.segments().len(),
            damaged: self.0.shelf.damaged(),
            quarantined: self.0.shelf.quarantine().records(),
            tree_size: tree.map_or(0, |tree| tree.covered().saturating_sub(tree.base)),
            unsigned_for: tree.map_or(Duration::ZERO, |tree| tree.unsigned_for(self.0.clock.mono())),
            self_checked: self.0.check.checked(),
            is_archiving: !self.0.archive.is_failing(),
            is_over_held: self.0.holds.is_over(),
            is_writable: !counts.is_failing.load(Ordering::Relaxed) && !self.0.keeper.is_failing(),
        }
    }
}
