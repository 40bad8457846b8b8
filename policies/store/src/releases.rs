//! Versions in the store: listed, activated, gone back to, run in shadow (ST5, SH3).

use crate::{Checks, PolicyStore, PolicyStoreError, Verifier, VersionInfo};
use std::sync::Arc;

impl PolicyStore {
    /// Every version that is kept, newest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn versions(&self) -> Result<Vec<VersionInfo>, PolicyStoreError> {
        Err(later(&()))
    }

    /// One version.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn version_info(&self, policies: u64) -> Result<VersionInfo, PolicyStoreError> {
        Err(later(&policies))
    }

    /// The files of a version as their authors wrote them, by name. Shipped policies are not among them, unless the
    /// version replaces one.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn files(&self, policies: u64) -> Result<Vec<(String, Arc<str>)>, PolicyStoreError> {
        Err(later(&policies))
    }

    /// What putting that version into force would do now: findings, cases, and how it differs from what is in force.
    ///
    /// # Errors
    /// It is not stored, or cannot be read. Findings are no error.
    pub async fn check_version(&self, policies: u64) -> Result<Checks, PolicyStoreError> {
        Err(later(&policies))
    }

    /// Puts a committed version into force, with the entities there are now.
    ///
    /// # Errors
    /// It was never committed; a newer one is in force, then [`PolicyStore::rollback`] is the way; it is not valid
    /// any longer; it cannot be stored. Then nothing has changed.
    pub async fn activate(&self, policies: u64, by: &str) -> Result<VersionInfo, PolicyStoreError> {
        Err(later(&(policies, by)))
    }

    /// Puts the files of an older version into force, as a new version that says so.
    ///
    /// # Errors
    /// As [`PolicyStore::activate`].
    pub async fn rollback(
        &self,
        policies: u64,
        by: &str,
        message: &str,
    ) -> Result<VersionInfo, PolicyStoreError> {
        Err(later(&(policies, by, message)))
    }

    /// Evaluates a version beside the one in force, for 24 hours or until a version is activated; none ends it.
    ///
    /// # Errors
    /// It is not stored, is not valid any longer, or the wish cannot be stored.
    pub async fn shadow(&self, policies: Option<u64>) -> Result<(), PolicyStoreError> {
        Err(later(&policies))
    }

    /// The public keys that sign versions, the newest first.
    #[must_use]
    pub fn verifiers(&self) -> Vec<Verifier> {
        Vec::new()
    }
}

fn later(_: &impl Sized) -> PolicyStoreError {
    PolicyStoreError::Input("not available yet".to_owned())
}
