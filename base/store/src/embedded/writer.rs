//! The one writer: takes everything that waits, decides it in order, appends it as one record, syncs once, then shows and
//! acknowledges it. Nothing is visible before it is durable, and no answer rests on what is not.

use std::sync::Arc;

use base_ports::Clock;

use super::Shared;
use super::queue::{Answer, Waiting, Work};
use crate::index::Index;
use crate::journal::{Fault, Journal, Record};
use crate::overlay::{Changed, Overlay};
use crate::watch::Change;
use crate::{Revision, StoreError};

#[derive(Debug)]
pub(super) struct Writer {
    journal: Journal,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// No commits until the store is opened again.
    stopped: bool,
}

/// Entries as they are after a batch, and what each of its commits is told once that is durable.
type Decided = (Changed, Vec<Result<Revision, StoreError>>);

impl Drop for Writer {
    /// Also when the thread panics: nobody waits for ever.
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl Writer {
    pub(super) fn new(journal: Journal, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self { journal, shared, clock, stopped: false }
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.shared.queue.take() {
            match work {
                Work::RebuildIndex => self.rebuild_index(),
                Work::Commit(waiting) if self.stopped => {
                    waiting.into_iter().for_each(|(_, answer)| tell(answer, Err(StoreError::Stopped)));
                }
                Work::Commit(waiting) => self.commit(waiting),
            }
        }
    }

    fn commit(&mut self, waiting: Waiting) {
        let (changed, results) = match self.decide(&waiting) {
            Ok(decided) => decided,
            Err(error) => {
                return waiting.into_iter().for_each(|(_, answer)| tell(answer, Err(error.clone())));
            }
        };
        let (record, answers) = self.record(waiting, &results);
        if !record.commits.is_empty() {
            if let Err(fault) = self.journal.append(&record) {
                return self.refuse(fault, answers);
            }
            if self.shared.queue.refuses().is_some() {
                self.shared.queue.set_refuses(None);
                tracing::info!(event = "disk_has_room", "commits are taken again");
            }
            self.show(&changed, record);
        }
        answers.into_iter().zip(results).for_each(|(answer, result)| tell(answer, result));
        if let Err(error) = self.journal.roll_if_full() {
            self.stop("no new segment could be begun", &error.to_string());
        }
    }

    /// Decides the batch; with a new index when the one at hand fails.
    fn decide(&mut self, waiting: &Waiting) -> Result<Decided, StoreError> {
        let before = self.journal.head().0;
        match decide(waiting, &*self.shared.index()?, before) {
            Err(StoreError::Index(error)) => {
                tracing::error!(event = "index_failed", error, "the index failed; it is rebuilt in memory");
                self.rebuild_index();
                decide(waiting, &*self.shared.index()?, before)
            }
            decided => decided,
        }
    }

    fn record(&self, waiting: Waiting, results: &[Result<Revision, StoreError>]) -> (Record, Vec<Answer>) {
        let (first, time) = (self.journal.head().0.next(), self.clock.now().wall.as_nanos());
        let mut record = Record { first, time, commits: Vec::new() };
        let taken = waiting.into_iter().zip(results).map(|((transaction, answer), result)| {
            if result.is_ok() && !transaction.is_empty() {
                record.commits.push(transaction.changes);
            }
            answer
        });
        let answers = taken.collect();
        (record, answers)
    }

    /// Lets everybody see a durable record.
    fn show(&mut self, changed: &Changed, record: Record) {
        let head = self.journal.head();
        if let Err(error) = self.shared.index().and_then(|index| index.apply(changed, head)) {
            tracing::error!(event = "index_failed", error = %error, "the index failed; it is rebuilt in memory");
            self.rebuild_index();
        }
        self.shared.queue.show(head.0);
        let revisions = (record.first.get()..).map(Revision::from);
        let changes =
            revisions.zip(record.commits).flat_map(|(revision, changes)| Change::all(changes, revision));
        self.shared.feed.publish(changes.collect(), head.0);
    }

    /// Nothing of the batch happened. A conflict may have been one with a commit that did not happen either, so it is
    /// no answer.
    fn refuse(&mut self, fault: Fault, answers: Vec<Answer>) {
        let error = match fault {
            Fault::Full(error) => {
                if self.shared.queue.refuses().is_none() {
                    tracing::error!(event = "disk_full", error = %error, "commits are refused until there is room; reads go on");
                }
                StoreError::Write(Arc::new(error))
            }
            Fault::Lost(error) => {
                self.stop("the journal could not be written", &error.to_string());
                StoreError::Write(Arc::new(error))
            }
        };
        self.shared.queue.set_refuses(Some(if self.stopped { StoreError::Stopped } else { error.clone() }));
        answers.into_iter().for_each(|answer| tell(answer, Err(error.clone())));
    }

    fn stop(&mut self, what: &'static str, error: &str) {
        self.stopped = true;
        self.shared.queue.set_refuses(Some(StoreError::Stopped));
        tracing::error!(
            event = "journal_stopped",
            what,
            error,
            "no commits until the store is opened and verified again"
        );
    }

    /// Puts an index in memory, read from the journal, in the place of the one that failed.
    fn rebuild_index(&mut self) {
        match self.journal.load() {
            Ok(index) => {
                *self.shared.index.write() = Some(Arc::new(index));
                tracing::warn!(event = "index_in_memory", "the index is in memory until the next start");
            }
            Err(error) => {
                *self.shared.index.write() = None;
                self.stop("the index could not be rebuilt", &error.to_string());
            }
        }
    }
}

/// Decides each commit of a batch in order, on top of those before it.
fn decide(waiting: &Waiting, index: &dyn Index, mut last: Revision) -> Result<Decided, StoreError> {
    let (mut overlay, mut results) = (Overlay::new(index), Vec::with_capacity(waiting.len()));
    for (transaction, _) in waiting {
        match overlay.check(transaction) {
            Ok(()) if transaction.is_empty() => results.push(Ok(last)),
            Ok(()) => {
                last = last.next();
                overlay.commit(&transaction.changes, last)?;
                results.push(Ok(last));
            }
            Err(conflict @ StoreError::Conflict { .. }) => results.push(Err(conflict)),
            Err(error) => return Err(error),
        }
    }
    Ok((overlay.into_changed(), results))
}

fn tell(answer: Answer, result: Result<Revision, StoreError>) {
    // Whoever asked may have gone; the commit stands.
    drop(answer.send(result));
}
