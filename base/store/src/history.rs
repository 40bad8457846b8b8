//! The newest changes, for watches that begin a little in the past, and the channel for those that follow.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::Revision;
use crate::watch::{Change, Event, Watch};

/// Batches kept for late watches, and batches a watch may lag behind before it must resync.
const KEPT: usize = 1_024;

#[derive(Debug)]
pub(crate) struct History {
    batches: VecDeque<Arc<Vec<Change>>>,
    /// Changes up to here are no longer kept.
    forgotten: Revision,
    publish: broadcast::Sender<Arc<Vec<Change>>>,
}

impl History {
    /// A history that begins after `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        Self { batches: VecDeque::new(), forgotten: revision, publish: broadcast::channel(KEPT).0 }
    }

    pub(crate) fn push(&mut self, batch: Vec<Change>) {
        if batch.is_empty() {
            return;
        }
        let batch = Arc::new(batch);
        if self.batches.len() >= KEPT
            && let Some(oldest) = self.batches.pop_front()
            && let Some(last) = oldest.last()
        {
            self.forgotten = last.revision;
        }
        self.batches.push_back(Arc::clone(&batch));
        // Nobody watching is no fault.
        drop(self.publish.send(batch));
    }

    pub(crate) fn watch(&self, prefix: &[u8], from: Revision) -> Watch {
        let mut watch = Watch {
            prefix: prefix.to_vec(),
            seen: from,
            ready: VecDeque::new(),
            changes: self.publish.subscribe(),
        };
        if from < self.forgotten {
            watch.ready.push_back(Event::Resync);
        }
        for batch in &self.batches {
            watch.take(batch);
        }
        watch
    }
}
