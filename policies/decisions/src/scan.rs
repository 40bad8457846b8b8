//! Answers: segments by time, blocks by their index, leaves by filter, nothing decoded that is not given out (QY4).
//!
//! Rows are ordered by (time, index). Memory holds one block and one page, whatever the range. A listing that runs
//! over its budget answers what is certain, says so, and gives a cursor (QY3).

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::ControlFlow,
    path::PathBuf,
};

use base_ports::{Disk, Mono};
use bytes::Bytes;
use policies_engine::DecisionId;

use crate::{
    budget::{Budget, Cap, Caps},
    cursor::Place,
    error::LedgerError,
    leaf::{StoredRecord, View},
    ledger::Ledger,
    pattern::IdPattern,
    query::{Order, Query, QueryError},
    shelf::{Shelf, Span},
    sight::{Seen, Sight},
    source::{Extent, Source, Volume},
};

/// Most candidates of an ambiguous abbreviation that are listed.
const CANDIDATES: usize = 16;

/// One page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The rows, in order.
    pub rows: Vec<StoredRecord>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
    /// The cap that was reached before the page was full.
    pub partial: Option<Cap>,
    /// What could not be read; never left out silently.
    pub damaged: Vec<Damage>,
}

impl Page {
    /// Whether something is missing from the rows.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial.is_some() || !self.damaged.is_empty()
    }
}

/// A range that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// First index that is missing from the answer.
    pub first: u64,
    /// Last index that is missing from the answer.
    pub last: u64,
    /// What is wrong.
    pub problem: String,
}

/// Why an id leads to no record.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// There is no such record.
    #[error("no decision `{0}`")]
    NotFound(String),
    /// It is older than what is kept.
    #[error("decision `{id}` was removed by retention; the oldest record kept has index {first_index}")]
    Retired {
        /// What was asked for.
        id: String,
        /// Index of the oldest record.
        first_index: u64,
    },
    /// The abbreviation fits several.
    #[error("`{id}` fits {} decisions: {}", candidates.len(), list(candidates))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Some that fit.
        candidates: Vec<DecisionId>,
    },
    /// The files cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn list(ids: &[DecisionId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Ledger {
    /// Answers a listing. Reads files: call it from a thread that may block.
    ///
    /// # Errors
    /// When a file cannot be read at all; damage inside a file is part of the answer.
    pub fn query(&self, query: &Query) -> Result<Page, LedgerError> {
        self.query_within(query, Caps::OWN, self.inner().clock.mono())
    }

    /// Answers a listing that came at `asked` within its caps.
    pub(crate) fn query_within(&self, query: &Query, caps: Caps, asked: Mono) -> Result<Page, LedgerError> {
        let inner = self.inner();
        let query = inner.finds(query);
        let mut listing = Listing::new(&query);
        let mut budget = Budget::new(caps, asked, inner.clock.as_ref());
        let partial = listing.run(&inner.shelf, inner.disk.as_ref(), &mut budget)?;
        let now = inner.clock.now().wall;
        let (rows, next) = listing.finish(partial.map(|(limit, _)| limit));
        Ok(Page {
            rows: rows.records,
            next_cursor: next.map(|after| inner.cursors.seal(&query.cursor(after, now), &query.canonical)),
            partial: partial.map(|(_, cap)| cap),
            damaged: rows.damaged,
        })
    }

    /// The same question from where the page with that cursor ended.
    ///
    /// # Errors
    /// When the cursor is of another ledger or of other filters, or too old.
    pub fn resume(&self, query: Query, cursor: &str) -> Result<Query, QueryError> {
        let inner = self.inner();
        query.resume(cursor, &inner.cursors, inner.clock.now().wall)
    }

    /// Finds one record by its id or an abbreviation of it. Reads files: call it from a thread that may block.
    ///
    /// # Errors
    /// When there is none, or several fit.
    pub fn get(&self, id: &IdPattern) -> Result<StoredRecord, GetError> {
        self.find(id, None)
    }

    /// The same for a reader: what he does not see is not there.
    ///
    /// # Errors
    /// When there is none that he sees, or several fit.
    pub fn get_seen(&self, id: &IdPattern, sight: &Sight) -> Result<StoredRecord, GetError> {
        self.find(id, Some(sight))
    }

    fn find(&self, id: &IdPattern, sight: Option<&Sight>) -> Result<StoredRecord, GetError> {
        let is_seen = |leaf: &[u8]| {
            let seen = |sight: &Sight| View::of(leaf).map_or(Seen::Hidden, |view| sight.of_view(&view));
            sight.is_none_or(|sight| seen(sight) != Seen::Hidden)
        };
        let inner = self.inner();
        let times = id.times();
        let span = Span { from: *times.start(), to: *times.end() };
        let volumes = inner.shelf.volumes();
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let mut damaged = None;
        for volume in volumes.iter().rev().filter(|volume| volume.span().touches(span)) {
            for extent in source.extents(volume, span, &[])? {
                let reading = source.read(&extent, extent.first, &mut |index, leaf| {
                    if View::peek_id(leaf).is_some_and(|found| id.matches(found)) && is_seen(leaf) {
                        found.push((index, Bytes::copy_from_slice(leaf)));
                    }
                    ControlFlow::Continue(())
                })?;
                damaged = damaged.or(reading.damage);
            }
            if found.len() > CANDIDATES || (id.is_full() && !found.is_empty()) {
                break;
            }
        }
        match found.as_slice() {
            [] => {
                let first = volumes.first().filter(|first| first.first() > 0 && span.to < first.span().from);
                Err(match (damaged, first) {
                    // It may be there.
                    (Some(damage), _) => LedgerError::DamagedRange { damage }.into(),
                    (None, Some(first)) => {
                        GetError::Retired { id: id.to_string(), first_index: first.first() }
                    }
                    (None, None) => GetError::NotFound(id.to_string()),
                })
            }
            [(index, leaf)] => StoredRecord::decode(*index, leaf.clone())
                .map_err(|source| unreadable(&volumes, *index, source).into()),
            several => {
                let ids = several.iter().filter_map(|(_, leaf)| View::peek_id(leaf));
                Err(GetError::Ambiguous { id: id.to_string(), candidates: ids.take(CANDIDATES).collect() })
            }
        }
    }
}

