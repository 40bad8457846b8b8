//! Everything that can go wrong with a store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A compare of the transaction did not hold; nothing was changed.
    #[error("`{}` is not as the transaction requires", String::from_utf8_lossy(.key))]
    Conflict {
        /// The key that differs.
        key: Vec<u8>,
    },
    /// The disk is full or failed; this commit was refused. Reads go on.
    #[error("the journal cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// An fsync failed earlier; nothing is accepted until the store is opened again.
    #[error("the store accepts no commits since a sync failed; restart to verify it")]
    Stopped,
    /// Another process has the directory.
    #[error("`{}` is in use by process {owner}", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the lock file says of the owner.
        owner: String,
    },
    /// The directory was made by a newer version.
    #[error("`{}` has format {found}; this version reads up to {known}", dir.display())]
    TooNew {
        /// The directory.
        dir: PathBuf,
        /// Format found.
        found: u32,
        /// Newest format known.
        known: u32,
    },
    /// There was a store here and its journal is gone.
    #[error("`{}` held a store, and its journal is missing; restore it from a backup", dir.display())]
    JournalMissing {
        /// The directory.
        dir: PathBuf,
    },
    /// The journal is damaged in its middle.
    #[error("`{}` is damaged at offset {offset}: {what}; restore it from a backup", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Offset of the first bad frame, bytes.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file or directory cannot be used.
    #[error("`{}` cannot be used", path.display())]
    Io {
        /// What it is about.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The index failed; it is rebuilt at the next start.
    #[error("the index failed: {0}")]
    Index(String),
    /// Key or value beyond the limits.
    #[error("{what} has {size} bytes; at most {limit} are stored")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// Its size, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}
