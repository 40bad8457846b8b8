//! The writing half: appends one value after the other to a buffer that the caller owns.
//!
//! Maps are opened, filled in key order and closed by drop of their borrow; the count is patched into the head, so
//! optional members need no second pass. Wrong key order is a programming error, caught by a debug assertion and
//! by the strict reader in every round-trip test.

use std::ops::Range;

/// Major types whose length is known at the end only (RFC 8949 3.1).
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Appends CBOR values to a byte buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    pub(crate) fn uint(&mut self, value: u64) {
        self.head(0, value);
    }

    pub(crate) fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(positive) => self.head(0, positive),
            // -1 - n is stored as n, which is the bitwise complement.
            Err(_) => self.head(1, (!value).cast_unsigned()),
        }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xf5 } else { 0xf4 });
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn array(&mut self, members: usize) {
        self.head(ARRAY, members as u64);
    }

    /// Appends a value that is already encoded.
    pub(crate) fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// Writes a map with integer keys, which `fill` adds in ascending order.
    pub(crate) fn int_map(&mut self, fill: impl FnOnce(&mut IntMap<'_>)) {
        let start = self.open(MAP);
        let mut map = IntMap { out: &mut *self.out, count: 0, last: None };
        fill(&mut map);
        let count = map.count;
        self.close(start, MAP, count);
    }

    /// Writes a map with text keys, which `fill` adds shorter first, then in byte order. Returns how many there are.
    pub(crate) fn text_map(&mut self, fill: impl FnOnce(&mut TextMap<'_>)) -> u64 {
        let start = self.open(MAP);
        let mut map = TextMap { out: &mut *self.out, count: 0, last: 0..0 };
        fill(&mut map);
        let count = map.count;
        self.close(start, MAP, count);
        count
    }

    /// Writes an array of the texts that `fill` adds. Returns how many there are.
    pub(crate) fn texts(&mut self, fill: impl FnOnce(&mut Texts<'_>)) -> u64 {
        let start = self.open(ARRAY);
        let mut texts = Texts { out: &mut *self.out, count: 0 };
        fill(&mut texts);
        let count = texts.count;
        self.close(start, ARRAY, count);
        count
    }

    fn open(&mut self, major: u8) -> usize {
        let start = self.out.len();
        self.out.push(major << 5);
        start
    }

    /// Patches the head. More than 23 members need a longer one, which moves what was written.
    fn close(&mut self, start: usize, major: u8, count: u64) {
        if let (Ok(count @ 0..=23), Some(head)) = (u8::try_from(count), self.out.get_mut(start)) {
            *head |= count;
            return;
        }
        let mut head = Vec::with_capacity(9);
        Writer::new(&mut head).head(major, count);
        self.out.splice(start..=start, head);
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        let (extra, width) = match value {
            0..=23 => {
                self.out.push(major | bytes.last().copied().unwrap_or_default());
                return;
            }
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.out.push(major | extra);
        self.out.extend_from_slice(bytes.get(bytes.len() - width..).unwrap_or_default());
    }
}

/// A map with integer keys under construction.
#[derive(Debug)]
pub(crate) struct IntMap<'a> {
    out: &'a mut Vec<u8>,
    count: u64,
    last: Option<u64>,
}

impl IntMap<'_> {
    /// Adds `key` and hands out the writer for its value.
    pub(crate) fn key(&mut self, key: u64) -> Writer<'_> {
        debug_assert!(self.last.is_none_or(|last| last < key), "key {key} ascends");
        self.last = Some(key);
        self.count += 1;
        let mut writer = Writer::new(self.out);
        writer.uint(key);
        writer
    }
}

/// A map with text keys under construction.
#[derive(Debug)]
pub(crate) struct TextMap<'a> {
    out: &'a mut Vec<u8>,
    count: u64,
    /// Where the last key stands in `out`.
    last: Range<usize>,
}

impl TextMap<'_> {
    /// Adds `key` and hands out the writer for its value.
    pub(crate) fn key(&mut self, key: &str) -> Writer<'_> {
        let start = self.out.len();
        Writer::new(self.out).text(key);
        let written = start..self.out.len();
        debug_assert!(
            self.count == 0 || self.out.get(self.last.clone()) < self.out.get(written.clone()),
            "`{key}` ascends"
        );
        self.last = written;
        self.count += 1;
        Writer::new(self.out)
    }

    /// Adds `key` with the value that `fill` writes, unless that says that it has no members.
    pub(crate) fn unless_empty(&mut self, key: &str, fill: impl FnOnce(&mut Writer<'_>) -> u64) {
        let (start, last, count) = (self.out.len(), self.last.clone(), self.count);
        if fill(&mut self.key(key)) == 0 {
            self.out.truncate(start);
            (self.last, self.count) = (last, count);
        }
    }
}

/// An array of texts under construction.
#[derive(Debug)]
pub(crate) struct Texts<'a> {
    out: &'a mut Vec<u8>,
    count: u64,
}

impl Texts<'_> {
    /// Adds one.
    pub(crate) fn add(&mut self, value: &str) {
        self.count += 1;
        Writer::new(self.out).text(value);
    }
}
