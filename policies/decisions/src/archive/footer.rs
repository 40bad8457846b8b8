//! The footer of a closed segment: its index, so that a question reads only the blocks that can answer it.
//!
//! Three sections (blocks, terms, traces) and a trailer of fixed size at the very end that says where they are, each
//! with its checksum. A start reads trailers only. A footer lies outside every proof and can be made again from the
//! blocks; one that does not fit is never trusted in part.

use super::{
    bits::Bits,
    index::{Entry, Field, Finder, Index, Want, deltas},
};
use crate::shelf::Span;

/// Bytes of a trailer.
pub(crate) const TRAILER: usize = 80;

/// First bytes of a trailer; the digits are the format version.
const MAGIC: [u8; 8] = *b"PCFTR001";

/// How the blocks of a term are written.
const DELTAS: u8 = 0;
const BITMAP: u8 = 1;

/// What is known of a closed segment without reading more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Index of the first record, and records.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) span: Span,
    /// Blocks.
    pub(crate) blocks: usize,
    /// Where the blocks end and the sections begin.
    pub(crate) start: u64,
    sections: [Section; 3],
}

/// A part of the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Section {
    len: u32,
    checksum: u32,
}

/// The parts of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Blocks = 0,
    Terms = 1,
    Traces = 2,
}

impl Trailer {
    /// Where a part stands in the file: offset and length.
    pub(crate) fn place(&self, part: Part) -> (u64, usize) {
        let before: u64 =
            self.sections.iter().take(part as usize).map(|section| u64::from(section.len)).sum();
        let len = self.sections.get(part as usize).map_or(0, |section| section.len);
        (self.start + before, len as usize)
    }

    /// Whether those are the bytes of that part.
    pub(crate) fn fits(&self, part: Part, bytes: &[u8]) -> bool {
        let section = self.sections.get(part as usize).copied().unwrap_or_default();
        bytes.len() == section.len as usize && crc32c::crc32c(bytes) == section.checksum
    }

    /// Reads a trailer, the last bytes of a file of `len` bytes.
    pub(crate) fn decode(bytes: &[u8], len: u64) -> Option<Trailer> {
        let (said, checksum) = bytes.split_last_chunk::<4>()?;
        let mut rest = said.strip_prefix(&MAGIC)?;
        if bytes.len() != TRAILER || crc32c::crc32c(said) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut long = || {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*bytes))
        };
        let (first, count) = (long()?, long()?);
        let span = Span { from: long()?.cast_signed(), to: long()?.cast_signed() };
        let start = long()?;
        let mut short = || {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_le_bytes(*bytes))
        };
        let blocks = usize::try_from(short()?).ok()?;
        let mut sections = [Section::default(); 3];
        for section in &mut sections {
            *section = Section { len: short()?, checksum: short()? };
        }
        let trailer = Trailer { first, count, span, blocks, start, sections };
        let (traces, traces_len) = trailer.place(Part::Traces);
        (traces + (traces_len + TRAILER) as u64 == len && first.checked_add(count).is_some())
            .then_some(trailer)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for long in
            [self.first, self.count, self.span.from.cast_unsigned(), self.span.to.cast_unsigned(), self.start]
        {
            out.extend_from_slice(&long.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.blocks).unwrap_or(u32::MAX).to_le_bytes());
        for section in self.sections {
            out.extend_from_slice(&section.len.to_le_bytes());
            out.extend_from_slice(&section.checksum.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }
}

/// The footer of an index whose blocks end at `start`, and its trailer.
pub(crate) fn encode(index: &Index, start: u64) -> (Vec<u8>, Trailer) {
    let mut out = Vec::new();
    let mut sections = [Section::default(); 3];
    let write: [fn(&Index, &mut Vec<u8>); 3] = [blocks, terms, traces];
    for (section, write) in sections.iter_mut().zip(write) {
        let before = out.len();
        write(index, &mut out);
        let bytes = out.get(before..).unwrap_or_default();
        *section =
            Section { len: u32::try_from(bytes.len()).unwrap_or(u32::MAX), checksum: crc32c::crc32c(bytes) };
    }
    let mut span = Span::EMPTY;
    index.blocks.iter().for_each(|block| span.join(block.span));
    let first = index.blocks.first().map_or(0, |block| block.first);
    let end = index.blocks.last().map_or(0, Entry::end);
    let trailer = Trailer { first, count: end - first, span, blocks: index.blocks.len(), start, sections };
    out.extend_from_slice(&trailer.encode());
    (out, trailer)
}

