//! Walks over all decisions of a range, oldest file first, for replay and mining (policy IM2, EX8).
//!
//! One block in memory, each leaf read in one pass without a copy. Unlike a listing a walk has no page and no budget of
//! its own: whoever walks stops it. What cannot be read is told, never passed over in silence.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use base_ports::UnixTime;

use crate::{
    archive::Want,
    error::LedgerError,
    leaf::{Decided, Shared, View},
    ledger::Ledger,
    query::Query,
    scan::Damage,
    shelf::Span,
    source::{Source, Volume},
};

/// What a walk met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// Decisions that were given.
    pub decisions: u64,
    /// The latest time among them.
    pub latest: Option<UnixTime>,
    /// Whether the walker stopped before the end.
    pub is_stopped: bool,
    /// What could not be read.
    pub damaged: Vec<Damage>,
}

impl Ledger {
    /// Gives every decision of the range that the filters of `query` ask for, in the order of the files. Order, limit
    /// and cursor of the query do not matter. Reads files: call it from a thread that may block.
    ///
    /// # Errors
    /// When a file cannot be read at all; damage inside a file is part of the answer.
    pub fn walk(
        &self,
        query: &Query,
        each: impl FnMut(&Decided<'_>) -> ControlFlow<()>,
    ) -> Result<Walked, LedgerError> {
        let inner = self.inner();
        let query = &inner.finds(query);
        let mut walk = Walk::new(query, each);
        let wants = query.filter.wants();
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        for volume in inner.shelf.volumes() {
            if walk.volume(&mut source, &volume, 0..u64::MAX, &wants)?.is_break() {
                break;
            }
        }
        Ok(walk.walked)
    }
}

/// A walk under way.
pub(crate) struct Walk<'a, F> {
    query: &'a Query,
    wanted: Span,
    shared: Shared,
    each: F,
    pub(crate) walked: Walked,
}

impl<'a, F: FnMut(&Decided<'_>) -> ControlFlow<()>> Walk<'a, F> {
    pub(crate) fn new(query: &'a Query, each: F) -> Walk<'a, F> {
        let wanted = Span { from: query.since.as_nanos(), to: query.until.as_nanos() };
        Walk { query, wanted, shared: Shared::default(), each, walked: Walked::default() }
    }

    pub(crate) fn touches(&self, span: Span) -> bool {
        span.touches(self.wanted)
    }

    /// Gives what is asked for of the next volume, within these indexes.
    pub(crate) fn volume(
        &mut self,
        source: &mut Source<'_>,
        volume: &Volume,
        indexes: Range<u64>,
        wants: &[Want<'_>],
    ) -> Result<ControlFlow<()>, LedgerError> {
        if !self.touches(volume.span()) {
            return Ok(ControlFlow::Continue(()));
        }
        for extent in source.extents(volume, self.wanted, wants)? {
            if extent.end <= indexes.start || extent.first >= indexes.end {
                continue;
            }
            let from = extent.first.max(indexes.start);
            let reading = source.read(&extent, from, &mut |index, leaf| {
                if index < indexes.end {
                    self.leaf(volume.path(), index, leaf)
                } else {
                    ControlFlow::Break(())
                }
            })?;
            self.walked.damaged.extend(reading.damage);
            if self.walked.is_stopped {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Gives a record, if it is asked for.
    pub(crate) fn leaf(&mut self, path: &Path, index: u64, leaf: &[u8]) -> ControlFlow<()> {
        let decided = match asked(leaf, self.query, &mut self.shared) {
            Ok(Some(decided)) => decided,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => {
                self.damage(path, index, index, error.to_string());
                return ControlFlow::Continue(());
            }
        };
        let at = decided.time.as_nanos();
        if at < self.wanted.from || at > self.wanted.to {
            return ControlFlow::Continue(());
        }
        if (self.each)(&decided).is_break() {
            self.walked.is_stopped = true;
            return ControlFlow::Break(());
        }
        self.walked.decisions += 1;
        self.walked.latest = self.walked.latest.max(Some(decided.time));
        ControlFlow::Continue(())
    }

    /// Notes what cannot be read.
    pub(crate) fn damage(&mut self, path: &Path, first: u64, last: u64, problem: String) {
        self.walked.damaged.push(Damage { file: path.to_owned(), first, last, problem });
    }
}

/// The decision in a leaf, if it is one that the filters ask for.
fn asked<'a>(
    leaf: &'a [u8],
    query: &Query,
    shared: &mut Shared,
) -> Result<Option<Decided<'a>>, crate::LeafError> {
    if !query.filter.is_open() && !query.filter.matches(&View::of(leaf)?) {
        return Ok(None);
    }
    Decided::of(leaf, shared)
}

#[cfg(test)]
mod tests;
