//! Commits on their way to the writer, within a fixed number and amount of memory; more are refused as busy.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{Revision, StoreError, Transaction};

/// Commits that may wait, and their bytes.
const WAITING: usize = 65_536;
const WAITING_BYTES: usize = 64 << 20;
/// Commits that share one record and one sync, and their bytes but for the last of them.
const TOGETHER: usize = 4_096;
const TOGETHER_BYTES: usize = 8 << 20;

pub(super) type Answer = oneshot::Sender<Result<Revision, StoreError>>;
pub(super) type Waiting = VecDeque<(Transaction, Answer)>;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// The newest commit that everybody may see.
    revision: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    bytes: usize,
    closed: bool,
    /// Somebody could not read the index.
    needs_index: bool,
    refuses: Option<StoreError>,
}

/// What the writer has to do.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Waiting),
    RebuildIndex,
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
        if state.closed {
            return Err(StoreError::Closed);
        }
        let bytes = state.bytes.saturating_add(transaction.size());
        if state.waiting.len() >= WAITING || bytes > WAITING_BYTES {
            return Err(StoreError::Busy);
        }
        state.bytes = bytes;
        state.waiting.push_back((transaction, answer));
        self.wake.notify_one();
        Ok(answered)
    }

    pub(super) fn ask_for_an_index(&self) {
        self.state.lock().needs_index = true;
        self.wake.notify_one();
    }

    /// Takes no more commits; those that wait are still done.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes no more commits and gives those that wait no answer but `Closed`.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        state.refuses = Some(StoreError::Closed);
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire).into()
    }

    pub(super) fn show(&self, revision: Revision) {
        self.revision.store(revision.get(), Ordering::Release);
    }

    pub(super) fn refuses(&self) -> Option<StoreError> {
        self.state.lock().refuses.clone()
    }

    pub(super) fn set_refuses(&self, reason: Option<StoreError>) {
        self.state.lock().refuses = reason;
    }

    /// The oldest of what waits, as much as goes together; `None` when closed and empty.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.needs_index) {
                return Some(Work::RebuildIndex);
            }
            if !state.waiting.is_empty() {
                return Some(Work::Commit(state.together()));
            }
            if state.closed {
                return None;
            }
            self.wake.wait(&mut state);
        }
    }
}

impl State {
    fn together(&mut self) -> Waiting {
        let (mut taken, mut bytes) = (Waiting::new(), 0);
        while taken.len() < TOGETHER && bytes < TOGETHER_BYTES {
            let Some((transaction, answer)) = self.waiting.pop_front() else { break };
            bytes = transaction.size().saturating_add(bytes);
            taken.push_back((transaction, answer));
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(size: usize) -> Transaction {
        Transaction::new().put("k", vec![0; size])
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_number_and_says_busy() {
        let queue = Queue::new(Revision::ZERO);
        for _ in 0..15 {
            queue.push(put(4 << 20)).unwrap();
        }
        assert!(matches!(queue.push(put(4 << 20)), Err(StoreError::Busy)));
        queue.push(put(1)).unwrap();
        let Some(Work::Commit(taken)) = queue.take() else { panic!("nothing to do") };
        assert_eq!(taken.len(), 2, "a record stays near its size");
        queue.push(put(4 << 20)).unwrap();
        let queue = Queue::new(Revision::ZERO);
        for _ in 0..WAITING {
            queue.push(Transaction::new()).unwrap();
        }
        assert!(matches!(queue.push(Transaction::new()), Err(StoreError::Busy)));
    }

    #[test]
    fn a_closed_queue_gives_what_waits_and_takes_no_more() {
        let queue = Queue::new(Revision::ZERO);
        queue.push(put(1)).unwrap();
        queue.close();
        assert!(matches!(queue.push(put(1)), Err(StoreError::Closed)));
        assert!(matches!(queue.take(), Some(Work::Commit(_))));
        assert!(queue.take().is_none());
    }
}
