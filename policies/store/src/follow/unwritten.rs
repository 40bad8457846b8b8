//! Snapshots in force that have no file yet. A file is what a restart begins with and what explains retired decisions;
//! no call waits for it, so it is written once the snapshot has settled: where many enforcers share a machine, all of
//! them enforce before any of them writes. Who ends before that begins with the snapshot before, and is sent it again.

use super::{Follower, blocking, held::Held};
use parking_lot::Mutex;
use std::{collections::VecDeque, io, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// So long a snapshot is in force before its file is written.
const SETTLE: Duration = Duration::from_millis(250);
/// With so many waiting, the disk is too slow, and the next snapshot waits for it.
const MOST: usize = 16;

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    waiting: Mutex<VecDeque<Arc<Held>>>,
    came: Notify,
}

impl Unwritten {
    /// The snapshot of that number.
    pub(super) fn get(&self, snapshot: u64) -> Option<Arc<Held>> {
        self.waiting.lock().iter().rev().find(|held| held.offer.position.snapshot == snapshot).cloned()
    }

    fn first(&self) -> Option<Arc<Held>> {
        self.waiting.lock().front().cloned()
    }

    fn forget(&self, written: &Arc<Held>) {
        self.waiting.lock().retain(|held| !Arc::ptr_eq(held, written));
    }
}

impl Follower {
    /// Has the file of this snapshot written soon; at once where too many wait for theirs.
    pub(super) async fn write_soon(&self, held: Arc<Held>) {
        let waiting = {
            let mut waiting = self.unwritten.waiting.lock();
            waiting.push_back(held);
            waiting.len()
        };
        if waiting > MOST {
            self.write_down().await;
        }
        self.unwritten.came.notify_one();
    }

    /// Writes the files of snapshots when they have settled, until it is dropped.
    pub(super) async fn keep_files(self: Arc<Follower>) {
        loop {
            self.unwritten.came.notified().await;
            tokio::time::sleep(SETTLE).await;
            self.write_down().await;
        }
    }

    /// Writes the files that are still to be written, as before the process ends. One that cannot be written is an alarm
    /// in the status, not a refusal.
    pub async fn write_down(&self) {
        while let Some(held) = self.unwritten.first() {
            let (shelf, writing) = (self.shelf.clone(), Arc::clone(&held));
            let written = blocking(move || Ok(shelf.put(&writing)))
                .await
                .unwrap_or_else(|cause| Err(io::Error::other(cause.to_string())));
            let alarm = written.err().map(|cause| format!("the snapshot file cannot be written: {cause}"));
            if let Some(alarm) = &alarm {
                tracing::error!(
                    event = "snapshot_file_unwritten",
                    code = "PC2028",
                    "{alarm}; enforced from memory"
                );
            }
            self.state.lock().alarm = alarm;
            self.unwritten.forget(&held);
        }
    }
}
