//! What can go wrong with stored versions. Findings about policy text are not errors of this kind: they are
//! [`policies_engine::Diagnostic`]s.

use base_store::StoreError;

/// Why stored versions could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PolicyStoreError {
    /// The store underneath.
    #[error("policy versions: {0}")]
    Store(#[from] StoreError),
    /// What is stored is not what was written.
    #[error("stored {what} is damaged: {detail}")]
    Damaged {
        /// Which entry.
        what: String,
        /// In which way.
        detail: String,
    },
    /// Never made, or no longer kept.
    #[error("snapshot {0} is not stored")]
    Unknown(u64),
    /// A version that was in force once does not compile with this build.
    #[error("snapshot {number} does not compile with this build: {first}")]
    Refused {
        /// Its number.
        number: u64,
        /// The first finding.
        first: String,
    },
}

impl PolicyStoreError {
    pub(crate) fn damaged(what: impl Into<String>, detail: impl ToString) -> PolicyStoreError {
        PolicyStoreError::Damaged { what: what.into(), detail: detail.to_string() }
    }
}
