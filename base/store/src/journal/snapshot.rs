//! The whole state at one revision, with the chain up to it, so that segments before it are no longer needed.

use bytes::Bytes;

use super::FORMAT;
use super::frame::{Reader, put};
use crate::Entry;
use crate::index::Position;
use crate::transaction::{MAX_KEY, MAX_VALUE};

const MAGIC: &[u8; 6] = b"PCSTAT";

pub(super) fn encode(entries: &[Entry], (revision, chain): Position) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &FORMAT.to_be_bytes(), &revision.get().to_be_bytes(), &chain].concat();
    out.extend_from_slice(&u64::try_from(entries.len()).unwrap_or(u64::MAX).to_be_bytes());
    for entry in entries {
        put(&mut out, &entry.key);
        put(&mut out, &entry.value);
        out.extend_from_slice(&entry.created.get().to_be_bytes());
        out.extend_from_slice(&entry.modified.get().to_be_bytes());
    }
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

/// Reads a snapshot; `None` when it is not whole and intact.
pub(super) fn decode(bytes: &[u8]) -> Option<(Vec<Entry>, Position)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let rest = body.strip_prefix(MAGIC.as_slice())?.strip_prefix(FORMAT.to_be_bytes().as_slice())?;
    let mut reader = Reader(rest);
    let (revision, chain, count) = (reader.u64()?, reader.hash()?, reader.u64()?);
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(Entry {
            key: reader.bytes(MAX_KEY)?.to_vec(),
            value: Bytes::copy_from_slice(reader.bytes(MAX_VALUE)?),
            created: reader.u64()?.into(),
            modified: reader.u64()?.into(),
        });
    }
    reader.0.is_empty().then_some((entries, (revision.into(), chain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_and_damage_is_found() {
        let entry = Entry {
            key: b"k".to_vec(),
            value: Bytes::from_static(b"v"),
            created: 1.into(),
            modified: 2.into(),
        };
        let bytes = encode(std::slice::from_ref(&entry), (2.into(), [3; 32]));
        assert_eq!(decode(&bytes), Some((vec![entry], (2.into(), [3; 32]))));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
