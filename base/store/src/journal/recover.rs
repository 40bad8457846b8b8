//! Opening a journal: verify, replay into the index, cut a torn tail, refuse damage anywhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::Disk;

use super::frame::{self, Frame, HEADER, Header};
use super::{Commit, FORMAT, GENESIS, Journal, ROLL, number, snapshot};
use crate::embedded::after;
use crate::index::{Index, Position};
use crate::{Entry, Revision, StoreError};

/// Verifies the journal in `dir` and brings `index` up to it. An index that does not stand on this journal is
/// reported with `None`: the caller gives an empty one.
///
/// # Errors
/// Damage that is not a torn tail, a newer format, or what the disk says.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    index: &dyn Index,
) -> Result<Option<Journal>, StoreError> {
    let files = disk.list(dir).map_err(|error| StoreError::io(dir, error))?;
    let (base, roll) = newest_snapshot(disk, &files);
    let (base, position) = match base {
        Some((entries, position)) => (entries, position),
        None => (Vec::new(), (Revision::ZERO, GENESIS)),
    };
    let mut segments: Vec<(Revision, PathBuf)> =
        files.iter().filter_map(|file| Some((number(file, "log")?, file.clone()))).collect();
    segments.sort();
    segments.retain(|(first, _)| *first > position.0);
    let stands = index.position()?;
    let mut replay = match stands {
        None => {
            seed(index, base, position)?;
            Replay { index, head: position, skip: position.0, stands: true }
        }
        Some((revision, chain)) => {
            let known = (revision, chain) == position;
            Replay { index, head: position, skip: revision.max(position.0), stands: known }
        }
    };
    let wanted = stands.filter(|_| !replay.stands);
    let Some((_, newest)) = segments.last().cloned() else {
        return Err(StoreError::JournalMissing { dir: dir.to_owned() });
    };
    let mut length = 0;
    for (first, path) in &segments {
        if *first != replay.head.0.next() {
            return Err(corrupt(path, 0, "commits before it are missing"));
        }
        length = replay.segment(disk, path, *path == newest, wanted)?;
    }
    if !replay.stands {
        return Ok(None);
    }
    let file = disk.open_append(&newest).map_err(|error| StoreError::io(&newest, error))?;
    let head = replay.head;
    Ok(Some(Journal { disk: Arc::clone(disk), dir: dir.to_owned(), file, length, roll, head }))
}

type Base = (Vec<Entry>, Position);

/// The newest snapshot that is intact; an older one stands in for a damaged one.
fn newest_snapshot(disk: &Arc<dyn Disk>, files: &[PathBuf]) -> (Option<Base>, u64) {
    let mut snapshots: Vec<_> = files.iter().filter_map(|file| Some((number(file, "snap")?, file))).collect();
    snapshots.sort();
    for (revision, file) in snapshots.iter().rev() {
        match disk.read(file).ok().and_then(|bytes| Some((snapshot::decode(&bytes)?, bytes.len()))) {
            Some((base, size)) => return (Some(base), ROLL.max(u64::try_from(size).unwrap_or(u64::MAX))),
            None => tracing::error!(
                event = "snapshot_damaged",
                revision = revision.get(),
                "a state snapshot is damaged; using the one before"
            ),
        }
    }
    (None, ROLL)
}

fn seed(index: &dyn Index, entries: Vec<Entry>, position: Position) -> Result<(), StoreError> {
    let changes: Vec<_> = entries.into_iter().map(|entry| (entry.key.clone(), Some(entry))).collect();
    index.apply(&changes, position)
}

struct Replay<'a> {
    index: &'a dyn Index,
    head: Position,
    /// Commits up to here are in the index already.
    skip: Revision,
    /// The index stands on this journal.
    stands: bool,
}

