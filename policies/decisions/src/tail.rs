//! Tails: records as they are written, from any index on, without loss or repeat (QY, RA6).
//!
//! A tail first reads what it lacks from the files, then receives what the writer broadcasts. One that falls behind
//! reads from the files again, so a slow reader costs no memory; it is told to resynchronise only when retention has
//! taken what it lacks.

use std::{collections::VecDeque, ops::ControlFlow};

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    error::LedgerError,
    frame::Frames,
    leaf::{StoredRecord, View},
    ledger::Ledger,
    query::{Filter, Query},
    shelf::Span,
    source::Source,
    writer::Fresh,
};

/// Records read at once for a tail that lags.
const SHARE: usize = 512;

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
        let filter = query.map(|query| inner.finds(query).into_owned().filter).unwrap_or_default();
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

    /// Reads some of what is lacking.
    async fn catch_up(&mut self) -> Result<(), LedgerError> {
        let (ledger, next) = (self.ledger.clone(), self.next);
        let reading = tokio::task::spawn_blocking(move || lacking(&ledger, next));
        let lacking = reading.await.unwrap_or_else(|error| {
            // A panic in the reader: what there is now is passed over, and said so.
            tracing::error!(event = "ledger_tail_failed", %error, "reading records for a tail failed");
            Ok(Lacking { records: Vec::new(), next, resync: Some(self.ledger.inner().shelf.next_index()) })
        })?;
        if let Some((first, _)) = lacking.records.first().filter(|(first, _)| *first > self.next) {
            self.ready.push_back(TailItem::Resync { next: *first });
        }
        for (index, leaf) in lacking.records {
            self.offer(index, &leaf);
        }
        self.next = self.next.max(lacking.next);
        if let Some(next) = lacking.resync.filter(|next| *next > self.next) {
            self.next = next;
            self.ready.push_back(TailItem::Resync { next });
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

/// Records from an index on.
struct Lacking {
    records: Vec<(u64, Bytes)>,
    /// Index after the last of them.
    next: u64,
    /// Where to go on, when what follows cannot be read.
    resync: Option<u64>,
}

fn lacking(ledger: &Ledger, next: u64) -> Result<Lacking, LedgerError> {
    let inner = ledger.inner();
    let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
    let mut lacking = Lacking { records: Vec::new(), next, resync: None };
    let Some(volume) = inner.shelf.volumes().into_iter().find(|volume| volume.end() > next) else {
        return Ok(lacking);
    };
    for extent in source.extents(&volume, Span::ALL, &[])?.iter().filter(|extent| extent.end > next) {
        let Lacking { records, next, resync } = &mut lacking;
        let reading = source.read(extent, *next, &mut |index, leaf| {
            records.push((index, Bytes::copy_from_slice(leaf)));
            *next = index + 1;
            if records.len() < SHARE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if reading.damage.is_some() {
            *resync = Some(extent.end);
        }
        if records.len() >= SHARE || resync.is_some() {
            return Ok(lacking);
        }
        *next = reading.next.max(*next);
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests;
