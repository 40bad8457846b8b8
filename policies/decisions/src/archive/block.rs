//! Blocks: how 256 records stand together in a segment (decisions.md chapter 9).
//!
//! A block is a header of 40 bytes and the records: as the entry bundle of a tile (each leaf after its length, u16 big
//! endian), raw or compressed. The header carries the times of the block, so that one can be passed over unread also
//! where the index of its segment is lost. Called by the archive and by readers; a block whose checksum does not fit is
//! refused as a whole.

use zstd::bulk::{Compressor, Decompressor};

use crate::shelf::Span;

/// Records of a block; blocks begin at multiples of it, except the first of a ledger that began elsewhere.
pub(crate) const SIZE: u64 = 256;

/// Bytes before the records.
pub(crate) const HEADER: usize = 40;

/// First bytes of a block.
pub(crate) const MAGIC: [u8; 4] = *b"PCBK";

/// Most bytes of the raw form.
const MAX_RAW: usize = SIZE as usize * (2 + u16::MAX as usize);

/// Compression level: the fastest of zstd's own.
const LEVEL: i32 = 1;

/// Nanoseconds of a millisecond, the unit in which the header says how long a block's times stretch.
const MILLI: i64 = 1_000_000;

/// How the records of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    None,
    Zstd,
}

/// What stands before the records of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    codec: Codec,
    /// Index of its first record.
    pub(crate) first: u64,
    /// Records.
    pub(crate) count: u64,
    raw: usize,
    stored: usize,
    /// The times in it; the end is rounded up.
    pub(crate) span: Span,
    checksum: u32,
}

/// Why bytes are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBlock {
    #[error("the block is cut off")]
    Cut,
    #[error("the header of the block is damaged")]
    Header,
    #[error("the checksum of the block is wrong")]
    Checksum,
    #[error("the block does not hold what its header says")]
    Content,
}

/// The index at which the block of `index` ends.
pub(crate) fn end_of(index: u64) -> u64 {
    (index / SIZE + 1).saturating_mul(SIZE)
}

impl Header {
    /// Bytes of the whole block.
    pub(crate) fn len(&self) -> u64 {
        (HEADER + self.stored) as u64
    }

    /// Index after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }

    fn encode(&self, data: &[u8]) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[u8::from(self.codec == Codec::Zstd), 0]);
        out.extend_from_slice(&u16::try_from(self.count).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.raw).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.stored).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.span.from.to_le_bytes());
        out.extend_from_slice(&width(self.span).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), data);
        out.extend_from_slice(&checksum.to_le_bytes());
        <[u8; HEADER]>::try_from(out).unwrap_or([0; HEADER])
    }

    /// Reads a header. Only the checksum over the whole block says that it is true.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, BadBlock> {
        let mut rest = bytes;
        if take::<4>(&mut rest)? != MAGIC {
            return Err(BadBlock::Header);
        }
        let codec = match take::<2>(&mut rest)? {
            [0, 0] => Codec::None,
            [1, 0] => Codec::Zstd,
            _ => return Err(BadBlock::Header),
        };
        let count = u64::from(u16::from_le_bytes(take(&mut rest)?));
        let first = u64::from_le_bytes(take(&mut rest)?);
        let raw = size(take(&mut rest)?)?;
        let stored = size(take(&mut rest)?)?;
        let from = i64::from_le_bytes(take(&mut rest)?);
        let width = u32::from_le_bytes(take(&mut rest)?);
        let checksum = u32::from_le_bytes(take(&mut rest)?);
        let is_possible = (1..=SIZE).contains(&count)
            && first.checked_add(count).is_some()
            && raw <= MAX_RAW
            && stored <= raw
            && (codec == Codec::Zstd || stored == raw);
        let header = Header { codec, first, count, raw, stored, span: widened(from, width), checksum };
        if is_possible { Ok(header) } else { Err(BadBlock::Header) }
    }
}

