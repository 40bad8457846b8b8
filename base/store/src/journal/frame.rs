//! The bytes of a segment: a header, then records. Big-endian throughout; a record lies at one offset of one segment only.
//!
//! header = magic 6, format u16, last revision before it u64, chain before it 32, crc u32.
//! record = magic u32, payload length u32, head crc u32, body crc u32, chain 32, payload; the head crc covers the segment's
//! own crc, the offset and the length, so that a copy of old bytes is not taken for a record. Chain = SHA-256(chain before,
//! payload).

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::FORMAT;
use crate::Revision;
use crate::index::Position;
use crate::transaction::{Changes, MAX_KEY, MAX_VALUE};

const SEGMENT: &[u8; 6] = b"PCJRNL";
const RECORD: &[u8; 4] = b"\x8fPCR";
/// Bytes of a segment's header.
pub(super) const HEADER: usize = 52;
/// Bytes of a record before its payload.
pub(super) const PREFIX: usize = 48;
/// No record is longer. Twice what the writer makes: a batch and the transaction that fills it.
const MAX_PAYLOAD: usize = 64 << 20;

/// Commits that became durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Revision of the first commit; the others follow.
    pub(crate) first: Revision,
    /// Wall clock, nanoseconds since 1970.
    pub(crate) time: i64,
    pub(crate) commits: Vec<Changes>,
}

impl Record {
    /// Revision of the last commit.
    pub(crate) fn last(&self) -> Revision {
        let before = self.first.get().saturating_sub(1);
        before.saturating_add(super::size(self.commits.len())).into()
    }

    /// Each commit with its revision.
    pub(crate) fn commits(&self) -> impl Iterator<Item = (Revision, &Changes)> {
        (self.first.get()..).map(Revision::from).zip(&self.commits)
    }
}

/// The beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) bytes: Vec<u8>,
    /// Binds the records to this segment.
    pub(super) salt: u32,
}

pub(super) fn header((revision, chain): Position) -> Header {
    let mut bytes =
        [SEGMENT.as_slice(), &FORMAT.to_be_bytes(), &revision.get().to_be_bytes(), &chain].concat();
    let salt = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&salt.to_be_bytes());
    Header { bytes, salt }
}

/// What the beginning of a segment is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Good { before: Position, salt: u32 },
    Newer(u16),
    Bad,
}

pub(super) fn read_header(bytes: &[u8]) -> Beginning {
    let parts = || {
        let header = bytes.first_chunk::<HEADER>()?;
        let (body, crc) = header.split_last_chunk::<4>()?;
        let salt = u32::from_be_bytes(*crc);
        let mut reader = Reader(body.strip_prefix(SEGMENT.as_slice())?);
        let (format, revision, chain) = (reader.u16()?, reader.u64()?, reader.hash()?);
        (crc32c::crc32c(body) == salt).then_some((format, (Revision::from(revision), chain), salt))
    };
    match parts() {
        Some((FORMAT, before, salt)) => Beginning::Good { before, salt },
        Some((format, ..)) if format > FORMAT => Beginning::Newer(format),
        _ => Beginning::Bad,
    }
}

/// The bytes of `record` at `offset` of the segment with `salt`, and the chain after it.
pub(super) fn seal(record: &Record, chain: [u8; 32], salt: u32, offset: u64) -> (Vec<u8>, [u8; 32]) {
    let payload = encode(record);
    let (chain, length) = (link(chain, &payload), length(payload.len()));
    let body = crc32c::crc32c_append(crc32c::crc32c(&chain), &payload);
    let head = head_crc(salt, offset, length);
    let parts = [RECORD.as_slice(), &length, &head.to_be_bytes(), &body.to_be_bytes(), &chain, &payload];
    (parts.concat(), chain)
}

/// A whole, intact record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Offset of what follows.
    pub(super) end: usize,
    pub(super) chain: [u8; 32],
    pub(super) payload: &'a [u8],
}

/// The record at `at`; `None` when it is not whole and intact.
pub(super) fn read(bytes: &[u8], at: usize, salt: u32) -> Option<Found<'_>> {
    let end = begun(bytes, at, salt)?;
    let record = bytes.get(at..end)?;
    let (prefix, payload) = record.split_first_chunk::<PREFIX>()?;
    let mut reader = Reader(prefix.get(12..)?);
    let (crc, chain) = (reader.u32()?, reader.hash()?);
    let intact = crc32c::crc32c_append(crc32c::crc32c(&chain), payload) == crc;
    intact.then_some(Found { end, chain, payload })
}

/// Whether a record was begun at `at`: the offset where it ends, which may lie behind the end of the file.
pub(super) fn begun(bytes: &[u8], at: usize, salt: u32) -> Option<usize> {
    let mut reader = Reader(bytes.get(at..)?.strip_prefix(RECORD.as_slice())?);
    let (size, crc) = (reader.u32()?, reader.u32()?);
    let length = usize::try_from(size).ok().filter(|length| *length <= MAX_PAYLOAD)?;
    let intact = head_crc(salt, super::size(at), size.to_be_bytes()) == crc;
    intact.then(|| at.saturating_add(PREFIX).saturating_add(length))
}

/// Whether a bad record at `at` was the last thing written: nothing was begun behind it.
pub(super) fn is_tail(bytes: &[u8], at: usize, salt: u32) -> bool {
    let something_follows = begun(bytes, at, salt).is_some_and(|end| bytes.len() > end);
    let behind = at.saturating_add(1)..bytes.len();
    !something_follows && !behind.into_iter().any(|behind| begun(bytes, behind, salt).is_some())
}

fn head_crc(salt: u32, offset: u64, length: [u8; 4]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), &offset.to_be_bytes());
    crc32c::crc32c_append(crc, &length)
}

/// The chain after `payload`.
pub(super) fn link(chain: [u8; 32], payload: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&chain);
    hash.update(payload);
    let mut next = [0; 32];
    next.copy_from_slice(hash.finish().as_ref());
    next
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&record.first.get().to_be_bytes());
    out.extend_from_slice(&record.time.to_be_bytes());
    out.extend_from_slice(&length(record.commits.len()));
    for changes in &record.commits {
        out.extend_from_slice(&length(changes.len()));
        for (key, value) in changes {
            put(&mut out, key);
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                put(&mut out, value);
            }
        }
    }
    out
}

/// Appends length and bytes.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Reads a payload; `None` when it is not exactly one record.
pub(super) fn decode(payload: &[u8]) -> Option<Record> {
    let mut reader = Reader(payload);
    let (first, time, count) = (reader.u64()?, reader.u64()?.cast_signed(), reader.u32()?);
    let mut commits = Vec::new();
    for _ in 0..count {
        let mut changes = Changes::new();
        for _ in 0..reader.u32()? {
            let key = reader.bytes(MAX_KEY)?.to_vec();
            let value = match reader.u8()? {
                0 => None,
                1 => Some(Bytes::copy_from_slice(reader.bytes(MAX_VALUE)?)),
                _ => return None,
            };
            changes.push((key, value));
        }
        commits.push(changes);
    }
    (reader.0.is_empty() && !commits.is_empty()).then_some(Record { first: first.into(), time, commits })
}

/// A cursor that never reads beyond its bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    pub(super) fn hash(&mut self) -> Option<[u8; 32]> {
        self.chunk()
    }

    /// Length and bytes, at most `limit`.
    pub(super) fn bytes(&mut self, limit: usize) -> Option<&'a [u8]> {
        let size = usize::try_from(self.u32()?).ok().filter(|size| *size <= limit)?;
        let (bytes, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
