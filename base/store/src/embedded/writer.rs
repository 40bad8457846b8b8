//! The one writer: takes everything that waits, decides it in order, appends it, syncs once, then shows and
//! acknowledges it. Nothing is visible before it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base_ports::Clock;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::history::History;
use crate::index::{Index, Position};
use crate::journal::{Commit, Fault, Journal, seal};
use crate::watch::Change;
use crate::{Entry, Revision, StoreError, Transaction};

type Answer = oneshot::Sender<Result<Revision, StoreError>>;

/// Commits that may wait; more are refused.
const WAITING: usize = 65_536;
/// Commits that share one sync at most.
const BATCH: usize = 4_096;

/// Commits on their way to the writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    revision: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<(Transaction, Answer)>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(revision: Revision) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), revision: AtomicU64::new(revision.get()) }
    }

    pub(super) fn push(
        &self,
        transaction: Transaction,
    ) -> Result<oneshot::Receiver<Result<Revision, StoreError>>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() >= WAITING {
            return Err(StoreError::Closed);
        }
        state.waiting.push((transaction, answer));
        self.wake.notify_one();
        Ok(answered)
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire).into()
    }

    /// Everything that waits, oldest first; `None` when closed and empty.
    fn take(&self) -> Option<Vec<(Transaction, Answer)>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            self.wake.wait(&mut state);
        }
        let count = state.waiting.len().min(BATCH);
        Some(state.waiting.drain(..count).collect())
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    journal: Journal,
    index: Arc<dyn Index>,
    history: Arc<Mutex<History>>,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    stopped: bool,
}

/// What a batch has decided so far, on top of the index.
struct Batch {
    entries: BTreeMap<Vec<u8>, Option<Entry>>,
    changes: Vec<Change>,
    frames: Vec<u8>,
    head: Position,
    answers: Vec<(Answer, Revision)>,
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        index: Arc<dyn Index>,
        history: Arc<Mutex<History>>,
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { journal, index, history, queue, clock, stopped: false }
    }

    pub(super) fn run(mut self) {
        while let Some(waiting) = self.queue.take() {
            if self.stopped {
                waiting.into_iter().for_each(|(_, answer)| tell(answer, Err(StoreError::Stopped)));
                continue;
            }
            let batch = self.decide(waiting);
            self.write(batch);
        }
    }

    fn decide(&self, waiting: Vec<(Transaction, Answer)>) -> Batch {
        let mut batch = Batch {
            entries: BTreeMap::new(),
            changes: Vec::new(),
            frames: Vec::new(),
            head: self.journal.head(),
            answers: Vec::new(),
        };
        for (transaction, answer) in waiting {
            match self.one(transaction, &mut batch) {
                Ok(revision) => batch.answers.push((answer, revision)),
                Err(error) => tell(answer, Err(error)),
            }
        }
        batch
    }

    fn one(&self, transaction: Transaction, batch: &mut Batch) -> Result<Revision, StoreError> {
        for (key, compare) in &transaction.require {
            if !compare.holds(self.current(batch, key)?.as_ref()) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        if transaction.is_empty() {
            return Ok(batch.head.0);
        }
        let revision = batch.head.0.next();
        let mut entries = Vec::with_capacity(transaction.changes.len());
        for (key, value) in &transaction.changes {
            let entry = match value {
                None => None,
                Some(value) => {
                    let created = self.current(batch, key)?.map_or(revision, |entry| entry.created);
                    Some(Entry { key: key.clone(), value: value.clone(), created, modified: revision })
                }
            };
            entries.push((key.clone(), entry));
        }
        let commit =
            Commit { revision, time: self.clock.now().wall.as_nanos(), changes: transaction.changes };
        batch.head = (revision, seal(&commit, batch.head.1, &mut batch.frames));
        batch.changes.extend(commit.changes.into_iter().map(|(key, value)| Change { revision, key, value }));
        batch.entries.extend(entries);
        Ok(revision)
    }

    fn current(&self, batch: &Batch, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        match batch.entries.get(key) {
            Some(entry) => Ok(entry.clone()),
            None => self.index.get(key),
        }
    }

    fn write(&mut self, batch: Batch) {
        let written =
            if batch.frames.is_empty() { Ok(()) } else { self.journal.append(&batch.frames, batch.head) };
        let refused = match written {
            Ok(()) => None,
            Err(Fault::Refused(error)) => {
                tracing::error!(event = "journal_write_failed", error = %error, "commits were refused");
                Some(error)
            }
            Err(Fault::Lost(error)) => {
                self.stopped = true;
                tracing::error!(event = "journal_sync_failed", error = %error, "no commits until the store is opened again");
                Some(error)
            }
        };
        if let Some(error) = refused {
            let error = Arc::new(error);
            for (answer, _) in batch.answers {
                tell(answer, Err(StoreError::Write(Arc::clone(&error))));
            }
            return;
        }
        let entries: Vec<_> = batch.entries.into_iter().collect();
        if let Err(error) = self.index.apply(&entries, batch.head) {
            // The commits are durable and will be seen after the next start; what is read until then would be old.
            self.stopped = true;
            tracing::error!(event = "index_failed", error = %error, "the index failed; it is rebuilt at the next start");
        }
        self.queue.revision.store(batch.head.0.get(), Ordering::Release);
        self.history.lock().push(batch.changes);
        for (answer, revision) in batch.answers {
            tell(answer, Ok(revision));
        }
        if self.journal.wants_snapshot() {
            self.snapshot();
        }
    }

    fn snapshot(&mut self) {
        let written =
            self.index.range(b"", None, usize::MAX).map_err(|error| std::io::Error::other(error.to_string()));
        if let Err(error) = written.and_then(|entries| self.journal.snapshot(&entries)) {
            tracing::error!(event = "snapshot_failed", error = %error, "the state snapshot was not written; the journal goes on");
        }
    }
}

fn tell(answer: Answer, result: Result<Revision, StoreError>) {
    // Whoever asked may have gone; the commit stands.
    drop(answer.send(result));
}
