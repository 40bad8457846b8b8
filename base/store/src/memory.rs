//! A store that forgets: for tests, and for roles that keep nothing.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::history::Feed;
use crate::index::{Index, MapIndex};
use crate::overlay::Overlay;
use crate::watch::Change;
use crate::{Committed, Entry, Revision, Store, StoreError, Transaction, Watch};

/// A store in memory, with the rules of a durable one.
#[derive(Debug)]
pub struct Memory {
    index: MapIndex,
    feed: Feed,
    revision: Mutex<Revision>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (feed, revision) = (Feed::after(Revision::ZERO), Mutex::new(Revision::ZERO));
        Arc::new(Self { index: MapIndex::default(), feed, revision })
    }

    fn apply(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.check_limits()?;
        let mut newest = self.revision.lock();
        let mut overlay = Overlay::new(&self.index);
        overlay.check(&transaction)?;
        if transaction.is_empty() {
            return Ok(*newest);
        }
        let revision = newest.next();
        overlay.commit(&transaction.changes, revision)?;
        self.index.apply(&overlay.into_changed(), (revision, [0; 32]))?;
        *newest = revision;
        self.feed.publish(Change::all(transaction.changes, revision).collect(), revision);
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
        *self.revision.lock()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let applied = self.apply(transaction);
        Box::pin(async move { applied })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        Ok(self.feed.watch(prefix, from))
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
