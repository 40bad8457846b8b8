//! The dynamic table (RFC 7541 2.3.2): entries in one buffer of at most the size of the table, the oldest first.
//!
//! An entry is kept as the line that HTTP/1 prints, which is never longer than the size that the standard counts for it. An
//! empty table holds no memory.

use std::collections::VecDeque;

use crate::fields::{Field, Span};

/// What an entry counts beyond its bytes (4.1).
const OVERHEAD: usize = 32;

/// The entries of one direction.
#[derive(Debug)]
pub(super) struct Dynamic {
    bytes: Vec<u8>,
    /// Where the oldest entry begins.
    from: usize,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u16,
    name: u16,
    value: u16,
    /// Tells most different entries apart.
    mark: u16,
}

impl Entry {
    fn size(self) -> usize {
        usize::from(self.name).saturating_add(usize::from(self.value)).saturating_add(OVERHEAD)
    }

    fn line(self) -> Line {
        let (start, name, value) = (usize::from(self.start), usize::from(self.name), usize::from(self.value));
        Line { start, name, value }
    }
}

/// A line within a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    start: usize,
    name: usize,
    value: usize,
}

impl Line {
    /// `name: value` and the end of the line.
    const GAPS: usize = 4;

    pub(super) fn field(self) -> Field {
        let value = self.start.saturating_add(self.name).saturating_add(2);
        Field { name: Span::new(self.start, self.name), value: Span::new(value, self.value) }
    }

    fn len(self) -> usize {
        self.name.saturating_add(self.value).saturating_add(Self::GAPS)
    }
}

impl Dynamic {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), from: 0, entries: VecDeque::new(), size: 0, most }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Another size; what no longer fits is gone.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.evict(0);
    }

    /// The line and the field of an entry; 0 is the newest. Spans are of the line.
    pub(super) fn get(&self, nth: usize) -> Option<(&[u8], Field)> {
        let last = self.entries.len().checked_sub(1)?;
        let line = self.entries.get(last.checked_sub(nth)?)?.line();
        let bytes = self.bytes.get(line.start..line.start.saturating_add(line.len()))?;
        Some((bytes, Line { start: 0, ..line }.field()))
    }

    /// Adds an entry, which may push others out, or all, itself included.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len().saturating_add(value.len()).saturating_add(OVERHEAD);
        self.evict(size);
        if size > self.most {
            return;
        }
        let line = Line { start: 0, name: name.len(), value: value.len() };
        if self.bytes.len().saturating_add(line.len()) > super::TABLE {
            self.compact();
        }
        let entry = Entry {
            start: narrow(self.bytes.len()),
            name: narrow(name.len()),
            value: narrow(value.len()),
            mark: mark(name, value),
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.entries.push_back(entry);
        self.size = self.size.saturating_add(size);
    }

    /// Where an equal entry stands; 0 is the newest.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let wanted = mark(name, value);
        self.entries.iter().rev().enumerate().filter(|(_, entry)| entry.mark == wanted).find_map(
            |(nth, _)| {
                let (line, field) = self.get(nth)?;
                (field.name.of(line) == name && field.value.of(line) == value).then_some(nth)
            },
        )
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for an entry of that size.
    fn evict(&mut self, size: usize) {
        while self.size.saturating_add(size) > self.most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size = self.size.saturating_sub(oldest.size());
            self.from = self.from.saturating_add(oldest.line().len());
        }
        if self.entries.is_empty() {
            self.bytes.clear();
            self.from = 0;
        }
    }

    fn compact(&mut self) {
        let from = narrow(self.from);
        self.bytes.drain(..self.from.min(self.bytes.len()));
        self.from = 0;
        for entry in &mut self.entries {
            entry.start = entry.start.saturating_sub(from);
        }
    }
}

/// INVARIANT: no more bytes are kept than a table may have.
fn narrow(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Lengths and ends of name and value.
fn mark(name: &[u8], value: &[u8]) -> u16 {
    let end = |bytes: &[u8]| bytes.last().copied().map_or(0, u16::from);
    let length = narrow(name.len()).wrapping_mul(31).wrapping_add(narrow(value.len()));
    length
        .wrapping_mul(257)
        .wrapping_add(end(name).wrapping_mul(7))
        .wrapping_add(end(value).wrapping_mul(251))
}
