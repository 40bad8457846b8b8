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
    /// The disk is full or failed; this commit was refused. Reads go on. After a failed sync (then [`StoreError::Stopped`]
    /// follows) nobody can know what is on the disk: should the power go before the store is opened again, the commit
    /// may be found there.
    #[error("the journal cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// Too much waits for the disk; nothing was changed.
    #[error("too many commits wait for the disk")]
    Busy,
    /// The disk failed earlier; nothing is accepted until the store is opened again.
    #[error("the store accepts no commits since the disk failed; restart to verify it")]
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
    /// The index has seen commits that the journal does not hold: something was lost or put back.
    #[error(
        "the journal in `{}` ends at revision {journal}, but commits up to {index} were acknowledged; \
         restore it from a newer backup, or remove `{}` to accept the loss", dir.display(), dir.join("index").display()
    )]
    JournalBehind {
        /// The directory.
        dir: PathBuf,
        /// Last revision in the journal.
        journal: u64,
        /// Last revision in the index.
        index: u64,
    },
    /// Somebody else can change the directory (FS4).
    #[error("`{}` {what}; a store's directory belongs to its process alone", dir.display())]
    Exposed {
        /// The directory.
        dir: PathBuf,
        /// In what way.
        what: String,
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
    /// The index failed; it is being rebuilt from the journal, ask again.
    #[error("the index failed: {0}")]
    Index(String),
    /// Key or value beyond the limits.
    #[error("{what} has {size} bytes; at most {limit} are stored")]
    TooLarge {
        /// `key`, `value` or `transaction`.
        what: &'static str,
        /// Its size, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The store is closing. A commit that was under way may be durable or not.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}
