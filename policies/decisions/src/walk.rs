//! Walks over all decisions of a range, oldest file first, for replay and mining (policy IM2, EX8).
//!
//! One file in memory, each leaf read in one pass without a copy. Unlike a listing a walk has no page and no budget of
//! its own: whoever walks stops it. What cannot be read is told, never passed over in silence.

use std::ops::ControlFlow;

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
        mut each: impl FnMut(&Decided<'_>) -> ControlFlow<()>,
    ) -> Result<Walked, LedgerError> {
        let inner = self.inner();
        let wanted = Span { from: query.since.as_nanos(), to: query.until.as_nanos() };
        let mut walked = Walked::default();
        let mut shared = Shared::default();
        let files = inner.shelf.files();
        for file in files.iter().filter(|file| file.count > 0 && file.span.touches(wanted)) {
            let Some(bytes) = read(file, &inner.shelf, inner.disk.as_ref())? else { continue };
            let mut seen = 0;
            for leaf in leaves(&bytes) {
                let index = file.first + seen;
                seen += 1;
                let decided = match asked(leaf, query, &mut shared) {
                    Ok(Some(decided)) => decided,
                    Ok(None) => continue,
                    Err(error) => {
                        walked.damaged.push(Damage {
                            file: file.path.clone(),
                            first: index,
                            last: index,
                            problem: error.to_string(),
                        });
                        continue;
                    }
                };
                let at = decided.time.as_nanos();
                if at < wanted.from || at > wanted.to {
                    continue;
                }
                if each(&decided).is_break() {
                    walked.is_stopped = true;
                    return Ok(walked);
                }
                walked.decisions += 1;
                walked.latest = walked.latest.max(Some(decided.time));
            }
            if seen < file.count {
                walked.damaged.push(Damage {
                    file: file.path.clone(),
                    first: file.first + seen,
                    last: file.end() - 1,
                    problem: "frames are damaged".to_owned(),
                });
            }
        }
        Ok(walked)
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
