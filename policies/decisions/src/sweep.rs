//! Sweeps: every row of a range that a reader asks for and sees, in the order of the ledger, within a budget.
//!
//! Aggregates and exports are made of them. One block is in memory at a time. A sweep that stops tells the index from
//! which it can go on; what cannot be read is told, never passed over in silence.

use std::ops::ControlFlow;

use crate::{
    budget::{Budget, Cap},
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
    /// Where it goes on; `None` at the end of the range.
    pub(crate) next: Option<u64>,
    /// The cap that stopped it, if none of `each` did.
    pub(crate) partial: Option<Cap>,
    pub(crate) damaged: Vec<Damage>,
}

impl Ledger {
    /// Gives every row from index `from` on to `each`, which ends the sweep behind a row by breaking. Reads files: call
    /// it from a thread that may block.
    pub(crate) fn sweep(
        &self,
        query: &Query,
        from: u64,
        budget: &mut Budget<'_>,
        mut each: impl FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<Swept, LedgerError> {
        let inner = self.inner();
        let wanted = Span { from: query.since.as_nanos(), to: query.until.as_nanos() };
        let wants = query.filter.wants();
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        let (mut swept, mut has_read) = (Swept::default(), false);
        let volumes = inner.shelf.volumes();
        for volume in volumes.iter().filter(|volume| volume.end() > from && volume.span().touches(wanted)) {
            for extent in source.extents(volume, wanted, &wants)? {
                if extent.end <= from {
                    continue;
                }
                if has_read && let Some(cap) = budget.over() {
                    (swept.next, swept.partial) = (Some(extent.first.max(from)), Some(cap));
                    return Ok(swept);
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
                    (swept.next, swept.partial) = (Some(end), partial);
                    return Ok(swept);
                }
            }
        }
        Ok(swept)
    }
}
