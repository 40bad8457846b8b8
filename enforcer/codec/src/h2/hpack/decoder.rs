//! The decoder: one whole header block becomes lines.
//!
//! A block is always decoded to its end, because the table of the connection depends on it; beyond the limits its fields are
//! counted and not kept.

use super::dynamic::Dynamic;
use super::{NotHpack, TABLE, fixed, huffman, integer};
use crate::Limits;
use crate::fields::{Field, Span};

/// A block that stands for so many times what a head may have is sent to cost us work.
const BOMB: usize = 4;

/// The fields of one block, each as `name: value` and an end of line. Used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    /// More or larger fields than the limits allow.
    pub(crate) is_over: bool,
    /// So much more than that that nothing was read further, and the connection must end.
    pub(crate) is_bomb: bool,
    /// What all fields count (RFC 9113 6.5.2).
    size: usize,
}

impl Lines {
    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        (self.is_over, self.is_bomb, self.size) = (false, false, 0);
    }

    /// Takes the line that was appended.
    fn took(&mut self, start: usize, field: Field, limits: &Limits) {
        let length = (field.name.len as usize).saturating_add(field.value.len as usize);
        self.size = self.size.saturating_add(length).saturating_add(32);
        // Of pseudo-header fields there are four at most.
        let is_over = self.fields.len() >= limits.fields.saturating_add(4) || length > limits.field;
        if is_over || self.size > limits.head {
            self.is_over = true;
            self.is_bomb = self.size > limits.head.saturating_mul(BOMB);
            self.bytes.truncate(start);
        } else {
            self.fields.push(field);
        }
    }
}

/// The decoding side of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Dynamic,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Dynamic::new(TABLE) }
    }

    /// Decodes a whole block into `lines`, which are cleared first.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        limits: &Limits,
        lines: &mut Lines,
    ) -> Result<(), NotHpack> {
        lines.clear();
        let mut is_start = true;
        while let Some((&first, rest)) = block.split_first()
            && !lines.is_bomb
        {
            block = rest;
            match first {
                0x80.. => self.indexed(integer::take(first, 7, &mut block)?, limits, lines)?,
                0x40..=0x7f => {
                    let index = integer::take(first, 6, &mut block)?;
                    let (start, field) = self.literal(index, &mut block, lines)?;
                    self.table.add(field.name.of(&lines.bytes), field.value.of(&lines.bytes));
                    lines.took(start, field, limits);
                }
                0x20..=0x3f => {
                    let size = integer::take(first, 5, &mut block)?;
                    // 4.2: at the beginning of a block, and never more than we said.
                    if !is_start || size > TABLE {
                        return Err(NotHpack);
                    }
                    self.table.resize(size);
                    continue;
                }
                0..=0x1f => {
                    let index = integer::take(first, 4, &mut block)?;
                    let (start, field) = self.literal(index, &mut block, lines)?;
                    lines.took(start, field, limits);
                }
            }
            is_start = false;
        }
        Ok(())
    }

    fn indexed(&self, index: usize, limits: &Limits, lines: &mut Lines) -> Result<(), NotHpack> {
        let start = lines.bytes.len();
        let field = match fixed::entry(index) {
            Some((name, value)) => {
                lines.bytes.extend_from_slice(name);
                lines.bytes.extend_from_slice(b": ");
                lines.bytes.extend_from_slice(value);
                lines.bytes.extend_from_slice(b"\r\n");
                line(start, name.len(), value.len())
            }
            None => {
                let (bytes, field) = self.dynamic(index)?;
                lines.bytes.extend_from_slice(bytes);
                line(start, field.name.len as usize, field.value.len as usize)
            }
        };
        lines.took(start, field, limits);
        Ok(())
    }

    fn dynamic(&self, index: usize) -> Result<(&[u8], Field), NotHpack> {
        let nth = index.checked_sub(fixed::COUNT).and_then(|beyond| beyond.checked_sub(1)).ok_or(NotHpack)?;
        self.table.get(nth).ok_or(NotHpack)
    }

    /// A field with a value of its own; a name of its own where the index is 0.
    fn literal(
        &self,
        index: usize,
        block: &mut &[u8],
        lines: &mut Lines,
    ) -> Result<(usize, Field), NotHpack> {
        let start = lines.bytes.len();
        match (index, fixed::entry(index)) {
            (0, _) => string(block, &mut lines.bytes)?,
            (_, Some((name, _))) => lines.bytes.extend_from_slice(name),
            (_, None) => {
                let (bytes, field) = self.dynamic(index)?;
                lines.bytes.extend_from_slice(field.name.of(bytes));
            }
        }
        let name = lines.bytes.len().saturating_sub(start);
        lines.bytes.extend_from_slice(b": ");
        let from = lines.bytes.len();
        string(block, &mut lines.bytes)?;
        let value = lines.bytes.len().saturating_sub(from);
        lines.bytes.extend_from_slice(b"\r\n");
        Ok((start, line(start, name, value)))
    }
}

/// The field of a line that begins there.
fn line(start: usize, name: usize, value: usize) -> Field {
    let from = start.saturating_add(name).saturating_add(2);
    Field { name: Span::new(start, name), value: Span::new(from, value) }
}

/// Appends a string (5.2).
pub(crate) fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), NotHpack> {
    let (&first, rest) = block.split_first().ok_or(NotHpack)?;
    *block = rest;
    let length = integer::take(first, 7, block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(NotHpack)?;
    *block = rest;
    if first & 0x80 == 0 {
        out.extend_from_slice(text);
        Ok(())
    } else {
        huffman::decode(text, out).map_err(|_odd| NotHpack)
    }
}
