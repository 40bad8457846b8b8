//! The journal: the truth of an embedded store. Segments of checksummed, hash-chained records, and snapshots of the whole
//! state that carry the chain on, so that old segments can go (S17).
//!
//! One record is what one sync covers. The next record is begun only after the sync of the one before, so a bad record
//! with another begun behind it is damage, and a bad record with nothing behind it was never acknowledged.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod compact;
mod files;
mod frame;
mod recover;
mod snapshot;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, DiskFile};

use crate::index::{MapIndex, Position};
use crate::{Revision, StoreError};

use compact::Compaction;
use files::Files;

pub(crate) use frame::Record;
pub(crate) use recover::Survey;

/// Format of segments and snapshots; a newer one is refused (FS7).
pub(crate) const FORMAT: u16 = 1;
/// A segment is closed after this many bytes, or as many as the last snapshot had.
pub(crate) const ROLL: u64 = 16 << 20;

/// The chain before the first commit.
const GENESIS: Position = (Revision::ZERO, [0; 32]);

/// The open end of the journal. One writer has it.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment: Segment,
    head: Position,
    compaction: Compaction,
    /// Length at which the segment is closed.
    full: u64,
}

/// The segment that is written to.
#[derive(Debug)]
struct Segment {
    file: Box<dyn DiskFile>,
    salt: u32,
    /// Bytes that are durable; the file has no others.
    length: u64,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The disk is full. Nothing is left of the record; later ones may succeed.
    Full(io::Error),
    /// It is unknown what is on the disk: the journal must be opened and verified again.
    Lost(io::Error),
}

impl Journal {
    /// A journal with no commit yet.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create(disk: &Arc<dyn Disk>, dir: &Path, roll: u64) -> Result<Self, StoreError> {
        let made = disk.create_dir_all(dir).and_then(|()| Segment::begin(disk, dir, GENESIS));
        let segment = made.map_err(|error| StoreError::io(dir, error))?;
        Ok(Self::resume(disk, dir, segment, GENESIS, roll))
    }

    fn resume(disk: &Arc<dyn Disk>, dir: &Path, segment: Segment, head: Position, roll: u64) -> Self {
        let compaction = Compaction::new(roll);
        Self { disk: Arc::clone(disk), dir: dir.to_owned(), segment, head, compaction, full: roll }
    }

    /// The newest durable commit and the chain up to it.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// Appends a record that goes on after the head, and makes it durable.
    ///
    /// # Errors
    /// [`Fault`]; the head is as before.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), Fault> {
        let segment = &mut self.segment;
        let (bytes, chain) = frame::seal(record, self.head.1, segment.salt, segment.length);
        if let Err(error) = segment.file.append(&bytes) {
            return Err(segment.take_back(error));
        }
        if let Err(error) = segment.file.sync_data() {
            // The kernel may now hold as clean what is not on the disk. Cut it off, so that a later open in this
            // or another process cannot take it for durable. Should that fail too: the next open syncs what it reads.
            if let Err(also) = segment.file.truncate(segment.length) {
                tracing::error!(event = "journal_cut_failed", error = %also, "a record that was refused stands in the journal");
            }
            return Err(Fault::Lost(error));
        }
        segment.length = segment.length.saturating_add(size(bytes.len()));
        self.head = (record.last(), chain);
        Ok(())
    }

    /// Closes a full segment, begins the next, and starts a snapshot of what is closed. To be called after an append.
    ///
    /// # Errors
    /// When it is unknown whether the next segment exists; nothing may be appended then.
    pub(crate) fn roll_if_full(&mut self) -> io::Result<()> {
        if self.segment.length < self.full || self.compaction.is_running() {
            return Ok(());
        }
        match Segment::begin(&self.disk, &self.dir, self.head) {
            Ok(segment) => self.segment = segment,
            Err(error) => {
                tracing::warn!(event = "segment_not_begun", error = %error, "the journal goes on in its old segment");
                self.full = self.segment.length.saturating_add(self.compaction.roll() / 4);
                return self.unbegin();
            }
        }
        self.full = self.compaction.roll();
        self.compaction.start(&self.disk, &self.dir, self.head);
        Ok(())
    }

    /// Removes a segment whose beginning failed half way. Left there, it would hide what the old segment gets from now on.
    fn unbegin(&self) -> io::Result<()> {
        match self.disk.remove(&files::segment(&self.dir, self.head.0.next())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.disk.sync_dir(&self.dir),
        }
    }

    /// Reads the whole state up to the head back from the disk.
    ///
    /// # Errors
    /// What makes it unreadable.
    pub(crate) fn load(&mut self) -> Result<MapIndex, StoreError> {
        self.compaction.finish();
        let (index, survey) = (MapIndex::default(), Survey::of(&self.disk, &self.dir)?);
        if survey.head() != self.head {
            return Err(StoreError::Index("the journal on disk does not end at its head".to_owned()));
        }
        survey.fill(&index)?;
        Ok(index)
    }
}

impl Segment {
    /// A new segment after `head`: whole and durable, or absent.
    fn begin(disk: &Arc<dyn Disk>, dir: &Path, head: Position) -> io::Result<Self> {
        let (header, path) = (frame::header(head), files::segment(dir, head.0.next()));
        disk.write_atomic(&path, &header.bytes, 0o600)?;
        Ok(Self { file: disk.open_append(&path)?, salt: header.salt, length: size(header.bytes.len()) })
    }

    /// Undoes a write that failed.
    fn take_back(&mut self, error: io::Error) -> Fault {
        let undone = self.file.truncate(self.length).and_then(|()| self.file.sync_data());
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match (undone, is_full) {
            (Ok(()), true) => Fault::Full(error),
            _ => Fault::Lost(error),
        }
    }
}

/// Whether there is a journal in `dir`.
///
/// # Errors
/// What the disk says.
pub(crate) fn is_in(disk: &Arc<dyn Disk>, dir: &Path) -> Result<bool, StoreError> {
    match Files::list(disk, dir) {
        Ok(files) => Ok(!files.is_empty()),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
