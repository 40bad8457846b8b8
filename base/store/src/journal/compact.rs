//! Compaction: a snapshot of the closed segments, made from the journal itself and never from the index, on a thread beside
//! the writer. Then what two good snapshots made needless goes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use base_ports::Disk;

use super::files::{self, Files};
use super::snapshot;
use super::walk::{Base, Tail, walk};
use crate::index::{Index, MapIndex, Position};
use crate::overlay::Overlay;
use crate::{Revision, StoreError};

/// At most one compaction at a time.
#[derive(Debug)]
pub(super) struct Compaction {
    running: Option<JoinHandle<()>>,
    smallest: u64,
    /// Size of the newest snapshot, bytes.
    snapshot: Arc<AtomicU64>,
}

impl Compaction {
    pub(super) fn new(smallest: u64) -> Self {
        Self { running: None, smallest, snapshot: Arc::default() }
    }

    /// Length of a segment that is worth a snapshot: what is written for snapshots stays below what is written anyway.
    pub(super) fn roll(&self) -> u64 {
        self.smallest.max(self.snapshot.load(Ordering::Relaxed))
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Starts one for everything up to `head`, where a segment has just been closed.
    pub(super) fn start(&mut self, disk: &Arc<dyn Disk>, dir: &Path, head: Position) {
        self.finish();
        let (disk, dir, size) = (Arc::clone(disk), dir.to_owned(), Arc::clone(&self.snapshot));
        let work = move || match compact(&disk, &dir, head) {
            Ok(bytes) => size.store(bytes, Ordering::Relaxed),
            Err(error) => {
                tracing::error!(event = "snapshot_failed", error = %error, "no state snapshot was made; the journal goes on");
            }
        };
        match std::thread::Builder::new().name("journal-compact".to_owned()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                tracing::error!(event = "snapshot_failed", error = %error, "no thread for a state snapshot")
            }
        }
    }

    /// Waits for one that runs.
    pub(super) fn finish(&mut self) {
        if self.running.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(event = "snapshot_failed", "the thread for a state snapshot panicked");
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Writes the state at `head`, verified on the way, and removes what is needless then. Gives the snapshot's size.
fn compact(disk: &Arc<dyn Disk>, dir: &Path, head: Position) -> Result<u64, StoreError> {
    let files = Files::list(disk, dir)?;
    let base = Base::newest(disk, &files)?;
    let closed = |first: &Revision| *first > base.position.0 && *first <= head.0;
    let segments: Vec<_> = files.segments.iter().filter(|(first, _)| closed(first)).cloned().collect();
    let index = MapIndex::default();
    let entries = base.entries.into_iter().map(|entry| (entry.key.clone(), Some(entry)));
    index.apply(&entries.collect(), base.position)?;
    let end = walk(disk, &segments, base.position, Tail::MustBeWhole, &mut |record, position| {
        let mut overlay = Overlay::new(&index);
        for (revision, changes) in record.commits() {
            overlay.commit(changes, revision)?;
        }
        index.apply(&overlay.into_changed(), position)
    })?;
    if end.is_none_or(|end| end.head != head) {
        return Err(StoreError::Index("the closed segments do not end where they were closed".to_owned()));
    }
    let bytes = snapshot::encode(&index.range(b"", None, usize::MAX)?, head);
    let path = files::snapshot(dir, head.0);
    disk.write_atomic(&path, &bytes, 0o600).map_err(|error| StoreError::io(path, error))?;
    prune(disk, dir)?;
    Ok(super::size(bytes.len()))
}

/// Removes what lies before the older of the two newest snapshots, when both read back well.
fn prune(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), StoreError> {
    let files = Files::list(disk, dir)?;
    let [older @ .., (first, one), (second, two)] = files.snapshots.as_slice() else { return Ok(()) };
    if Base::read(disk, *first, one)?.is_none() || Base::read(disk, *second, two)?.is_none() {
        tracing::error!(event = "snapshot_damaged", "a state snapshot is damaged; older segments are kept");
        return Ok(());
    }
    let segments = files.segments.iter().take_while(|(begins, _)| begins <= first);
    for (_, path) in segments.chain(older) {
        disk.remove(path).map_err(|error| StoreError::io(path, error))?;
    }
    Ok(())
}
