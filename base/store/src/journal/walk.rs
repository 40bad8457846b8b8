//! Reading a journal: the newest good snapshot, then every record behind it, each verified. Changes nothing on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::Disk;

use super::files::Files;
use super::frame::{self, Beginning, HEADER, Record};
use super::snapshot::{self, Snapshot};
use super::{FORMAT, GENESIS};
use crate::index::Position;
use crate::{Entry, Revision, StoreError};

/// The state that the walk begins at.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) entries: Vec<Entry>,
    pub(super) position: Position,
    /// Bytes of the snapshot.
    pub(super) size: u64,
}

impl Base {
    /// The newest intact snapshot; an older one stands in for a damaged one, nothing for none.
    pub(super) fn newest(disk: &Arc<dyn Disk>, files: &Files) -> Result<Self, StoreError> {
        for (revision, path) in files.snapshots.iter().rev() {
            if let Some(base) = Self::read(disk, *revision, path)? {
                return Ok(base);
            }
            tracing::error!(event = "snapshot_damaged", file = %path.display(), "a state snapshot is damaged; using the one before");
        }
        Ok(Self { entries: Vec::new(), position: GENESIS, size: 0 })
    }

    /// The snapshot in `path`; `None` when it is damaged or cannot be read.
    pub(super) fn read(
        disk: &Arc<dyn Disk>,
        revision: Revision,
        path: &Path,
    ) -> Result<Option<Self>, StoreError> {
        let Ok(bytes) = disk.read(path) else { return Ok(None) };
        match snapshot::decode(&bytes) {
            Snapshot::Good(entries, position) if position.0 == revision => {
                Ok(Some(Self { entries, position, size: super::size(bytes.len()) }))
            }
            Snapshot::Newer(format) => Err(too_new(path, format)),
            _ => Ok(None),
        }
    }
}

/// Where a walk ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) head: Position,
    pub(super) segment: PathBuf,
    pub(super) salt: u32,
    /// Offset behind the last good record.
    pub(super) length: usize,
    /// Bytes behind it that are a record which was never acknowledged.
    pub(super) torn: usize,
}

/// What is done with each record; gets the position after it.
pub(super) type Each<'a> = &'a mut dyn FnMut(&Record, Position) -> Result<(), StoreError>;

/// Whether the last segment may end in a record that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    MayBeTorn,
    MustBeWhole,
}

/// Verifies every record of `segments`, which go on after `from`. `None` without segments.
pub(super) fn walk(
    disk: &Arc<dyn Disk>,
    segments: &[(Revision, PathBuf)],
    from: Position,
    tail: Tail,
    each: Each<'_>,
) -> Result<Option<End>, StoreError> {
    let mut end: Option<End> = None;
    for (number, (first, path)) in segments.iter().enumerate() {
        let head = end.as_ref().map_or(from, |end| end.head);
        if *first != head.0.next() {
            return Err(corrupt(path, 0, "commits before it are missing"));
        }
        let is_last = number.saturating_add(1) == segments.len();
        let tail = if is_last { tail } else { Tail::MustBeWhole };
        end = Some(segment(disk, path, head, tail, each)?);
    }
    Ok(end)
}

fn segment(
    disk: &Arc<dyn Disk>,
    path: &Path,
    mut head: Position,
    tail: Tail,
    each: Each<'_>,
) -> Result<End, StoreError> {
    let bytes = disk.read(path).map_err(|error| StoreError::io(path, error))?;
    let salt = match frame::read_header(&bytes) {
        Beginning::Good { before, salt } if before == head => salt,
        Beginning::Good { .. } => return Err(corrupt(path, 0, "it does not continue what is before it")),
        Beginning::Newer(format) => return Err(too_new(path, format)),
        Beginning::Bad => return Err(corrupt(path, 0, "its header is damaged")),
    };
    let mut at = HEADER;
    while at < bytes.len() {
        let Some(found) = frame::read(&bytes, at, salt) else {
            if tail == Tail::MayBeTorn && frame::is_tail(&bytes, at, salt) {
                break;
            }
            return Err(corrupt(path, at, "its checksum is wrong"));
        };
        if frame::link(head.1, found.payload) != found.chain {
            return Err(corrupt(path, at, "it does not continue the chain"));
        }
        let record = frame::decode(found.payload).ok_or_else(|| corrupt(path, at, "it cannot be read"))?;
        if record.first != head.0.next() {
            return Err(corrupt(path, at, "its number is out of order"));
        }
        head = (record.last(), found.chain);
        each(&record, head)?;
        at = found.end;
    }
    Ok(End { head, segment: path.to_owned(), salt, length: at, torn: bytes.len().saturating_sub(at) })
}

fn corrupt(path: &Path, offset: usize, what: &'static str) -> StoreError {
    StoreError::Corrupt { file: path.to_owned(), offset: super::size(offset), what }
}

fn too_new(path: &Path, found: u16) -> StoreError {
    let dir = path.parent().unwrap_or(path).to_owned();
    StoreError::TooNew { dir, found: found.into(), known: FORMAT.into() }
}
