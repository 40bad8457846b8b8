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
    archive,
    error::{LedgerError, disk},
    frame::{Frames, Magic, magic},
    leaf::Decided,
    quarantine::{Quarantine, Step, Steps},
    query::Query,
    recover,
    shelf::{Shelf, Span},
    source::Source,
    state::State,
    walk::{Walk, Walked},
};

/// A ledger that is only read.
#[derive(Debug)]
pub struct LedgerDir {
    /// Directory of the segments.
    seg: PathBuf,
    /// First index and path of the write-ahead files, oldest first.
    files: Vec<(u64, PathBuf)>,
    /// What is known of closed files.
    state: State,
    quarantine: Arc<Quarantine>,
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
        let quarantine = Arc::new(Quarantine::read(dir, disk.as_ref()));
        Ok(LedgerDir { seg: dir.join("seg"), files, state, quarantine, disk })
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
        let mut next = 0;
        if self.segments(&mut walk, &mut next, u64::MAX, query)?.is_break() {
            return Ok(walk.walked);
        }
        for (at, (first, path)) in self.files.iter().enumerate() {
            let known = self.state.files.get(first).filter(|_| *first < self.state.through);
            let is_past = |(count, span): &(u64, Span)| first + count <= next || !walk.touches(*span);
            if known.is_some_and(is_past) {
                continue;
            }
            let follows = self.files.get(at + 1).map(|(next, _)| *next);
            let bytes = match self.disk.read(path) {
                Ok(bytes) => bytes,
                // A process that runs has moved it into a segment meanwhile, or retention took it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.segments(&mut walk, &mut next, follows.unwrap_or(u64::MAX), query)?.is_break() {
                        return Ok(walk.walked);
                    }
                    continue;
                }
                Err(error) => return Err(disk("read", path)(error)),
            };
            match magic(&bytes) {
                Magic::Known => (),
                Magic::Cut => continue,
                Magic::Version => return Err(LedgerError::Newer { path: path.clone() }),
                Magic::Blank | Magic::Foreign => return Err(LedgerError::Foreign { path: path.clone() }),
            }
            let follows = follows.map(|next| next.saturating_sub(*first));
            let count = known.map(|(count, _)| *count).or(follows).unwrap_or_else(|| whole(&bytes));
            let mut steps = Steps::of_file(&bytes, *first, self.quarantine.in_file(path));
            let read = loop {
                let index = steps.index();
                match steps.next() {
                    Some(Step::Record(leaf)) => {
                        if index >= next && walk.leaf(path, index, leaf).is_break() {
                            return Ok(walk.walked);
                        }
                    }
                    // What stands in its place is no decision.
                    Some(Step::Aside(_)) => (),
                    Some(Step::Bad(_)) | None => break index,
                }
            };
            let end = first + count;
            if read.max(next) < end {
                walk.damage(path, read.max(next), end - 1, "frames are damaged".to_owned());
            }
            next = next.max(end);
        }
        Ok(walk.walked)
    }

    /// Walks what stands in segments, from `next` on and before `end`.
    fn segments<F: FnMut(&Decided<'_>) -> ControlFlow<()>>(
        &self,
        walk: &mut Walk<'_, F>,
        next: &mut u64,
        end: u64,
        query: &Query,
    ) -> Result<ControlFlow<()>, LedgerError> {
        let (segments, _) = archive::load(&self.seg, self.disk.as_ref())?;
        let shelf = Shelf::new(segments, Vec::new()).beside(Arc::clone(&self.quarantine));
        let mut source = Source::new(&shelf, self.disk.as_ref());
        let wants = query.filter.wants();
        for volume in &shelf.volumes() {
            if volume.end() <= *next || volume.first() >= end {
                continue;
            }
            if walk.volume(&mut source, volume, *next..end, &wants)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            *next = volume.end().min(end);
        }
        Ok(ControlFlow::Continue(()))
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
