//! The journal: the truth of an embedded store. Segments of framed, checksummed, hash-chained commits, and snapshots
//! of the whole state that carry the chain on, so that old segments can go.

mod frame;
mod recover;
mod snapshot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, DiskFile};

use crate::index::Position;
use crate::{Entry, Revision, StoreError};

pub(crate) use frame::{Commit, seal};
pub(crate) use recover::recover;

/// Format of segments and snapshots; a newer one is refused (FS7).
pub(crate) const FORMAT: u16 = 1;
/// A segment is closed and a snapshot written when this much was appended, or as much as the last snapshot held.
const ROLL: u64 = 16 << 20;

/// The chain before the first commit.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// The open end of the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Box<dyn DiskFile>,
    length: u64,
    roll: u64,
    head: Position,
}

impl Journal {
    /// The newest durable commit and the chain up to it.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// Appends sealed frames and makes them durable. On an error the file is as before.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the write failed and could be taken back; [`Fault::Lost`] when the state of the file
    /// is unknown.
    pub(crate) fn append(&mut self, frames: &[u8], head: Position) -> Result<(), Fault> {
        if let Err(error) = self.file.append(frames) {
            return match self.file.truncate(self.length) {
                Ok(()) => Err(Fault::Refused(error)),
                Err(_) => Err(Fault::Lost(error)),
            };
        }
        self.file.sync_data().map_err(Fault::Lost)?;
        self.length = self.length.saturating_add(u64::try_from(frames.len()).unwrap_or(u64::MAX));
        self.head = head;
        Ok(())
    }

    /// Whether it is time for a snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.length >= self.roll
    }

    /// Writes the state as it is at the head, begins a new segment, and removes what two snapshots made needless.
    ///
    /// # Errors
    /// What the disk says; the journal goes on in its old segment then.
    pub(crate) fn snapshot(&mut self, entries: &[Entry]) -> io::Result<()> {
        let bytes = snapshot::encode(entries, self.head);
        self.disk.write_atomic(&path(&self.dir, self.head.0, "snap"), &bytes, 0o600)?;
        let (file, length) = begin(&self.disk, &self.dir, self.head)?;
        self.file = file;
        self.length = length;
        self.roll = ROLL.max(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let files = self.disk.list(&self.dir)?;
        let mut snapshots: Vec<Revision> = files.iter().filter_map(|file| number(file, "snap")).collect();
        snapshots.sort();
        let Some(kept) = snapshots.iter().rev().nth(1) else { return Ok(()) };
        for file in &files {
            let old_snapshot = number(file, "snap").is_some_and(|revision| revision < *kept);
            let old_segment = number(file, "log").is_some_and(|first| first <= *kept);
            if old_snapshot || old_segment {
                self.disk.remove(file)?;
            }
        }
        Ok(())
    }
}

/// Why commits were not taken.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nothing was written; later commits may succeed.
    Refused(io::Error),
    /// It is unknown what was written: the journal must be opened and verified again.
    Lost(io::Error),
}

/// A new segment after `head`, durable in its directory.
fn begin(disk: &Arc<dyn Disk>, dir: &Path, head: Position) -> io::Result<(Box<dyn DiskFile>, u64)> {
    let header = frame::header(head.1);
    let path = path(dir, head.0.next(), "log");
    let mut file = disk.open_append(&path)?;
    file.truncate(0)?;
    file.append(&header)?;
    file.sync_data()?;
    disk.sync_dir(dir)?;
    Ok((file, u64::try_from(header.len()).unwrap_or(u64::MAX)))
}

/// A journal with no commit yet.
pub(crate) fn create(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Journal, StoreError> {
    let head = (Revision::ZERO, GENESIS);
    let made = disk.create_dir_all(dir).and_then(|()| begin(disk, dir, head));
    let (file, length) = made.map_err(|error| StoreError::io(dir, error))?;
    Ok(Journal { disk: Arc::clone(disk), dir: dir.to_owned(), file, length, roll: ROLL, head })
}

fn path(dir: &Path, revision: Revision, ending: &str) -> PathBuf {
    dir.join(format!("{:020}.{ending}", revision.get()))
}

/// The number in a file's name, when it ends so.
fn number(path: &Path, ending: &str) -> Option<Revision> {
    if path.extension()? != ending {
        return None;
    }
    path.file_stem()?.to_str()?.parse::<u64>().ok().map(Revision::from)
}
