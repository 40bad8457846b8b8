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
    out.extend_from_slice(&super::size(entries.len()).to_be_bytes());
    for entry in entries {
        put(&mut out, &entry.key);
        put(&mut out, &entry.value);
        out.extend_from_slice(&entry.created.get().to_be_bytes());
        out.extend_from_slice(&entry.modified.get().to_be_bytes());
    }
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

/// What a snapshot file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Good(Vec<Entry>, Position),
    Newer(u16),
    Bad,
}

pub(super) fn decode(bytes: &[u8]) -> Snapshot {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Snapshot::Bad };
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Snapshot::Bad;
    }
    let Some(rest) = body.strip_prefix(MAGIC.as_slice()) else { return Snapshot::Bad };
    let mut reader = Reader(rest);
    match reader.u16() {
        Some(FORMAT) => {
            decode_state(reader).map_or(Snapshot::Bad, |(entries, at)| Snapshot::Good(entries, at))
        }
        Some(format) if format > FORMAT => Snapshot::Newer(format),
        _ => Snapshot::Bad,
    }
}

fn decode_state(mut reader: Reader<'_>) -> Option<(Vec<Entry>, Position)> {
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
        let (key, value) = (b"k".to_vec(), Bytes::from_static(b"v"));
        let entry = Entry { key, value, created: 1.into(), modified: 2.into() };
        let at = (2.into(), [3; 32]);
        let bytes = encode(std::slice::from_ref(&entry), at);
        assert_eq!(decode(&bytes), Snapshot::Good(vec![entry], at));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), Snapshot::Bad, "byte {at}");
            assert_eq!(decode(&bytes[..at]), Snapshot::Bad, "cut at {at}");
        }
    }
}
