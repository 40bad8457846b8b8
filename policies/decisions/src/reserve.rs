//! Room that is set aside, so that a full disk still takes the gap records that say what was lost (LS8).
//!
//! The writer gives it up when the disk is full; from then on it writes only records of the ledger itself. Once there is
//! room for the reserve and some more, it is made again and everything is written as before. A ledger whose reserve could
//! not be made simply goes on as soon as a write works.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base_ports::Disk;

/// The reserve of one ledger.
#[derive(Debug)]
pub(crate) struct Reserve {
    dir: PathBuf,
    path: PathBuf,
    size: u64,
    disk: Arc<dyn Disk>,
    is_there: AtomicBool,
    /// It was given up: the disk is full.
    is_used: AtomicBool,
}

impl Reserve {
    /// Makes the file, if it is not there. A `size` of zero stands for no reserve.
    pub(crate) fn new(dir: &Path, size: u64, disk: Arc<dyn Disk>) -> Reserve {
        let reserve = Reserve {
            dir: dir.to_owned(),
            path: dir.join("reserve"),
            size,
            disk,
            is_there: AtomicBool::new(false),
            is_used: AtomicBool::new(false),
        };
        if size > 0
            && let Err(error) = reserve.make()
        {
            let file = reserve.path.display();
            tracing::warn!(event = "ledger_no_reserve", %error, %file, "no room is set aside for gap records");
        }
        reserve
    }

    /// Whether the disk is full and the room that was set aside is in use.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Gives the room up, when that is what a write failed for; `true` when it was there.
    pub(crate) fn give_up(&self, error: &io::Error) -> bool {
        if error.kind() != io::ErrorKind::StorageFull || !self.is_there.swap(false, Ordering::Relaxed) {
            return false;
        }
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::error!(event = "ledger_reserve_failed", %error, "the reserve cannot be given up");
            return false;
        }
        tracing::error!(
            event = "ledger_disk_full",
            dir = %self.dir.display(),
            "the disk is full: only gap records are written until there is room"
        );
        self.is_used.store(true, Ordering::Relaxed);
        true
    }

    /// Looks whether there is room again, and makes the reserve; `true` when all is as it should be.
    pub(crate) fn restore(&self) -> bool {
        // A quarter more, so that the next record does not use it up at once.
        let wanted = self.size.saturating_add(self.size / 4);
        if !self.disk.free(&self.dir).is_ok_and(|free| free >= wanted) || self.make().is_err() {
            return false;
        }
        tracing::info!(event = "ledger_disk_has_room", "there is room again: all records are written");
        self.is_used.store(false, Ordering::Relaxed);
        true
    }

    fn make(&self) -> io::Result<()> {
        let is_whole = self.disk.len(&self.path).is_ok_and(|len| len == self.size);
        if !is_whole && let Err(error) = self.disk.allocate(&self.path, self.size) {
            // A part of it is no use to anybody.
            self.disk.remove(&self.path).unwrap_or_default();
            return Err(error);
        }
        self.is_there.store(true, Ordering::Relaxed);
        Ok(())
    }
}
