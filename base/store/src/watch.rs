//! Following changes in order, without unbounded memory: who is too slow is told to read anew.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Revision;
use crate::history::Kept;
use crate::transaction::Changes;

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

impl Change {
    /// The changes of one commit.
    pub(crate) fn all(changes: Changes, revision: Revision) -> impl Iterator<Item = Self> {
        changes.into_iter().map(move |(key, value)| Self { revision, key, value })
    }
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
    pub(crate) kept: Arc<Mutex<Kept>>,
    pub(crate) newest: watch::Receiver<Revision>,
}

impl Watch {
    /// The next event; `None` when the store is closed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            // INVARIANT: marked as seen before reading, so that a commit in between wakes us again.
            self.newest.mark_unchanged();
            while self.ready.is_empty() && self.read() {}
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.newest.changed().await.ok()?;
        }
    }

    /// Reads on; whether there is more.
    fn read(&mut self) -> bool {
        let kept = self.kept.lock();
        let (prefix, ready) = (&self.prefix, &mut self.ready);
        let seen = kept.read(self.seen, |change| {
            if change.key.starts_with(prefix) {
                ready.push_back(Event::Change(change.clone()));
            }
        });
        self.seen = seen.unwrap_or_else(|| {
            ready.push_back(Event::Resync);
            kept.newest()
        });
        self.seen < kept.newest()
    }
}
