//! The index on disk, in sled 0.34.7. Its flush is no disk sync (XT-25), and that is no matter: whatever it loses is
//! replayed from the journal, because changes and position are one atomic batch.
//!
//! It is not trusted: every entry carries a checksum, the position the number of entries, and a panic of sled is an error
//! of the index. Values are cut into pieces below 4 KiB (XT-26).

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Index, Position};
use crate::overlay::Changed;
use crate::{Entry, Revision, StoreError};

/// Cache cap, bytes (XT-26; sled's default is 1 GiB).
const CACHE: u64 = 64 << 20;
/// How long sled's own lock is waited for.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// Longest piece of a value, bytes.
const PIECE: usize = 3_072;
/// Entries live below this byte, further pieces of their values below the second, the position below the third.
const ENTRY: u8 = b'e';
const VALUE: u8 = b'v';
const POSITION: &[u8] = b"p";

/// The lock lets a reader see an entry and the pieces of its value as one.
#[derive(Debug)]
pub(crate) struct SledIndex(RwLock<sled::Db>);

impl SledIndex {
    /// The caller holds the lock of the store. So whoever still has sled's own is about to end, and is waited for.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(1_000));
        let mut opened = guarded(|| config.open().map_err(failed));
        for _ in 0..ATTEMPTS {
            match &opened {
                Err(StoreError::Index(error)) if error.contains("could not acquire lock") => {
                    std::thread::sleep(PAUSE);
                    opened = guarded(|| config.open().map_err(failed));
                }
                _ => break,
            }
        }
        opened.map(|db| Self(RwLock::new(db)))
    }

    /// Reads everything: each entry by its checksum, all of them by their number.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        let db = self.0.read();
        guarded(|| {
            let stands = db.get(POSITION).map_err(failed)?;
            let (_, expected) = stands.map_or(Ok((None, 0)), |bytes| decode_position(&bytes))?;
            let mut found = 0u64;
            for row in db.scan_prefix([ENTRY]) {
                let (key, head) = row.map_err(failed)?;
                read(&db, key.get(1..).ok_or_else(damaged)?, &head)?;
                found = found.saturating_add(1);
            }
            if found == expected { Ok(()) } else { Err(StoreError::Index("entries are missing".to_owned())) }
        })
    }
}

impl Index for SledIndex {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        let db = self.0.read();
        guarded(|| match db.get(POSITION).map_err(failed)? {
            Some(bytes) => decode_position(&bytes).map(|(position, _)| position),
            None => Ok(None),
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let db = self.0.read();
        guarded(|| {
            let found = db.get(named(ENTRY, key)).map_err(failed)?;
            found.map(|head| read(&db, key, &head)).transpose()
        })
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let prefix = named(ENTRY, prefix);
        let from = match after.map(|after| named(ENTRY, after)) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let db = self.0.read();
        guarded(|| {
            let mut entries = Vec::new();
            for row in db.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(limit) {
                let (key, head) = row.map_err(failed)?;
                if !key.starts_with(&prefix) {
                    break;
                }
                entries.push(read(&db, key.get(1..).ok_or_else(damaged)?, &head)?);
            }
            Ok(entries)
        })
    }

    fn apply(&self, changes: &Changed, position: Position) -> Result<(), StoreError> {
        let db = self.0.write();
        guarded(|| {
            let stands = db.get(POSITION).map_err(failed)?;
            let (_, mut count) = stands.map_or(Ok((None, 0)), |bytes| decode_position(&bytes))?;
            let mut batch = sled::Batch::default();
            for (key, entry) in changes {
                if let Some(head) = db.get(named(ENTRY, key)).map_err(failed)? {
                    let head = Head::decode(&head).ok_or_else(damaged)?;
                    (1..head.pieces()).for_each(|number| batch.remove(piece(key, number)));
                    batch.remove(named(ENTRY, key));
                    count = count.checked_sub(1).ok_or_else(damaged)?;
                }
                if let Some(entry) = entry {
                    put(&mut batch, entry);
                    count = count.saturating_add(1);
                }
            }
            batch.insert(POSITION, encode_position(position, count));
            db.apply_batch(batch).map_err(failed)
        })
    }
}

/// Runs `work` on sled; a panic in it is an error of the index.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_panic| Err(StoreError::Index("sled panicked".to_owned())))
}

fn failed(error: sled::Error) -> StoreError {
    StoreError::Index(error.to_string())
}

fn damaged() -> StoreError {
    StoreError::Index("an entry cannot be read".to_owned())
}

fn named(kind: u8, key: &[u8]) -> Vec<u8> {
    [&[kind], key].concat()
}

/// Name of a further piece of the value of `key`.
fn piece(key: &[u8], number: u32) -> Vec<u8> {
    [&[VALUE], key, &number.to_be_bytes()].concat()
}

/// What stands before the first piece of a value.
struct Head {
    created: u64,
    modified: u64,
    length: u32,
    crc: u32,
}

impl Head {
    const SIZE: usize = 24;

