//! A store that forgets: for tests, and for roles that keep nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::embedded::after;
use crate::history::History;
use crate::index::{Index, MapIndex};
use crate::watch::Change;
use crate::{Committed, Entry, Revision, Store, StoreError, Transaction, Watch};

/// A store in memory, with the rules of a durable one.
#[derive(Debug)]
pub struct Memory {
    index: MapIndex,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    history: History,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State { revision: Revision::ZERO, history: History::after(Revision::ZERO) };
        Arc::new(Self { index: MapIndex::default(), state: Mutex::new(state) })
    }

    fn apply(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.check_limits()?;
        let mut state = self.state.lock();
        for (key, compare) in &transaction.require {
            if !compare.holds(self.index.get(key)?.as_ref()) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        if transaction.is_empty() {
            return Ok(state.revision);
        }
        let revision = state.revision.next();
        let entries: BTreeMap<_, _> =
            after(&self.index, &transaction.changes, revision)?.into_iter().collect();
        let entries: Vec<_> = entries.into_iter().collect();
        self.index.apply(&entries, (revision, [0; 32]))?;
        state.revision = revision;
        let changes = transaction.changes.into_iter().map(|(key, value)| Change { revision, key, value });
        state.history.push(changes.collect());
        Ok(revision)
    }
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.index.get(key)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.index.range(prefix, after, limit)
    }

    fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let applied = self.apply(transaction);
        Box::pin(async move { applied })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        Ok(self.state.lock().history.watch(prefix, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_conforms() {
        crate::conformance::check(|| Memory::new() as Arc<dyn Store>).await.unwrap();
    }
}
