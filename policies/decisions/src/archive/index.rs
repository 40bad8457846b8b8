//! The index of one segment: which blocks there are, and in which of them a term occurs.
//!
//! The archive fills it while a segment grows; a closed segment carries it as its footer. It only ever rules blocks out:
//! what a block really holds is read from the block, so an index that is wrong or gone costs time, never an answer.

use std::collections::HashMap;

use super::{bits::Bits, block::Header, footer::varint};
use crate::{
    leaf::{LeafError, View},
    shelf::Span,
};

/// What terms are kept of. The numbers stand in footers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Kind = 0,
    Effect = 1,
    Would = 2,
    Reason = 3,
    Action = 4,
    Service = 5,
    Principal = 6,
    Resource = 7,
    Policy = 8,
    Version = 9,
    Enforcer = 10,
    /// Blocks that hold a record this build cannot read: always looked at, so that it is told.
    Unreadable = 11,
}

impl Field {
    pub(crate) const ALL: [Field; 12] = [
        Field::Kind,
        Field::Effect,
        Field::Would,
        Field::Reason,
        Field::Action,
        Field::Service,
        Field::Principal,
        Field::Resource,
        Field::Policy,
        Field::Version,
        Field::Enforcer,
        Field::Unreadable,
    ];
}

/// A condition that a term must meet. All of a question hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want<'a> {
    /// The field has this value.
    Text(Field, &'a str),
    /// The field has a value that begins so.
    Prefix(Field, &'a str),
    /// The field has one of these values.
    Any(Field, [Option<&'a str>; 3]),
    /// The field has a number between these, both included.
    Number(Field, u64, u64),
    /// The record belongs to this trace.
    Trace(&'a [u8]),
}

/// A block of a segment, or a stretch that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) offset: u64,
    /// Bytes; none where there is no block to be read.
    pub(crate) len: u64,
    pub(crate) span: Span,
}

impl Entry {
    pub(crate) fn of(header: &Header, offset: u64) -> Entry {
        let Header { first, count, span, .. } = *header;
        Entry { first, count, offset, len: header.len(), span }
    }

    /// A stretch without a readable block: nothing is known of its times.
    pub(crate) fn lost(first: u64, count: u64, offset: u64) -> Entry {
        Entry { first, count, offset, len: 0, span: Span::ALL }
    }

    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// The blocks a term occurs in, each as the distance from the one before.
#[derive(Debug, Default, Clone)]
pub(crate) struct Posting {
    pub(crate) deltas: Vec<u8>,
    /// Blocks counted from one; zero before the first.
    last: u64,
}

impl Posting {
    /// Adds the block with that number. Blocks only grow. Returns the bytes it took.
    fn add(&mut self, block: u64) -> usize {
        let before = self.deltas.len();
        if block + 1 > self.last {
            varint(&mut self.deltas, block + 1 - self.last);
            self.last = block + 1;
        }
        self.deltas.len() - before
    }
}

/// Bytes that a new term takes beside its text and its blocks: two vectors and a place in the map, about.
const TERM_COST: usize = 96;

/// The index of a segment in memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) blocks: Vec<Entry>,
    pub(crate) terms: [HashMap<Vec<u8>, Posting>; Field::ALL.len()],
    /// Per field the term that was noted last, and its block: most records say what the one before said.
    last: [(Vec<u8>, u64); Field::ALL.len()],
    /// Hashes of the traces in each block, sorted, one block after the other.
    pub(crate) traces: Vec<u32>,
    /// How many of them each block has.
    pub(crate) trace_counts: Vec<u32>,
    /// Of the block that is being filled.
    pub(super) fresh: Vec<u32>,
    bytes: usize,
}

impl Index {
    /// Notes the records of the block that comes next, and returns their times.
    pub(crate) fn note(&mut self, records: &[Result<View<'_>, LeafError>]) -> Span {
        self.fresh.clear();
        let mut span = Span::EMPTY;
        for record in records {
            match record {
                Ok(view) => {
                    span.add(view.time);
                    self.record(view);
                }
                // Always a candidate, so that it is told.
                Err(_unreadable) => {
                    span.join(Span::ALL);
                    self.term(Field::Unreadable, b"");
                }
            }
        }
        span
    }

    fn record(&mut self, view: &View<'_>) {
        self.number(Field::Kind, Some(view.kind));
        self.number(Field::Effect, view.effect);
        self.number(Field::Would, view.would_effect());
        self.number(Field::Version, view.policies_version());
        self.text(Field::Reason, view.reason);
        self.text(Field::Action, view.action);
        self.text(Field::Service, view.service);
        self.text(Field::Principal, view.principal());
        self.text(Field::Resource, view.resource());
        self.text(Field::Enforcer, view.enforcer());
        view.each_policy(|policy| self.term(Field::Policy, policy.as_bytes()));
        self.fresh.extend(view.trace_id().map(trace_hash));
    }

    /// The block of the records noted since the last one.
    pub(crate) fn block(&mut self, entry: Entry) {
        self.blocks.push(entry);
        self.fresh.sort_unstable();
        self.fresh.dedup();
        self.trace_counts.push(u32::try_from(self.fresh.len()).unwrap_or(u32::MAX));
        self.bytes += size_of::<Entry>() + size_of_val(self.fresh.as_slice());
        self.traces.append(&mut self.fresh);
    }

    /// A stretch of which nothing is known comes next.
    pub(crate) fn lost(&mut self, entry: Entry) {
        self.fresh.clear();
        self.term(Field::Unreadable, b"");
        self.block(entry);
    }

    /// Memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The blocks that may hold what all conditions want.
    pub(crate) fn candidates(&self, wants: &[Want<'_>]) -> Bits {
        let mut finder = Finder::new(wants, self.blocks.len());
        for field in finder.fields() {
            for (value, posting) in self.terms.get(field as usize).into_iter().flatten() {
                finder.term(field, value, || deltas(&posting.deltas));
            }
        }
        if finder.wants_traces() {
            let mut rest = self.traces.as_slice();
            for (block, count) in self.trace_counts.iter().enumerate() {
                let (hashes, after) = rest.split_at_checked(*count as usize).unwrap_or((rest, &[]));
                rest = after;
                finder.traces(block, |hash| hashes.binary_search(&hash).is_ok());
            }
        }
        finder.finish()
    }

    fn number(&mut self, field: Field, number: Option<u64>) {
        if let Some(number) = number {
            self.term(field, &number.to_be_bytes());
        }
    }

    fn text(&mut self, field: Field, text: Option<&str>) {
        if let Some(text) = text {
            self.term(field, text.as_bytes());
        }
    }

    pub(super) fn term(&mut self, field: Field, value: &[u8]) {
        let block = self.blocks.len() as u64;
        let at = field as usize;
        let (Some(terms), Some((last, noted))) = (self.terms.get_mut(at), self.last.get_mut(at)) else {
            return;
        };
        if *noted == block + 1 && last.as_slice() == value {
            return;
        }
        last.clear();
        last.extend_from_slice(value);
        *noted = block + 1;
        self.bytes += match terms.get_mut(value) {
            Some(posting) => posting.add(block),
            None => {
                let mut posting = Posting::default();
                let bytes = posting.add(block);
                terms.insert(value.to_vec(), posting);
                bytes + value.len() + TERM_COST
            }
        };
    }
}

/// What is kept of a trace id. Four bytes are enough: a block that is looked at in vain costs little.
pub(crate) fn trace_hash(id: &[u8]) -> u32 {
    crc32c::crc32c(id)
}

/// The block numbers of a list of distances.
pub(crate) fn deltas(mut bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut last = 0_u64;
    std::iter::from_fn(move || {
        last = last.checked_add(super::footer::take_varint(&mut bytes)?)?;
        last.checked_sub(1)
    })
}

/// Finds the candidate blocks for some conditions from the terms it is shown.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    wants: &'a [Want<'a>],
    found: Vec<Bits>,
    /// Blocks that are candidates whatever is wanted.
    always: Bits,
    blocks: usize,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(wants: &'a [Want<'a>], blocks: usize) -> Finder<'a> {
        let found = wants.iter().map(|_| Bits::none(blocks)).collect();
        Finder { wants, found, always: Bits::none(blocks), blocks }
    }

    /// The fields of which it wants to see terms.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let is_wanted = |field: &Field| {
            *field == Field::Unreadable || self.wants.iter().any(|want| want.field() == Some(*field))
        };
        Field::ALL.into_iter().filter(is_wanted).collect()
    }

    /// Whether it wants to see traces.
    pub(crate) fn wants_traces(&self) -> bool {
        self.wants.iter().any(|want| want.field().is_none())
    }

    /// Shows a term and where it occurs.
    pub(crate) fn term<I: Iterator<Item = u64>>(
        &mut self,
        field: Field,
        value: &[u8],
        blocks: impl Fn() -> I,
    ) {
        if field == Field::Unreadable {
            blocks().for_each(|block| self.always.set(block));
        }
        for (want, found) in self.wants.iter().zip(&mut self.found) {
            if want.field() == Some(field) && want.meets(value) {
                blocks().for_each(|block| found.set(block));
            }
        }
    }

    /// Shows the traces of a block.
    pub(crate) fn traces(&mut self, block: usize, has: impl Fn(u32) -> bool) {
        for (want, found) in self.wants.iter().zip(&mut self.found) {
            if let Want::Trace(id) = want
                && has(trace_hash(id))
            {
                found.set(block as u64);
            }
        }
    }

    /// The blocks that meet all conditions.
    pub(crate) fn finish(self) -> Bits {
        let mut all = Bits::all(self.blocks);
        self.found.iter().for_each(|found| all.and(found));
        all.or(&self.always);
        all
    }
}

impl Want<'_> {
    fn field(&self) -> Option<Field> {
        match self {
            Want::Text(field, _) | Want::Prefix(field, _) | Want::Any(field, _) | Want::Number(field, ..) => {
                Some(*field)
            }
            Want::Trace(_) => None,
        }
    }

    fn meets(&self, value: &[u8]) -> bool {
        match self {
            Want::Text(_, text) => value == text.as_bytes(),
            Want::Prefix(_, text) => value.starts_with(text.as_bytes()),
            Want::Any(_, texts) => texts.iter().flatten().any(|text| value == text.as_bytes()),
            Want::Number(_, from, to) => {
                value.try_into().is_ok_and(|bytes| (*from..=*to).contains(&u64::from_be_bytes(bytes)))
            }
            Want::Trace(_) => false,
        }
    }
}