fn blocks(index: &Index, out: &mut Vec<u8>) {
    let mut before = Entry { first: 0, count: 0, offset: 0, len: 0, span: Span { from: 0, to: 0 } };
    for block in &index.blocks {
        varint(out, block.first - before.end());
        varint(out, block.count);
        varint(out, block.offset - (before.offset + before.len));
        varint(out, block.len);
        varint(out, zigzag(block.span.from.wrapping_sub(before.span.from)));
        varint(out, block.span.to.wrapping_sub(block.span.from).cast_unsigned());
        before = *block;
    }
}

/// The blocks of a footer; `None` for what is no such part.
pub(crate) fn read_blocks(mut bytes: &[u8], trailer: &Trailer) -> Option<Vec<Entry>> {
    let mut before = Entry { first: 0, count: 0, offset: 0, len: 0, span: Span { from: 0, to: 0 } };
    let mut blocks = Vec::with_capacity(trailer.blocks.min(bytes.len()));
    while !bytes.is_empty() {
        let mut next = || take_varint(&mut bytes);
        let first = before.end().checked_add(next()?)?;
        let count = next()?;
        let offset = before.offset.checked_add(before.len)?.checked_add(next()?)?;
        let len = next()?;
        let from = before.span.from.wrapping_add(unzigzag(next()?));
        let to = from.wrapping_add(next()?.cast_signed());
        first.checked_add(count)?;
        before = Entry { first, count, offset, len, span: Span { from, to } };
        blocks.push(before);
    }
    (blocks.len() == trailer.blocks).then_some(blocks)
}

fn terms(index: &Index, out: &mut Vec<u8>) {
    let size = index.blocks.len().div_ceil(8);
    for (field, terms) in Field::ALL.into_iter().zip(&index.terms) {
        let mut sorted: Vec<_> = terms.iter().collect();
        sorted.sort_unstable_by_key(|(value, _)| *value);
        for (value, posting) in sorted {
            out.push(field as u8);
            varint(out, value.len() as u64);
            out.extend_from_slice(value);
            let is_dense = posting.deltas.len() > size;
            out.push(if is_dense { BITMAP } else { DELTAS });
            if is_dense {
                let mut bitmap = vec![0_u8; size];
                for block in deltas(&posting.deltas) {
                    if let Some(byte) = bitmap.get_mut((block / 8) as usize) {
                        *byte |= 1 << (block % 8);
                    }
                }
                out.extend_from_slice(&bitmap);
            } else {
                varint(out, posting.deltas.len() as u64);
                out.extend_from_slice(&posting.deltas);
            }
        }
    }
}

fn traces(index: &Index, out: &mut Vec<u8>) {
    let mut hashes = index.traces.iter();
    for count in &index.trace_counts {
        varint(out, u64::from(*count));
        hashes.by_ref().take(*count as usize).for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }
}

/// The candidate blocks for some conditions; `traces` are empty where none is wanted. `None` for what is no footer.
pub(crate) fn candidates(
    trailer: &Trailer,
    wants: &[Want<'_>],
    mut terms: &[u8],
    mut traces: &[u8],
) -> Option<Bits> {
    let mut finder = Finder::new(wants, trailer.blocks);
    let size = trailer.blocks.div_ceil(8);
    while let Some((field, after)) = terms.split_first() {
        terms = after;
        let len = usize::try_from(take_varint(&mut terms)?).ok()?;
        let (value, after) = terms.split_at_checked(len)?;
        let (form, after) = after.split_first()?;
        terms = after;
        let len = match *form {
            DELTAS => usize::try_from(take_varint(&mut terms)?).ok()?,
            BITMAP => size,
            _ => return None,
        };
        let (blocks, after) = terms.split_at_checked(len)?;
        terms = after;
        // A field of a later version is nobody's condition here.
        let Some(field) = Field::ALL.get(usize::from(*field)) else { continue };
        match *form {
            DELTAS => finder.term(*field, value, || deltas(blocks)),
            _ => finder.term(*field, value, || ones(blocks)),
        }
    }
    if finder.wants_traces() {
        for block in 0..trailer.blocks {
            let len = usize::try_from(take_varint(&mut traces)?).ok()?.checked_mul(4)?;
            let (hashes, after) = traces.split_at_checked(len)?;
            traces = after;
            let (hashes, _) = hashes.as_chunks::<4>();
            finder.traces(block, |hash| {
                hashes.binary_search_by_key(&hash, |bytes| u32::from_le_bytes(*bytes)).is_ok()
            });
        }
    }
    Some(finder.finish())
}

fn ones(bitmap: &[u8]) -> impl Iterator<Item = u64> {
    let numbered = (0_u64..).zip(bitmap);
    numbered
        .flat_map(|(at, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit))
}

/// A number in as many bytes as it needs, seven bits each, the lowest first.
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests;
