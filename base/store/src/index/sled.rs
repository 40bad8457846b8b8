//! The index on disk, in sled 0.34.7. Its flush is no disk sync (XT-25), and that is no matter: whatever it loses is
//! replayed from the journal, because changes and position are one atomic batch.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::{Index, Position};
use crate::{Entry, Revision, StoreError};

/// Cache cap, bytes (XT-26; sled's default is 1 GiB).
const CACHE: u64 = 64 << 20;
/// Entries live below this byte, the position below another.
const ENTRY: u8 = b'e';
const POSITION: &[u8] = b"p";

#[derive(Debug)]
pub(crate) struct SledIndex(sled::Db);

impl SledIndex {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(1_000));
        config.open().map(Self).map_err(failed)
    }
}

fn failed(error: sled::Error) -> StoreError {
    StoreError::Index(error.to_string())
}

fn damaged() -> StoreError {
    StoreError::Index("an entry cannot be read".to_owned())
}

fn stored(key: &[u8]) -> Vec<u8> {
    [&[ENTRY], key].concat()
}

fn encode(entry: &Entry) -> Vec<u8> {
    let numbers = [entry.created.get().to_be_bytes(), entry.modified.get().to_be_bytes()].concat();
    [numbers.as_slice(), &entry.value].concat()
}

fn decode(key: &[u8], bytes: &[u8]) -> Option<Entry> {
    let (created, rest) = bytes.split_first_chunk()?;
    let (modified, value) = rest.split_first_chunk()?;
    let revision = |number: &[u8; 8]| Revision::from(u64::from_be_bytes(*number));
    Some(Entry {
        key: key.to_vec(),
        value: Bytes::copy_from_slice(value),
        created: revision(created),
        modified: revision(modified),
    })
}

impl Index for SledIndex {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        let Some(bytes) = self.0.get(POSITION).map_err(failed)? else { return Ok(None) };
        let parts = bytes.split_first_chunk::<8>().and_then(|(revision, chain)| {
            Some((Revision::from(u64::from_be_bytes(*revision)), chain.try_into().ok()?))
        });
        parts.map(Some).ok_or_else(damaged)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let found = self.0.get(stored(key)).map_err(failed)?;
        found.map(|bytes| decode(key, &bytes).ok_or_else(damaged)).transpose()
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let prefix = stored(prefix);
        let from = match after.map(stored) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let mut entries = Vec::new();
        for found in self.0.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(limit) {
            let (key, value) = found.map_err(failed)?;
            if !key.starts_with(&prefix) {
                break;
            }
            let key = key.get(1..).ok_or_else(damaged)?;
            entries.push(decode(key, &value).ok_or_else(damaged)?);
        }
        Ok(entries)
    }

    fn apply(&self, changes: &[(Vec<u8>, Option<Entry>)], position: Position) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, entry) in changes {
            match entry {
                Some(entry) => batch.insert(stored(key), encode(entry)),
                None => batch.remove(stored(key)),
            }
        }
        let (revision, chain) = position;
        batch.insert(POSITION, [revision.get().to_be_bytes().as_slice(), &chain].concat());
        self.0.apply_batch(batch).map_err(failed)
    }
}
