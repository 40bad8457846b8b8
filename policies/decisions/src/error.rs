//! What can go wrong with a ledger as a whole.

use std::{io, path::PathBuf};

use policies_engine::AuditUnavailable;

use crate::{frame::BadFrame, leaf::LeafError, proof::TreeError, scan::Damage, state::StateError};

/// Why the ledger cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk refused.
    #[error("{doing} `{path}`")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A frame is bad although good ones follow: no torn tail, but damage. Nothing was changed.
    #[error("`{path}` is damaged at byte {offset}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        source: BadFrame,
    },
    /// Records cannot be read and are nowhere else.
    #[error("records {} to {} in `{}` cannot be read: {}", damage.first, damage.last, damage.file.display(), damage.problem)]
    DamagedRange {
        /// Which, and what is wrong.
        damage: Damage,
    },
    /// A frame holds no record this build can read.
    #[error("`{path}` holds an unreadable record at byte {offset}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        source: LeafError,
    },
    /// Nothing is signed, so nothing can be proved.
    #[error("nothing of this ledger is signed")]
    NoTree,
    /// The file is of a newer format.
    #[error("`{path}` was written by a newer version of this program")]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The file is none of ours.
    #[error("`{path}` is not a write-ahead file of the ledger")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The state file is damaged.
    #[error("`{path}` is damaged")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: StateError,
    },
    /// The records of another ledger are not on disk here.
    #[error("take over records of another ledger: {0}")]
    NotAdopted(AuditUnavailable),
    /// What is done to the ledger is not on record, so it was not done.
    #[error("put it on record: {0}")]
    NotRecorded(AuditUnavailable),
    /// The ledger is not what its signed checkpoint covers, or its tree cannot be read. Nothing was signed.
    #[error("the tree of the ledger: {0}")]
    Tree(#[source] TreeError),
    /// The key of the log is as before.
    #[error("the key of the log: {0}")]
    Keys(String),
    /// A thread could not be started.
    #[error("start a thread of the ledger")]
    Thread(#[source] io::Error),
}

impl LedgerError {
    /// Whether the files themselves are at fault, rather than the disk or the system.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::DamagedRange { .. } | Self::Unreadable { .. } | Self::State { .. }
        )
    }
}

/// Puts file and action beside what the system said.
pub(crate) fn disk(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Disk { doing, path, source }
}
