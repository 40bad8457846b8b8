//! `PCSNAP01`: one whole snapshot in one file (ST9): the last good one of an enforcer, and what `policy export` writes.
//!
//! Eight bytes of format; manifest, note and each object with its length before it, objects with their hash; at the end
//! the SHA-256 of all before. Numbers are big endian. Pure. The sum finds torn and rotten files; whom to believe, the
//! note says.

use crate::content::Hash;
use prost::bytes::Bytes;
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"PCSNAP01";
const SUM: usize = 32;

/// The parts of a file, none of them believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) manifest: Bytes,
    pub(crate) note: Bytes,
    pub(crate) objects: HashMap<Hash, Bytes>,
}

/// Why a file is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it does not begin with PCSNAP01")]
    Format,
    #[error("its checksum is wrong")]
    Sum,
    #[error("it ends in the middle")]
    Short,
    #[error("an object is in it twice")]
    Twice,
}

/// The file of a manifest, its note and its objects.
pub(crate) fn encode<'a>(
    (manifest, note): (&[u8], &[u8]),
    objects: impl Iterator<Item = (&'a Hash, &'a [u8])>,
) -> Vec<u8> {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_unstable_by_key(|(hash, _)| **hash);
    let part = |content: &[u8]| content.len().saturating_add(8);
    let all = objects.iter().map(|(hash, content)| part(&hash.0).saturating_add(part(content)));
    let length = all.fold(MAGIC.len() + SUM + part(manifest) + part(note), usize::saturating_add);
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MAGIC);
    let mut put = |bytes: &[u8]| {
        // INVARIANT: a usize fits into 64 bits.
        out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    put(manifest);
    put(note);
    for (hash, content) in objects {
        put(&hash.0);
        put(content);
    }
    let sum = Hash::of(&out);
    out.extend_from_slice(&sum.0);
    out
}

impl SnapshotFile {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let objects = self.objects.iter().map(|(hash, content)| (hash, &**content));
        encode((&self.manifest, &self.note), objects)
    }

    pub(crate) fn decode(bytes: Vec<u8>) -> Result<SnapshotFile, FileError> {
        let mut all = Bytes::from(bytes);
        if all.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(FileError::Format);
        }
        let body = all.len().checked_sub(SUM).filter(|body| *body >= MAGIC.len()).ok_or(FileError::Short)?;
        let sum = all.split_off(body);
        if Hash::of(&all).0 != *sum {
            return Err(FileError::Sum);
        }
        let mut rest = all.split_off(MAGIC.len());
        let (manifest, note) = (part(&mut rest)?, part(&mut rest)?);
        let mut objects = HashMap::new();
        while !rest.is_empty() {
            let hash = <[u8; 32]>::try_from(&*part(&mut rest)?).map_err(|_length| FileError::Short)?;
            if objects.insert(Hash(hash), part(&mut rest)?).is_some() {
                return Err(FileError::Twice);
            }
        }
        Ok(SnapshotFile { manifest, note, objects })
    }
}

fn part(rest: &mut Bytes) -> Result<Bytes, FileError> {
    let length = rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(FileError::Short)?;
    let mut part = rest.split_off(8);
    let length =
        usize::try_from(length).ok().filter(|length| *length <= part.len()).ok_or(FileError::Short)?;
    *rest = part.split_off(length);
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(objects: &[&[u8]]) -> SnapshotFile {
        let objects =
            objects.iter().map(|content| (Hash::of(content), Bytes::copy_from_slice(content))).collect();
        SnapshotFile { manifest: Bytes::from_static(b"{}"), note: Bytes::from_static(b"note"), objects }
    }

    #[test]
    fn st9_a_snapshot_file_has_its_published_bytes() {
        let bytes = file(&[b"x"]).encode();
        let golden = [
            b"PCSNAP01".as_slice(),
            &[0, 0, 0, 0, 0, 0, 0, 2],
            b"{}",
            &[0, 0, 0, 0, 0, 0, 0, 4],
            b"note",
            &[0, 0, 0, 0, 0, 0, 0, 32],
            &Hash::of(b"x").0,
            &[0, 0, 0, 0, 0, 0, 0, 1],
            b"x",
        ]
        .concat();
        assert_eq!(bytes, [golden.as_slice(), &Hash::of(&golden).0].concat());
        assert_eq!(SnapshotFile::decode(bytes), Ok(file(&[b"x"])));
    }

    #[test]
    fn st9_every_changed_byte_and_every_cut_is_noticed() {
        let bytes = file(&[b"one", b"", b"three"]).encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(SnapshotFile::decode(changed).is_err(), "byte {at}");
            assert!(SnapshotFile::decode(bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
        assert!(SnapshotFile::decode([bytes.as_slice(), b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn st9_what_is_written_reads_back_and_any_bytes_are_read_or_refused(
            objects in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            other in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let objects: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(SnapshotFile::decode(file(&objects).encode()), Ok(file(&objects)));
            let mut framed = [MAGIC.as_slice(), &other].concat();
            let sum = Hash::of(&framed);
            framed.extend_from_slice(&sum.0);
            if let Ok(read) = SnapshotFile::decode(framed.clone()) {
                prop_assert_eq!(SnapshotFile::decode(read.encode()), Ok(read));
            }
        }
    }
}
