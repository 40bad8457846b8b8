//! Sweeps: every row of a range that a reader asks for and sees, in the order of the ledger, within a budget.
//!
//! Aggregates and exports are made of them. One block is in memory at a time. A sweep that stops gives the cursor by
//! which it can go on; what cannot be read is told, never passed over in silence.

use std::ops::ControlFlow;

use base_ports::Mono;

use crate::{
    budget::{Budget, Cap, Caps},
    error::LedgerError,
    leaf::View,
    ledger::Ledger,
    query::Query,
    scan::Damage,
    shelf::Span,
    source::Source,
};

/// Rows between two looks at the clock.
const PACE: u64 = 1_024;

/// One row of a sweep.
pub(crate) struct Row<'a> {
    pub(crate) index: u64,
    pub(crate) leaf: &'a [u8],
    pub(crate) view: &'a View<'a>,
}

/// How a sweep ended.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// What goes on where it stopped; `None` at the end of the range.
    pub(crate) next_cursor: Option<String>,
    /// The cap that stopped it, if none of `each` did.
    pub(crate) partial: Option<Cap>,
    pub(crate) damaged: Vec<Damage>,
}

impl Swept {
    /// Whether something is missing from what was given.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial.is_some() || !self.damaged.is_empty()
    }
}

impl Ledger {
    /// Gives every row of a question that came at `asked`, from where its cursor stands, to `each`, which ends the sweep
    /// behind a row by breaking. Reads files: call it from a thread that may block.
    pub(crate) fn sweep(
        &self,
        query: &Query,
        caps: Caps,
        asked: Mono,
        each: impl FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<Swept, LedgerError> {
        let inner = self.inner();
        let query = &inner.finds(query);
        let mut swept = Swept::default();
        let mut budget = Budget::new(caps, asked, inner.clock.as_ref());
        let next = self.rows(query, &mut budget, &mut swept, each)?;
        let now = inner.clock.now().wall;
        let cursor = |next| inner.cursors.seal(&query.cursor((0, next), now), &query.canonical);
        swept.next_cursor = next.map(cursor);
        Ok(swept)
    }

    /// The rows; returns the index behind the last one when that is not the end.
    fn rows(
        &self,
        query: &Query,
        budget: &mut Budget<'_>,
        swept: &mut Swept,
        mut each: impl FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, LedgerError> {
        let inner = self.inner();
        let from = query.after.map_or(0, |(_, index)| index);
        let wanted = Span { from: query.since.as_nanos(), to: query.until.as_nanos() };
        let wants = query.filter.wants();
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        let mut has_read = false;
        let volumes = inner.shelf.volumes();
        for volume in volumes.iter().filter(|volume| volume.end() > from && volume.span().touches(wanted)) {
            for extent in source.extents(volume, wanted, &wants)? {
                if extent.end <= from {
                    continue;
                }
                if has_read && let Some(cap) = budget.over() {
                    swept.partial = Some(cap);
                    return Ok(Some(extent.first.max(from)));
                }
                has_read = true;
                budget.spend(extent.bytes());
                let (mut unread, mut partial, mut end) = (Vec::new(), None, extent.first);
                let reading = source.read(&extent, extent.first.max(from), &mut |index, leaf| {
                    end = index + 1;
                    match View::of(leaf) {
                        Ok(view) => {
                            let is_within = view.time >= wanted.from && view.time <= wanted.to;
                            let is_asked = is_within && query.filter.matches(&view);
                            if is_asked && each(Row { index, leaf, view: &view }).is_break() {
                                return ControlFlow::Break(());
                            }
                        }
                        Err(error) => unread.push((index, error.to_string())),
                    }
                    if (index + 1).is_multiple_of(PACE) {
                        partial = budget.over();
                    }
                    if partial.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                swept.damaged.extend(unread.into_iter().map(|(index, problem)| Damage {
                    file: volume.path().to_owned(),
                    first: index,
                    last: index,
                    problem,
                }));
                swept.damaged.extend(reading.damage);
                if reading.is_stopped {
                    swept.partial = partial;
                    return Ok(Some(end));
                }
            }
        }
        Ok(None)
    }
}