impl Replay<'_> {
    /// Verifies and replays one segment; gives its good length.
    fn segment(
        &mut self,
        disk: &Arc<dyn Disk>,
        path: &Path,
        is_last: bool,
        wanted: Option<Position>,
    ) -> Result<u64, StoreError> {
        let bytes = disk.read(path).map_err(|error| StoreError::io(path, error))?;
        match frame::read_header(&bytes) {
            Header::Chain(chain) if chain == self.head.1 => {}
            Header::Chain(_) => return Err(corrupt(path, 0, "it does not continue the segment before it")),
            Header::Newer(found) => {
                let dir = path.parent().unwrap_or(path).to_owned();
                return Err(StoreError::TooNew { dir, found: found.into(), known: FORMAT.into() });
            }
            Header::Bad if is_last && bytes.len() < HEADER => return self.begin_again(disk, path),
            Header::Bad => return Err(corrupt(path, 0, "its header is damaged")),
        }
        let mut at = HEADER;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match frame::read(rest) {
                Frame::Good { length, chain, payload } => {
                    if frame::link(self.head.1, &payload) != chain {
                        return Err(corrupt(path, at, "it does not continue the chain"));
                    }
                    let commit =
                        frame::decode(&payload).ok_or_else(|| corrupt(path, at, "it cannot be read"))?;
                    self.commit(&commit, chain, wanted).map_err(|what| {
                        what.unwrap_or_else(|| corrupt(path, at, "its number is out of order"))
                    })?;
                    at = at.saturating_add(length);
                }
                damaged => {
                    if !is_last || !is_torn(&damaged, rest) {
                        return Err(corrupt(path, at, "its checksum is wrong"));
                    }
                    tracing::warn!(event = "journal_tail_cut", file = %path.display(), offset = at, bytes = rest.len(), "a commit that was never acknowledged was cut off");
                    let mut file = disk.open_append(path).map_err(|error| StoreError::io(path, error))?;
                    let cut = file.truncate(size(at)).and_then(|()| file.sync_data());
                    cut.map_err(|error| StoreError::io(path, error))?;
                    break;
                }
            }
        }
        Ok(size(at))
    }

    /// The process died while it began this segment: nothing was in it.
    fn begin_again(&self, disk: &Arc<dyn Disk>, path: &Path) -> Result<u64, StoreError> {
        let dir = path.parent().unwrap_or(path);
        super::begin(disk, dir, self.head)
            .map(|(_, length)| length)
            .map_err(|error| StoreError::io(path, error))
    }

    /// `Err(None)` when the number is wrong.
    fn commit(
        &mut self,
        commit: &Commit,
        chain: [u8; 32],
        wanted: Option<Position>,
    ) -> Result<(), Option<StoreError>> {
        if commit.revision != self.head.0.next() {
            return Err(None);
        }
        self.head = (commit.revision, chain);
        if wanted == Some(self.head) {
            self.stands = true;
        } else if self.stands && commit.revision > self.skip {
            let changes = after(self.index, &commit.changes, commit.revision).map_err(Some)?;
            self.index.apply(&changes, self.head).map_err(Some)?;
        }
        Ok(())
    }
}

/// Zeros at the end of a file that was longer on paper than on disk when the power went, bytes.
const UNWRITTEN: usize = 64;

/// Whether a bad end can only be a write that was cut short: the frame is longer than the file or ends in zeros that
/// were never written, and no intact frame stands behind it.
fn is_torn(damaged: &Frame, rest: &[u8]) -> bool {
    let end = rest.get(rest.len().saturating_sub(UNWRITTEN)..).unwrap_or(rest);
    let unfinished = matches!(damaged, Frame::Short) || end.iter().all(|byte| *byte == 0);
    unfinished
        && !(1..rest.len())
            .any(|at| rest.get(at..).is_some_and(|behind| matches!(frame::read(behind), Frame::Good { .. })))
}

fn corrupt(path: &Path, offset: usize, what: &'static str) -> StoreError {
    StoreError::Corrupt { file: path.to_owned(), offset: size(offset), what }
}

fn size(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}
