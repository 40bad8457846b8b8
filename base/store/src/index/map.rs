//! An index in memory: for the memory store, for journals on a simulated disk, and when sled has failed.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use super::{Index, Position};
use crate::overlay::Changed;
use crate::{Entry, StoreError};

#[derive(Debug, Default)]
pub(crate) struct MapIndex(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Vec<u8>, Entry>,
    position: Option<Position>,
}

impl Index for MapIndex {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        Ok(self.0.read().position)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        Ok(self.0.read().entries.get(key).cloned())
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.0.read();
        let found = state.entries.range::<[u8], _>((from, Bound::Unbounded));
        let below = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(below.map(|(_, entry)| entry.clone()).collect())
    }

    fn apply(&self, changes: &Changed, position: Position) -> Result<(), StoreError> {
        let mut state = self.0.write();
        for (key, entry) in changes {
            match entry {
                Some(entry) => state.entries.insert(key.clone(), entry.clone()),
                None => state.entries.remove(key),
            };
        }
        state.position = Some(position);
        Ok(())
    }
}
