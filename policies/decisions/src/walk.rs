//! Walks over all decisions of a range, oldest file first, for replay and mining (policy IM2, EX8).
//!
//! One file in memory, each leaf read in one pass without a copy. Unlike a listing a walk has no page and no budget of
//! its own: whoever walks stops it. What cannot be read is told, never passed over in silence.

use std::ops::ControlFlow;
use std::path::Path;

use base_ports::UnixTime;

use crate::{
    error::LedgerError,
    leaf::{Decided, Shared, View},
    ledger::Ledger,
    query::Query,
    scan::{Damage, leaves, read},
    shelf::Span,
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
        let mut walk = Walk::new(query, each);
        let mut files = inner.shelf.files();
        files.retain(|file| file.count > 0 && walk.touches(file.span));
        for file in &files {
            let Some(bytes) = read(file, &inner.shelf, inner.disk.as_ref())? else { continue };
            if walk.file(&file.path, file.first, file.count, &bytes).is_break() {
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

    /// Gives what is asked for of the next file, which should hold `count` records from index `first` on.
    pub(crate) fn file(&mut self, path: &Path, first: u64, count: u64, bytes: &[u8]) -> ControlFlow<()> {
        let mut seen = 0;
        for leaf in leaves(bytes) {
            let index = first + seen;
            seen += 1;
            let decided = match asked(leaf, self.query, &mut self.shared) {
                Ok(Some(decided)) => decided,
                Ok(None) => continue,
                Err(error) => {
                    self.damage(path, index, index, error.to_string());
                    continue;
                }
            };
            let at = decided.time.as_nanos();
            if at < self.wanted.from || at > self.wanted.to {
                continue;
            }
            if (self.each)(&decided).is_break() {
                self.walked.is_stopped = true;
                return ControlFlow::Break(());
            }
            self.walked.decisions += 1;
            self.walked.latest = self.walked.latest.max(Some(decided.time));
        }
        if seen < count {
            self.damage(path, first + seen, first + count - 1, "frames are damaged".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn damage(&mut self, path: &Path, first: u64, last: u64, problem: String) {
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
