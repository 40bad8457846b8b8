//! What a store holds once commits that its index does not yet show are counted in: the one place where changes become
//! entries. Used to decide a batch, to replay the journal, and by the memory store.

use std::collections::BTreeMap;

use crate::index::Index;
use crate::transaction::{Changes, Transaction};
use crate::{Entry, Revision, StoreError};

/// Entries by key as they are after some commits; `None` when deleted.
pub(crate) type Changed = BTreeMap<Vec<u8>, Option<Entry>>;

/// Commits on top of an index.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    index: &'a dyn Index,
    changed: Changed,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(index: &'a dyn Index) -> Self {
        Self { index, changed: Changed::new() }
    }

    /// Whether every requirement holds.
    pub(crate) fn check(&self, transaction: &Transaction) -> Result<(), StoreError> {
        for (key, compare) in &transaction.require {
            if !compare.holds(self.current(key)?.as_ref()) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        Ok(())
    }

    /// Counts a commit in; all of it or, on an error, nothing.
    pub(crate) fn commit(&mut self, changes: &Changes, revision: Revision) -> Result<(), StoreError> {
        let mut made = Changed::new();
        for (key, value) in changes {
            let entry = match value {
                None => None,
                Some(value) => {
                    let created = self.current(key)?.map_or(revision, |entry| entry.created);
                    Some(Entry { key: key.clone(), value: value.clone(), created, modified: revision })
                }
            };
            made.insert(key.clone(), entry);
        }
        self.changed.append(&mut made);
        Ok(())
    }

    pub(crate) fn into_changed(self) -> Changed {
        self.changed
    }

    fn current(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        match self.changed.get(key) {
            Some(entry) => Ok(entry.clone()),
            None => self.index.get(key),
        }
    }
}