fn unreadable(volumes: &[Volume], index: u64, source: crate::leaf::LeafError) -> LedgerError {
    let volume = volumes.iter().rev().find(|volume| volume.first() <= index);
    let path = volume.map(|volume| volume.path().to_owned()).unwrap_or_default();
    LedgerError::Unreadable { path, offset: 0, source }
}

/// A listing under way.
struct Listing<'a> {
    query: &'a Query,
    /// The best rows so far, the worst of them on top; one more than the page holds.
    best: BinaryHeap<Reverse<Row>>,
    damaged: Vec<Damage>,
}

/// What may hold rows, the best of them of rank `best`.
struct Open {
    best: Place,
    step: Step,
}

enum Step {
    /// Its extents are to be found.
    Volume(Volume),
    /// Its rows are to be read.
    Extent(Extent),
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.best.cmp(&other.best)
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.best == other.best
    }
}

impl Eq for Open {}

/// A row by its rank: rows with a larger rank come first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    rank: Place,
    leaf: Bytes,
}

/// Rows that are certain.
struct Rows {
    records: Vec<StoredRecord>,
    damaged: Vec<Damage>,
}

impl<'a> Listing<'a> {
    fn new(query: &'a Query) -> Self {
        Self { query, best: BinaryHeap::new(), damaged: Vec::new() }
    }

    /// Complementing both numbers turns the order round, and back.
    fn rank(&self, (time, index): Place) -> Place {
        match self.query.order {
            Order::Newest => (time, index),
            Order::Oldest => (!time, !index),
        }
    }

    /// The best rank any row of these times can have.
    fn best_rank(&self, span: Span) -> Place {
        match self.query.order {
            Order::Newest => self.rank((span.to, u64::MAX)),
            Order::Oldest => self.rank((span.from, 0)),
        }
    }

    /// The worst rank any row of these times can have.
    fn worst_rank(&self, span: Span) -> Place {
        match self.query.order {
            Order::Newest => self.rank((span.from, 0)),
            Order::Oldest => self.rank((span.to, u64::MAX)),
        }
    }

