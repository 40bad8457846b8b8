//! Why the tree cannot be read or must not go on.

use std::{io, path::PathBuf};

use super::{note::NoteError, tile::TileId};

/// What is wrong with the tree of a ledger. After most of these nothing is signed (LG3).
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The disk refused.
    #[error("{doing} `{path}`: {source}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file that names the log is not one of ours.
    #[error("`{path}` does not say which log this is")]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint on disk is not believed.
    #[error("`{path}` is not our last checkpoint: {source}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NoteError,
    },
    /// Checkpoints were signed here, and the last of them is gone.
    #[error("`{path}` is gone, although checkpoints were signed here")]
    NoCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The ledger ends before what was signed.
    #[error("the ledger ends at index {next}, and its signed checkpoint covers {size} records")]
    Shorter {
        /// Index after the last record.
        next: u64,
        /// Records that the checkpoint covers.
        size: u64,
    },
    /// A record is not the one that was signed.
    #[error("the record at index {index} is not the one that the signed checkpoint covers")]
    Different {
        /// Its position.
        index: u64,
    },
    /// Tiles and records do not give the signed root.
    #[error("tiles and records do not give the root of the signed checkpoint over {size} records")]
    OtherRoot {
        /// Records that the checkpoint covers.
        size: u64,
    },
    /// A tile is missing or damaged, and its records are gone.
    #[error("tile {} is missing or damaged", .0.path(256))]
    Tile(TileId),
    /// Records that are not in the tree yet cannot be read.
    #[error("the record at index {index} cannot be read")]
    Unread {
        /// Its position.
        index: u64,
    },
}

impl TreeError {
    /// Whether the ledger is not what was signed, rather than that the disk refused.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        !matches!(self, Self::Disk { .. })
    }
}

/// Puts file and action beside what the system said.
pub(crate) fn disk(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Disk { doing, path, source }
}