/// The times that a header says.
fn widened(from: i64, width: u32) -> Span {
    let to = match width {
        u32::MAX => i64::MAX,
        width => from.saturating_add(i64::from(width).saturating_mul(MILLI)),
    };
    Span { from, to }
}

fn width(span: Span) -> u32 {
    let millis = span.to.saturating_sub(span.from).max(0) as u64;
    u32::try_from(millis.div_ceil(MILLI.unsigned_abs())).unwrap_or(u32::MAX)
}

fn size(bytes: [u8; 4]) -> Result<usize, BadBlock> {
    usize::try_from(u32::from_le_bytes(bytes)).or(Err(BadBlock::Header))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadBlock> {
    let (part, after) = rest.split_first_chunk::<N>().ok_or(BadBlock::Cut)?;
    *rest = after;
    Ok(*part)
}

/// Whether the bytes are one whole block, and its header.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, BadBlock> {
    let header = Header::decode(bytes)?;
    if bytes.len() < HEADER + header.stored {
        return Err(BadBlock::Cut);
    }
    let (head, data) = bytes.split_at_checked(HEADER).ok_or(BadBlock::Cut)?;
    let (said, data) = (head.get(..HEADER - 4).unwrap_or_default(), data.get(..header.stored));
    if crc32c::crc32c_append(crc32c::crc32c(said), data.unwrap_or_default()) != header.checksum {
        return Err(BadBlock::Checksum);
    }
    Ok(header)
}

/// Makes blocks, one after the other; its buffers are used again.
pub(crate) struct Packer {
    zstd: Compressor<'static>,
    raw: Vec<u8>,
    stored: Vec<u8>,
    block: Vec<u8>,
    first: u64,
    count: u64,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Packer {
    pub(crate) fn new() -> std::io::Result<Packer> {
        Ok(Packer {
            zstd: Compressor::new(LEVEL)?,
            raw: Vec::new(),
            stored: Vec::new(),
            block: Vec::new(),
            first: 0,
            count: 0,
        })
    }

    /// Begins a block at that index.
    pub(crate) fn begin(&mut self, first: u64) {
        self.raw.clear();
        (self.first, self.count) = (first, 0);
    }

    /// Index of the first record it took.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Index of the next record it takes.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.count
    }

    /// Takes a record. A leaf is never longer than a frame allows.
    pub(crate) fn push(&mut self, leaf: &[u8]) {
        let len = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        self.raw.extend_from_slice(&len.to_be_bytes());
        self.raw.extend_from_slice(leaf.get(..usize::from(len)).unwrap_or(leaf));
        self.count += 1;
    }

    /// What was taken.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The block of what was taken, all of it within these times.
    pub(crate) fn finish(&mut self, span: Span) -> (Header, &[u8]) {
        self.stored.clear();
        self.stored.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        let packed = self.zstd.compress_to_buffer(&self.raw, &mut self.stored);
        let is_smaller = packed.is_ok_and(|len| len < self.raw.len());
        let (codec, data) = if is_smaller { (Codec::Zstd, &self.stored) } else { (Codec::None, &self.raw) };
        let header = Header {
            codec,
            first: self.first,
            count: self.count,
            raw: self.raw.len(),
            stored: data.len(),
            span: widened(span.from, width(span)),
            checksum: 0,
        };
        self.block.clear();
        self.block.extend_from_slice(&header.encode(data));
        self.block.extend_from_slice(data);
        (header, &self.block)
    }
}

/// Opens blocks, one after the other.
#[derive(Default)]
pub(crate) struct Unpacker {
    zstd: Option<Decompressor<'static>>,
    raw: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// The header of a block and its raw form, all of which fits together.
    pub(crate) fn open(&mut self, bytes: &[u8]) -> Result<(Header, &[u8]), BadBlock> {
        let header = check(bytes)?;
        let data = bytes.get(HEADER..HEADER + header.stored).ok_or(BadBlock::Cut)?;
        self.raw.clear();
        match header.codec {
            Codec::None => self.raw.extend_from_slice(data),
            Codec::Zstd => {
                self.raw.reserve(header.raw);
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    empty => empty.insert(Decompressor::new().or(Err(BadBlock::Content))?),
                };
                zstd.decompress_to_buffer(data, &mut self.raw).or(Err(BadBlock::Content))?;
            }
        }
        let mut rest = self.raw.as_slice();
        let whole = leaves(&mut rest).count() as u64;
        if self.raw.len() != header.raw || whole != header.count || !rest.is_empty() {
            return Err(BadBlock::Content);
        }
        Ok((header, &self.raw))
    }
}