    fn encode(&self) -> [Vec<u8>; 4] {
        let (created, modified) = (self.created.to_be_bytes(), self.modified.to_be_bytes());
        [
            created.to_vec(),
            modified.to_vec(),
            self.length.to_be_bytes().to_vec(),
            self.crc.to_be_bytes().to_vec(),
        ]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (created, rest) = bytes.split_first_chunk()?;
        let (modified, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (crc, _) = rest.split_first_chunk()?;
        let (created, modified) = (u64::from_be_bytes(*created), u64::from_be_bytes(*modified));
        Some(Self { created, modified, length: u32::from_be_bytes(*length), crc: u32::from_be_bytes(*crc) })
    }

    fn of(entry: &Entry) -> Self {
        let length = u32::try_from(entry.value.len()).unwrap_or(u32::MAX);
        let (created, modified) = (entry.created.get(), entry.modified.get());
        let mut head = Self { created, modified, length, crc: 0 };
        head.crc = head.checksum(&entry.key, &entry.value);
        head
    }

    fn checksum(&self, key: &[u8], value: &[u8]) -> u32 {
        let numbers = [self.created, self.modified, u64::from(self.length)];
        let crc = numbers.iter().fold(0, |crc, number| crc32c::crc32c_append(crc, &number.to_be_bytes()));
        crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value)
    }

    /// Pieces of its value; the first stands behind the head.
    fn pieces(&self) -> u32 {
        self.length.div_ceil(u32::try_from(PIECE).unwrap_or(u32::MAX)).max(1)
    }
}

fn put(batch: &mut sled::Batch, entry: &Entry) {
    let (first, mut rest) = entry.value.split_at_checked(PIECE).unwrap_or((&entry.value, &[]));
    let head = Head::of(entry).encode().concat();
    batch.insert(named(ENTRY, &entry.key), [head.as_slice(), first].concat());
    let mut number = 1u32;
    while !rest.is_empty() {
        let (next, further) = rest.split_at_checked(PIECE).unwrap_or((rest, &[]));
        batch.insert(piece(&entry.key, number), next);
        (rest, number) = (further, number.saturating_add(1));
    }
}

fn read(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Entry, StoreError> {
    let head = Head::decode(stored).ok_or_else(damaged)?;
    let mut value = stored.get(Head::SIZE..).ok_or_else(damaged)?.to_vec();
    for number in 1..head.pieces() {
        value.extend_from_slice(&db.get(piece(key, number)).map_err(failed)?.ok_or_else(damaged)?);
    }
    if u32::try_from(value.len()) != Ok(head.length) || head.checksum(key, &value) != head.crc {
        return Err(damaged());
    }
    let (created, modified) = (Revision::from(head.created), Revision::from(head.modified));
    Ok(Entry { key: key.to_vec(), value: Bytes::from(value), created, modified })
}

/// Revision, chain, number of entries, checksum.
fn encode_position((revision, chain): Position, count: u64) -> Vec<u8> {
    let mut out = [revision.get().to_be_bytes().as_slice(), &chain, &count.to_be_bytes()].concat();
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

fn decode_position(bytes: &[u8]) -> Result<(Option<Position>, u64), StoreError> {
    let parts = || {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (revision, rest) = body.split_first_chunk::<8>()?;
        let (chain, count) = rest.split_first_chunk::<32>()?;
        let count = u64::from_be_bytes(count.try_into().ok()?);
        let intact = crc32c::crc32c(body) == u32::from_be_bytes(*crc);
        intact.then_some((Some((Revision::from(u64::from_be_bytes(*revision)), *chain)), count))
    };
    parts().ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: [u8; 32] = [7; 32];

    fn entry(key: &str, size: usize) -> (Vec<u8>, Option<Entry>) {
        let value = Bytes::from(vec![b'v'; size]);
        let entry = Entry { key: key.into(), value, created: 1.into(), modified: 2.into() };
        (key.into(), Some(entry))
    }

    fn filled(dir: &Path) -> SledIndex {
        let index = SledIndex::open(dir).unwrap();
        let sizes = [("a", 0), ("b", PIECE - 1), ("c", PIECE), ("d", PIECE + 1), ("e", 10 * PIECE + 5)];
        index.apply(&sizes.map(|(key, size)| entry(key, size)).into(), (2.into(), CHAIN)).unwrap();
        index
    }

    #[test]
    fn xt_26_values_of_any_length_read_back_in_pieces_below_4_kib() {
        let dir = tempfile::tempdir().unwrap();
        let index = filled(dir.path());
        let found = index.range(b"", None, 10).unwrap();
        let sizes: Vec<_> = found.iter().map(|entry| entry.value.len()).collect();
        assert_eq!(sizes, [0, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 5]);
        index.verify().unwrap();
        for row in index.0.read().iter() {
            assert!(row.unwrap().1.len() < 4_096);
        }
        assert_eq!(index.position().unwrap(), Some((2.into(), CHAIN)));
    }

    #[test]
    fn a_value_that_shrinks_or_goes_leaves_no_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let index = filled(dir.path());
        let changes = [entry("e", 1), ("d".into(), None), ("never".into(), None)].into();
        index.apply(&changes, (3.into(), CHAIN)).unwrap();
        assert_eq!(index.0.read().scan_prefix([VALUE]).count(), 0);
        assert_eq!(index.get(b"e").unwrap().unwrap().value.len(), 1);
        index.verify().unwrap();
    }

    #[test]
    fn fs3_damage_and_missing_entries_are_found() {
        let damage: [fn(&sled::Db); 5] = [
            |db| drop(db.remove(b"eb").unwrap()),
            |db| drop(db.remove(piece(b"d", 1)).unwrap()),
            |db| drop(db.insert(piece(b"e", 3), vec![b'x'; PIECE]).unwrap()),
            |db| drop(db.insert(b"ea", db.get(b"ec").unwrap().unwrap()).unwrap()),
            |db| drop(db.insert(POSITION, b"short").unwrap()),
        ];
        for (number, damage) in damage.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let index = filled(dir.path());
            damage(&index.0.read());
            assert!(index.verify().is_err(), "damage {number}");
        }
    }
}
