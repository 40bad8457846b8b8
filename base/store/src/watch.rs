//! Following changes in order, without unbounded memory: who is too slow is told to read anew.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::Revision;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub revision: Revision,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; `None` when it was deleted.
    pub value: Option<Bytes>,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A change.
    Change(Change),
    /// Changes were missed: read the range anew and go on from here.
    Resync,
}

/// Changes below a prefix, in order.
#[derive(Debug)]
pub struct Watch {
    pub(crate) prefix: Vec<u8>,
    pub(crate) seen: Revision,
    pub(crate) ready: VecDeque<Event>,
    pub(crate) changes: Receiver<Arc<Vec<Change>>>,
}

impl Watch {
    /// The next event; `None` when the store is closed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.changes.recv().await {
                Ok(batch) => self.take(&batch),
                Err(RecvError::Lagged(_)) => self.ready.push_back(Event::Resync),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    pub(crate) fn take(&mut self, batch: &[Change]) {
        for change in batch {
            if change.revision > self.seen && change.key.starts_with(&self.prefix) {
                self.ready.push_back(Event::Change(change.clone()));
            }
        }
        if let Some(last) = batch.last() {
            self.seen = self.seen.max(last.revision);
        }
    }
}
