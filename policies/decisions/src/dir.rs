//! The files of a ledger as they stand in a directory, read without opening it: a copy, or the ledger of a process that
//! is stopped or running. Nothing is written, locked, cut off or repaired.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::Disk;

use crate::{
    error::{LedgerError, disk},
    frame::{Frames, Magic, magic},
    leaf::Decided,
    query::Query,
    recover,
    shelf::Span,
    state::State,
    walk::{Walk, Walked},
};

/// A ledger that is only read.
#[derive(Debug)]
pub struct LedgerDir {
    /// First index and path, oldest first.
    files: Vec<(u64, PathBuf)>,
    /// What is known of closed files.
    state: State,
    disk: Arc<dyn Disk>,
}

impl LedgerDir {
    /// Looks at the directory of a ledger, the one that holds `wal`.
    ///
    /// # Errors
    /// When it cannot be listed, or its state file is damaged.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<LedgerDir, LedgerError> {
        let files = recover::files(&dir.join("wal"), disk.as_ref())?;
        let state = recover::state(&dir.join("state"), disk.as_ref())?.unwrap_or_default();
        Ok(LedgerDir { files, state, disk })
    }

    /// As [`crate::Ledger::walk`]. A frame that is cut off at the very end was still being written.
    ///
    /// # Errors
    /// When a file cannot be read at all; damage inside a file is part of the answer.
    pub fn walk(
        &self,
        query: &Query,
        each: impl FnMut(&Decided<'_>) -> ControlFlow<()>,
    ) -> Result<Walked, LedgerError> {
        let mut walk = Walk::new(query, each);
        let mut is_first = true;
        for (at, (first, path)) in self.files.iter().enumerate() {
            let known = self.state.files.get(first).filter(|_| *first < self.state.through);
            if known.is_some_and(|(_, span): &(u64, Span)| !walk.touches(*span)) {
                continue;
            }
            let bytes = match self.disk.read(path) {
                Ok(bytes) => bytes,
                // Retention takes the oldest.
                Err(error) if is_first && error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(disk("read", path)(error)),
            };
            is_first = false;
            match magic(&bytes) {
                Magic::Known => (),
                Magic::Cut => continue,
                Magic::Version => return Err(LedgerError::Newer { path: path.clone() }),
                Magic::Foreign => return Err(LedgerError::Foreign { path: path.clone() }),
            }
            let next = self.files.get(at + 1).map(|(next, _)| next.saturating_sub(*first));
            let count = known.map(|(count, _)| *count).or(next).unwrap_or_else(|| whole(&bytes));
            if walk.file(path, *first, count, &bytes).is_break() {
                break;
            }
        }
        Ok(walk.walked)
    }
}

/// Records of a file that is not closed; one more where a bad frame has good ones behind it.
fn whole(bytes: &[u8]) -> u64 {
    let mut frames = Frames::of_file(bytes);
    let good = frames.by_ref().map_while(Result::ok).count() as u64;
    good + u64::from(frames.any_later())
}

#[cfg(test)]
mod tests;
