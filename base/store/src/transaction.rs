//! What is changed together, and what must be true for it.

use bytes::Bytes;

use crate::{Entry, Revision, StoreError};

/// Longest key, bytes.
pub(crate) const MAX_KEY: usize = 4 << 10;
/// Longest value, bytes.
pub(crate) const MAX_VALUE: usize = 4 << 20;

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
    /// Values to put; `None` deletes. Later changes of a key win.
    pub(crate) changes: Vec<(Vec<u8>, Option<Bytes>)>,
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

    pub(crate) fn check_limits(&self) -> Result<(), StoreError> {
        for (key, value) in &self.changes {
            let size = value.as_ref().map_or(0, Bytes::len);
            if key.len() > MAX_KEY {
                return Err(StoreError::TooLarge { what: "key", size: key.len(), limit: MAX_KEY });
            }
            if size > MAX_VALUE {
                return Err(StoreError::TooLarge { what: "value", size, limit: MAX_VALUE });
            }
        }
        Ok(())
    }
}
