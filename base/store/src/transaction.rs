//! What is changed together, and what must be true for it.

use bytes::Bytes;

use crate::{Entry, Revision, StoreError};

/// Longest key, bytes.
pub(crate) const MAX_KEY: usize = 4 << 10;
/// Longest value, bytes.
pub(crate) const MAX_VALUE: usize = 4 << 20;
/// Most bytes that one transaction puts into the journal.
pub(crate) const MAX_TRANSACTION: usize = 16 << 20;

/// Values that one commit puts; `None` deletes. The later change of a key wins.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Bytes>)>;

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
    /// The key was changed last by that commit.
    ModifiedAt(Revision),
    /// The key holds exactly these bytes.
    ValueIs(Bytes),
}

impl Compare {
    pub(crate) fn holds(&self, entry: Option<&Entry>) -> bool {
        match (self, entry) {
            (Self::Absent, entry) => entry.is_none(),
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::ModifiedAt(revision), Some(entry)) => entry.modified == *revision,
            (Self::ValueIs(value), Some(entry)) => entry.value == *value,
        }
    }
}

/// Changes that happen together or not at all, if every requirement holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) require: Vec<(Vec<u8>, Compare)>,
    pub(crate) changes: Changes,
}

impl Transaction {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a requirement.
    #[must_use]
    pub fn require(mut self, key: impl Into<Vec<u8>>, compare: Compare) -> Self {
        self.require.push((key.into(), compare));
        self
    }

    /// Puts a value.
    #[must_use]
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Self {
        self.changes.push((key.into(), Some(value.into())));
        self
    }

    /// Deletes a key; one that is absent is no error.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.changes.push((key.into(), None));
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes it takes in the journal, or in memory while it waits.
    pub(crate) fn size(&self) -> usize {
        const EACH: usize = 16;
        let changes = self.changes.iter().map(|(key, value)| (key, value.as_ref().map_or(0, Bytes::len)));
        let require = self.require.iter().map(|(key, compare)| match compare {
            Compare::ValueIs(value) => (key, value.len()),
            _ => (key, 0),
        });
        changes.chain(require).fold(0, |sum, (key, value)| sum.saturating_add(EACH + key.len() + value))
    }

    pub(crate) fn check_limits(&self) -> Result<(), StoreError> {
        let within = |what, size, limit| match size <= limit {
            true => Ok(()),
            false => Err(StoreError::TooLarge { what, size, limit }),
        };
        for key in self.changes.iter().map(|(key, _)| key).chain(self.require.iter().map(|(key, _)| key)) {
            within("key", key.len(), MAX_KEY)?;
        }
        for value in self.changes.iter().filter_map(|(_, value)| value.as_ref()) {
            within("value", value.len(), MAX_VALUE)?;
        }
        within("transaction", self.size(), MAX_TRANSACTION)
    }
}
