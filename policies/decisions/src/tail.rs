//! Tails: records as they are written, from any index on, without loss or repeat (QY, RA6).
//!
//! A tail first reads what it lacks from the files, then receives what the writer broadcasts. One that falls behind
//! reads from the files again, so a slow reader costs no memory; it is told to resynchronise only when retention has
//! taken what it lacks.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    error::LedgerError,
    frame::Frames,
    leaf::{StoredRecord, View},
    ledger::Ledger,
    query::{Filter, Query},
    scan::{leaves, read},
    shelf::WalFile,
    writer::Fresh,
};

/// What a tail yields.
#[derive(Debug, Clone, PartialEq)]
pub enum TailItem {
    /// The next record.
    Record(Box<StoredRecord>),
    /// Records up to this index cannot be given any more: removed by retention, or damaged.
    Resync {
        /// The tail goes on with this index.
        next: u64,
    },
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Tail {
    ledger: Ledger,
    filter: Filter,
    fresh: Receiver<Fresh>,
    /// Index of the next record to look at.
    next: u64,
    ready: VecDeque<TailItem>,
}

impl Ledger {
    /// Follows the ledger. `from` is the first index wanted; `None` begins with what is written from now on. Filters
    /// of the query apply, its range, order and limit do not.
    #[must_use]
    pub fn tail(&self, from: Option<u64>, query: Option<&Query>) -> Tail {
        let inner = self.inner();
        // Subscribed before the end is looked up: nothing falls between.
        let fresh = inner.fresh.subscribe();
        let next = from.unwrap_or_else(|| inner.shelf.next_index());
        let filter = query.map(|query| query.filter.clone()).unwrap_or_default();
        Tail { ledger: self.clone(), filter, fresh, next, ready: VecDeque::new() }
    }
}

impl Tail {
    /// Waits for the next item; `None` when the ledger is closed. Cancel safe: an item is taken only when returned.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn next(&mut self) -> Result<Option<TailItem>, LedgerError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.next < self.ledger.inner().shelf.next_index() && self.fresh.is_empty() {
                self.catch_up().await?;
                continue;
            }
            match self.fresh.recv().await {
                Ok(Fresh::Frames { first, frames }) if first <= self.next => self.take(first, &frames),
                // What lies between was written before this tail began, or was skipped while it lagged.
                Ok(Fresh::Frames { .. }) | Err(RecvError::Lagged(_)) => self.catch_up().await?,
                Ok(Fresh::End) | Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Index from which the tail would go on: what a client hands in to resume.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    fn take(&mut self, first: u64, frames: &[u8]) {
        for (index, leaf) in (first..).zip(Frames::of_batch(frames).map_while(Result::ok)) {
            if index >= self.next {
                self.offer(index, leaf);
                self.next = index + 1;
            }
        }
    }

    /// Reads one file's worth of what is lacking.
    async fn catch_up(&mut self) -> Result<(), LedgerError> {
        let files = self.ledger.inner().shelf.files();
        let Some(file) = files.iter().find(|file| file.end() > self.next) else { return Ok(()) };
        if file.first > self.next {
            self.next = file.first;
            self.ready.push_back(TailItem::Resync { next: self.next });
        }
        let (ledger, wanted) = (self.ledger.clone(), Arc::clone(file));
        let reading = tokio::task::spawn_blocking(move || lacking(&ledger, &wanted));
        let bytes = reading.await.unwrap_or_else(|error| {
            // A panic in the reader: the file is passed over, and said so.
            tracing::error!(event = "ledger_tail_failed", %error, "reading a file for a tail failed");
            Ok(Bytes::new())
        })?;
        let mut index = file.first;
        for leaf in leaves(&bytes) {
            if index >= self.next {
                self.offer(index, leaf);
            }
            index += 1;
        }
        self.next = self.next.max(index);
        if self.next < file.end() {
            self.next = file.end();
            self.ready.push_back(TailItem::Resync { next: self.next });
        }
        Ok(())
    }

    fn offer(&mut self, index: u64, leaf: &[u8]) {
        let Ok(view) = View::of(leaf) else { return };
        if !self.filter.matches(&view) {
            return;
        }
        if let Ok(record) = StoredRecord::decode(index, Bytes::copy_from_slice(leaf)) {
            self.ready.push_back(TailItem::Record(Box::new(record)));
        }
    }
}

fn lacking(ledger: &Ledger, file: &WalFile) -> Result<Bytes, LedgerError> {
    let inner = ledger.inner();
    read(file, &inner.shelf, inner.disk.as_ref()).map(|bytes| bytes.unwrap_or_default().into())
}

#[cfg(test)]
mod tests;
