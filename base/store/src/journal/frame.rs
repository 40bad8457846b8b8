//! Frames: length u32, crc32c u32 over chain and payload, chain hash 32, payload. Big-endian throughout.
//! chain = SHA-256(previous chain, payload). A segment begins with magic, format, the chain before it, and a checksum.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::FORMAT;
use crate::Revision;
use crate::transaction::{MAX_KEY, MAX_VALUE};

const MAGIC: &[u8; 6] = b"PCJRNL";
/// Bytes of a segment's header.
pub(super) const HEADER: usize = 44;
/// Bytes of a frame before its payload.
pub(super) const PREFIX: usize = 40;
/// No frame is longer; a longer length is damage.
const MAX_PAYLOAD: usize = 64 << 20;

/// One commit as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) revision: Revision,
    /// Wall clock, nanoseconds since 1970.
    pub(crate) time: i64,
    pub(crate) changes: Vec<(Vec<u8>, Option<Bytes>)>,
}

/// Appends the frame of `commit` to `out` and gives the chain after it.
pub(crate) fn seal(commit: &Commit, chain: [u8; 32], out: &mut Vec<u8>) -> [u8; 32] {
    let payload = encode(commit);
    let chain = link(chain, &payload);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&chain), &payload);
    out.extend_from_slice(&length(payload.len()));
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&chain);
    out.extend_from_slice(&payload);
    chain
}

pub(super) fn header(chain: [u8; 32]) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &FORMAT.to_be_bytes(), &chain].concat();
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

/// What the beginning of a segment is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Chain([u8; 32]),
    Newer(u16),
    Bad,
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Header::Bad };
    let Some((body, crc)) = header.split_last_chunk::<4>() else { return Header::Bad };
    let Some(rest) = body.strip_prefix(MAGIC.as_slice()) else { return Header::Bad };
    let Some((format, chain)) = rest.split_first_chunk::<2>() else { return Header::Bad };
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Header::Bad;
    }
    match (u16::from_be_bytes(*format), <[u8; 32]>::try_from(chain)) {
        (FORMAT, Ok(chain)) => Header::Chain(chain),
        (format, _) if format > FORMAT => Header::Newer(format),
        _ => Header::Bad,
    }
}

/// What stands at the beginning of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole, intact frame of `length` bytes.
    Good { length: usize, chain: [u8; 32], payload: Bytes },
    /// The bytes end before the frame does.
    Short,
    /// The checksum or the length is wrong.
    Bad,
}

pub(super) fn read(bytes: &[u8]) -> Frame {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Frame::Short };
    let (head, chain) = prefix.split_at(8);
    let word = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let size = usize::try_from(word(head.first_chunk())).unwrap_or(usize::MAX);
    let crc = word(head.last_chunk());
    if size == 0 || size > MAX_PAYLOAD {
        return Frame::Bad;
    }
    let Some(payload) = rest.get(..size) else { return Frame::Short };
    if crc32c::crc32c_append(crc32c::crc32c(chain), payload) != crc {
        return Frame::Bad;
    }
    match chain.try_into() {
        Ok(chain) => Frame::Good {
            length: PREFIX.saturating_add(size),
            chain,
            payload: Bytes::copy_from_slice(payload),
        },
        Err(_) => Frame::Bad,
    }
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

fn encode(commit: &Commit) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&commit.revision.get().to_be_bytes());
    out.extend_from_slice(&commit.time.to_be_bytes());
    out.extend_from_slice(&length(commit.changes.len()));
    for (key, value) in &commit.changes {
        put(&mut out, key);
        match value {
            Some(value) => {
                out.push(1);
                put(&mut out, value);
            }
            None => out.push(0),
        }
    }
    out
}

/// Appends length and bytes.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Reads a payload; `None` when it is not exactly one commit.
pub(super) fn decode(payload: &[u8]) -> Option<Commit> {
    let mut reader = Reader(payload);
    let (revision, time, count) = (reader.u64()?, reader.u64()?.cast_signed(), reader.u32()?);
    let mut changes = Vec::new();
    for _ in 0..count {
        let key = reader.bytes(MAX_KEY)?.to_vec();
        let value = match reader.u8()? {
            0 => None,
            1 => Some(Bytes::copy_from_slice(reader.bytes(MAX_VALUE)?)),
            _ => return None,
        };
        changes.push((key, value));
    }
    reader.0.is_empty().then_some(Commit { revision: revision.into(), time, changes })
}

/// A cursor that never reads beyond its bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commits() -> impl Strategy<Value = Commit> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
        let change = (proptest::collection::vec(any::<u8>(), 0..20), value);
        (any::<u64>(), any::<i64>(), proptest::collection::vec(change, 0..5))
            .prop_map(|(revision, time, changes)| Commit { revision: revision.into(), time, changes })
    }

    proptest! {
        #[test]
        fn a_sealed_commit_reads_back(commit in commits(), chain in any::<[u8; 32]>()) {
            let mut out = Vec::new();
            let next = seal(&commit, chain, &mut out);
            let Frame::Good { length, chain: stored, payload } = read(&out) else { panic!("not read") };
            prop_assert_eq!(length, out.len());
            prop_assert_eq!(stored, next);
            prop_assert_eq!(link(chain, &payload), next);
            prop_assert_eq!(decode(&payload), Some(commit));
        }

        #[test]
        fn a_flipped_bit_is_found(commit in commits(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut out = Vec::new();
            seal(&commit, [7; 32], &mut out);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            let is_good = matches!(read(&out), Frame::Good { .. });
            prop_assert!(!is_good);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _frame = read(&bytes);
            let _header = read_header(&bytes);
            let _commit = decode(&bytes);
        }
    }

    #[test]
    fn a_header_of_a_newer_format_is_told_apart_from_damage() {
        let mut newer = header([1; 32]);
        newer[7] = 9;
        let crc = crc32c::crc32c(&newer[..40]);
        newer[40..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(read_header(&newer), Header::Newer(9));
        assert_eq!(read_header(&header([1; 32])), Header::Chain([1; 32]));
        newer[7] = 8;
        assert_eq!(read_header(&newer), Header::Bad);
    }
}