/// The leaves of a raw form; what is behind the last whole one stays in `rest`.
pub(crate) fn leaves<'a>(rest: &mut &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (leaf, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        *rest = after;
        Some(leaf)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(first: u64, records: &[(Vec<u8>, i64)]) -> Vec<u8> {
        let mut packer = Packer::new().unwrap();
        packer.begin(first);
        let mut span = Span::EMPTY;
        for (leaf, time) in records {
            packer.push(leaf);
            span.add(*time);
        }
        packer.finish(span).1.to_vec()
    }

    #[test]
    fn decisions_block_header_has_its_documented_form() {
        let block = pack(512, &[(b"ab".to_vec(), 7), (b"c".to_vec(), 2_000_008)]);
        assert_eq!(block.len(), HEADER + 7, "too small to be compressed");
        assert_eq!(block[..8], *b"PCBK\0\0\x02\0");
        assert_eq!(block[8..16], 512_u64.to_le_bytes());
        assert_eq!((block[16], block[20]), (7, 7));
        assert_eq!(block[24..32], 7_i64.to_le_bytes());
        assert_eq!(block[32..36], 3_u32.to_le_bytes(), "rounded up to whole milliseconds");
        // The entry bundle of a tile.
        assert_eq!(block[40..], *b"\0\x02ab\0\x01c");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_block_is_found() {
        let records: Vec<_> = (0..40).map(|n| (vec![b'x'; 20 + n], n as i64)).collect();
        let block = pack(0, &records);
        assert!(block.len() < 400, "compressed: {}", block.len());
        let mut unpacker = Unpacker::default();
        unpacker.open(&block).unwrap();
        for at in 0..block.len() {
            assert!(unpacker.open(&block[..at]).is_err());
            for bit in 0..8 {
                let mut bad = block.clone();
                bad[at] ^= 1 << bit;
                assert!(unpacker.open(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
        unpacker.open(&block).unwrap();
    }

    #[test]
    fn blocks_end_at_multiples_of_their_size() {
        assert_eq!([0, 255, 256, 300].map(end_of), [256, 256, 512, 512]);
    }

    proptest! {
        #[test]
        fn a_block_reads_back(
            first in 0..1_u64 << 60,
            records in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<i32>()), 1..256),
        ) {
            let records: Vec<_> = records.into_iter().map(|(leaf, time)| (leaf, i64::from(time) * 1_000)).collect();
            let block = pack(first, &records);
            let mut unpacker = Unpacker::default();
            let (header, mut raw) = unpacker.open(&block).unwrap();
            prop_assert_eq!((header.first, header.count, header.len()), (first, records.len() as u64, block.len() as u64));
            let times = records.iter().map(|(_, time)| *time);
            prop_assert_eq!(header.span.from, times.clone().min().unwrap());
            prop_assert!(header.span.to >= times.clone().max().unwrap());
            prop_assert!(header.span.to - times.max().unwrap() < MILLI);
            let read: Vec<_> = leaves(&mut raw).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, records.into_iter().map(|(leaf, _)| leaf).collect::<Vec<_>>());
        }

        #[test]
        fn random_bytes_are_no_block_and_never_panic(mut bytes: Vec<u8>, magic: bool) {
            if magic {
                bytes.splice(0..0, *b"PCBK\x01\0");
            }
            prop_assert!(Unpacker::default().open(&bytes).is_err());
        }
    }
}