    /// Reads extents, those with the best rows first, until no other can hold a better row than the page has. Returns
    /// the rank from which on nothing is certain and the cap, when the budget ran out.
    fn run(
        &mut self,
        shelf: &Shelf,
        disk_port: &dyn Disk,
        budget: &mut Budget<'_>,
    ) -> Result<Option<(Place, Cap)>, LedgerError> {
        let wanted = Span { from: self.query.since.as_nanos(), to: self.query.until.as_nanos() };
        let after = self.query.after.map(|place| self.rank(place));
        let wants = self.query.filter.wants();
        let mut source = Source::new(shelf, disk_port);
        let mut open = BinaryHeap::new();
        for volume in shelf.volumes() {
            self.open(&mut open, volume.span(), wanted, after, Step::Volume(volume));
        }
        let mut has_read = false;
        while let Some(Open { best, step }) = open.pop() {
            if self.worst().is_some_and(|worst| worst > best) {
                return Ok(None);
            }
            let extent = match step {
                Step::Volume(volume) => {
                    for extent in source.extents(&volume, wanted, &wants)? {
                        self.open(&mut open, extent.span, wanted, after, Step::Extent(extent));
                    }
                    continue;
                }
                Step::Extent(extent) => extent,
            };
            let has_progress = after.is_none_or(|after| above(best) < after);
            if has_read
                && has_progress
                && let Some(cap) = budget.over()
            {
                return Ok(Some((best, cap)));
            }
            has_read = true;
            budget.spend(extent.bytes());
            self.read(&mut source, &extent, wanted, after)?;
        }
        Ok(None)
    }

    /// Puts up what may hold rows that are asked for.
    fn open(&self, open: &mut BinaryHeap<Open>, span: Span, wanted: Span, after: Option<Place>, step: Step) {
        if span.touches(wanted) && after.is_none_or(|after| self.worst_rank(span) < after) {
            open.push(Open { best: self.best_rank(span), step });
        }
    }

    /// The rank a row must beat, once there are enough.
    fn worst(&self) -> Option<Place> {
        let Reverse(worst) = self.best.peek()?;
        (self.best.len() > self.query.limit).then_some(worst.rank)
    }

    fn read(
        &mut self,
        source: &mut Source<'_>,
        extent: &Extent,
        wanted: Span,
        after: Option<Place>,
    ) -> Result<(), LedgerError> {
        let reading = source.read(extent, extent.first, &mut |index, leaf| {
            self.take(extent, index, leaf, wanted, after);
            ControlFlow::Continue(())
        })?;
        self.damaged.extend(reading.damage);
        Ok(())
    }

    fn take(&mut self, extent: &Extent, index: u64, leaf: &[u8], wanted: Span, after: Option<Place>) {
        let view = match View::of(leaf) {
            Ok(view) => view,
            Err(error) => {
                let (file, problem) = (extent.volume.path().to_owned(), error.to_string());
                return self.damaged.push(Damage { file, first: index, last: index, problem });
            }
        };
        if view.time < wanted.from || view.time > wanted.to {
            return;
        }
        let rank = self.rank((view.time, index));
        let is_late =
            after.is_some_and(|after| rank >= after) || self.worst().is_some_and(|worst| rank <= worst);
        if is_late || !self.query.filter.matches(&view) {
            return;
        }
        self.best.push(Reverse(Row { rank, leaf: Bytes::copy_from_slice(leaf) }));
        if self.best.len() > self.query.limit + 1 {
            self.best.pop();
        }
    }

    /// The page, and the place its cursor stands at.
    fn finish(mut self, partial: Option<Place>) -> (Rows, Option<Place>) {
        let order = Listing::new(self.query);
        let mut rows: Vec<Row> = std::mem::take(&mut self.best).into_iter().map(|Reverse(row)| row).collect();
        rows.sort_unstable_by_key(|row| Reverse(row.rank));
        if let Some(limit) = partial {
            rows.retain(|row| row.rank > limit);
        }
        let has_more = rows.len() > self.query.limit;
        rows.truncate(self.query.limit);
        let last = rows.last().map(|row| order.rank(row.rank));
        let next = match partial {
            _ if has_more => last,
            // Rows of the next file rank at most so high, thus below one index more.
            Some(limit) => Some(order.rank(above(limit))),
            None => None,
        };
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let (_, index) = order.rank(row.rank);
            match StoredRecord::decode(index, row.leaf) {
                Ok(record) => records.push(record),
                Err(error) => self.damaged.push(Damage {
                    file: PathBuf::new(),
                    first: index,
                    last: index,
                    problem: error.to_string(),
                }),
            }
        }
        (Rows { records, damaged: self.damaged }, next)
    }
}

/// The smallest rank above a given one.
fn above((time, index): Place) -> Place {
    index.checked_add(1).map_or((time.saturating_add(1), 0), |index| (time, index))
}

#[cfg(test)]
mod tests;
