//! The archive thread: moves what is synced from write-ahead files into segments, and takes away what is no longer
//! needed or kept (chapter 9, LG4).
//!
//! It follows [`Shelf::synced`] and alone writes segments and removes files of the log; what it packs it also counts into
//! days (`rollup`). A write-ahead file goes only when
//! segments that are synced hold all of it and no start needs it any more. Whatever fails is tried again; until then the
//! write-ahead files stay, so a full or broken disk stops the archive and loses nothing.

mod bits;
mod block;
mod footer;
mod growing;
mod index;
mod segment;

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base_ports::{Clock, Disk, Mono};

pub(crate) use self::{
    bits::Bits,
    block::{SIZE, Unpacker, leaves},
    footer::{Part, candidates, read_blocks},
    index::{Entry, Field, Want},
    segment::{BadHeader, Body, Segment, load, mend, walk},
};
use self::{
    block::{Packer, end_of},
    growing::Growing,
};
use crate::{
    bell::Bell,
    error::{LedgerError, disk},
    retain::Retention,
    rollup::Counter,
    shelf::Shelf,
    source::each_leaf,
};

/// Longest sleep; a sync wakes it.
const SLEEP: Duration = Duration::from_secs(1);

/// Before a sleep.
const NAP: Duration = Duration::from_millis(1);

/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Memory of the index of a growing segment at which it is closed, bytes.
const INDEX_LIMIT: usize = 24 << 20;

/// When a segment is closed: at the first full block after either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLimits {
    /// Size of a segment, bytes.
    pub size: u64,
    /// Age of a segment.
    pub age: Duration,
}

impl Default for SegmentLimits {
    /// 128 MiB, ten minutes.
    fn default() -> Self {
        Self { size: 128 << 20, age: Duration::from_secs(600) }
    }
}

/// How others speak to the archive.
#[derive(Debug, Default)]
pub(crate) struct ArchiveDesk {
    pub(crate) bell: Arc<Bell>,
    is_stopping: AtomicBool,
    is_failing: AtomicBool,
}

impl ArchiveDesk {
    /// Put away what is full, close the segment and end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether the last try failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}

/// The archive's own things.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) desk: Arc<ArchiveDesk>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shelf: Arc<Shelf>,
    /// Directory of the segments.
    pub(crate) dir: PathBuf,
    pub(crate) origin: String,
    pub(crate) limits: SegmentLimits,
    pub(crate) retention: Retention,
    pub(crate) counter: Counter,
    pub(crate) state: ArchiveState,
}

/// What the archive works with, made by itself.
#[derive(Debug, Default)]
pub(crate) struct ArchiveState {
    packer: Option<Packer>,
    unpacker: Unpacker,
    growing: Option<Growing>,
    /// When retention last ran, and over how many files.
    retired: Option<(Mono, usize)>,
    /// The index at which a damaged file holds the archive up.
    stuck: Option<u64>,
    /// Whether nothing came for a whole sleep.
    pub(crate) is_idle: bool,
    /// Whether the segments of earlier processes are synced: a process that was killed may not have.
    is_certain: Option<bool>,
}

impl Archive {
    /// Runs until the desk says stop.
    pub(crate) fn run(&mut self) {
        self.desk.bell.attach();
        self.shelf.follow(Arc::clone(&self.desk.bell));
        loop {
            let stop = self.desk.is_stopping.load(Ordering::Acquire);
            let done = self.turn(stop);
            let was_failing = self.desk.is_failing.swap(done.is_err(), Ordering::Relaxed);
            match done {
                _ if stop => return,
                Ok(true) => self.desk.bell.awake(),
                Ok(false) => self.state.is_idle = self.desk.bell.sleep(NAP, SLEEP),
                Err(error) => {
                    if !was_failing {
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(
                            event = "ledger_archive_failed",
                            %error,
                            source,
                            "records stay in write-ahead files until it works"
                        );
                    }
                    self.desk.bell.nap(PAUSE);
                }
            }
        }
    }

    /// Does what is to be done; `true` when it put records away or has more of them to count.
    pub(crate) fn turn(&mut self, stop: bool) -> Result<bool, LedgerError> {
        let indexed = self.reindex();
        let has_moved = self.put_away();
        let is_due = self
            .state
            .growing
            .as_ref()
            .is_some_and(|growing| stop || growing.is_old(self.limits.age, self.clock.mono()));
        // Also when a block could not be written: what is synced may free the room that lacks.
        let closed = if is_due { self.close() } else { Ok(()) };
        let has_more = self.counter.turn(stop, std::mem::take(&mut self.state.is_idle));
        self.release()?;
        if !stop {
            self.retire()?;
        }
        closed.and(indexed).and(has_moved).map(|has_moved| has_moved || has_more)
    }

    /// Makes footers that lack or do not fit.
    fn reindex(&mut self) -> Result<(), LedgerError> {
        let open = self.state.growing.as_ref().map(Growing::first);
        let suspects = self.shelf.suspects();
        for known in self.shelf.segments() {
            let is_suspect = suspects.contains(&known.first);
            if (!known.is_bare() && !is_suspect) || Some(known.first) == open {
                continue;
            }
            let closed = growing::reindex(&known, self.disk.as_ref(), &mut self.state.unpacker)?;
            self.shelf.publish_segment(closed);
            self.shelf.clear(known.first);
        }
        Ok(())
    }

    /// Writes all full blocks of what is synced. Where retention has taken what follows, the last one is not full, and the
    /// next segment begins behind the hole.
    fn put_away(&mut self) -> Result<bool, LedgerError> {
        let begin = self.position()?;
        let synced = self.shelf.synced();
        let hole = self.shelf.hole_after(begin);
        let last = hole.unwrap_or(synced / SIZE * SIZE);
        if hole.is_none() && end_of(begin) > synced {
            return Ok(false);
        }
        let mut packer = match self.state.packer.take() {
            Some(packer) => packer,
            None => Packer::new().map_err(disk("compress for", &self.dir))?,
        };
        packer.begin(begin);
        let (shelf, disk_port) = (Arc::clone(&self.shelf), Arc::clone(&self.disk));
        let (mut failed, mut end) = (None, end_of(begin).min(last));
        let reached = each_leaf(&shelf, disk_port.as_ref(), begin..last, |_, leaf| {
            packer.push(leaf);
            if packer.next() < end {
                return ControlFlow::Continue(());
            }
            match self.write(&mut packer) {
                Ok(()) => {
                    packer.begin(end);
                    end = end_of(end).min(last);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        self.state.packer = Some(packer);
        if let Some(error) = failed {
            return Err(error);
        }
        let reached = reached?;
        self.note_stuck(reached, last)?;
        if hole == Some(reached) {
            self.close()?;
        }
        Ok(self.shelf.archived() > begin)
    }

    /// Index of the next record to put away. Where retention has taken records that stood in no segment, a new segment
    /// begins behind them.
    fn position(&mut self) -> Result<u64, LedgerError> {
        let archived = self.shelf.archived();
        let files = self.shelf.files();
        let next = files.iter().find(|file| file.end() > archived);
        let next = next.map_or(archived, |file| file.first.max(archived));
        if next > archived && self.state.growing.is_some() {
            self.close()?;
        }
        Ok(next)
    }

    /// Damage in a write-ahead file stops the archive there, until what no tree has is set aside: by the tree, or here
    /// where there is none. What it has stays, and everything behind it, until retention.
    fn note_stuck(&mut self, reached: u64, wanted: u64) -> Result<(), LedgerError> {
        if reached >= wanted {
            self.state.stuck = None;
        } else if self.state.stuck.replace(reached) == Some(reached) {
            if !self.shelf.has_tree() {
                self.shelf.quarantine().admit(&self.shelf, reached)?;
            }
        } else {
            tracing::error!(
                event = "ledger_archive_stuck",
                code = "PC6021",
                index = reached,
                "a write-ahead file is damaged; it and the files behind it are kept as they are"
            );
        }
        Ok(())
    }

    /// Appends one block to the growing segment, and closes that when it is full.
    fn write(&mut self, packer: &mut Packer) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let growing = match &mut self.state.growing {
            Some(growing) => growing,
            empty => {
                let fresh =
                    Growing::create(&self.dir, packer.first(), &self.origin, now, self.disk.as_ref())?;
                empty.insert(fresh)
            }
        };
        growing.append(packer, &mut self.counter)?;
        self.shelf.publish_segment(growing.segment());
        let is_full = growing.len() >= self.limits.size
            || growing.is_old(self.limits.age, now.mono)
            || growing.index_bytes() >= INDEX_LIMIT;
        if is_full { self.close() } else { Ok(()) }
    }

    /// Writes the footer of the growing segment and makes all of it durable.
    fn close(&mut self) -> Result<(), LedgerError> {
        let Some(growing) = &mut self.state.growing else { return Ok(()) };
        let closed = growing.close(self.disk.as_ref(), &self.dir);
        self.after_sync(closed.map(Some))
    }

    /// Makes the blocks of the growing segment durable.
    fn sync(&mut self) -> Result<(), LedgerError> {
        let Some(growing) = &mut self.state.growing else { return Ok(()) };
        let synced = growing.sync(self.disk.as_ref(), &self.dir);
        self.after_sync(synced.map(|()| None))
    }

    /// A segment whose sync failed is not written any more: what of it was synced before stays, the rest is put away
    /// again from the write-ahead files, which are still there.
    fn after_sync(&mut self, outcome: Result<Option<Segment>, growing::Failed>) -> Result<(), LedgerError> {
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(closed)) => {
                self.state.growing = None;
                self.shelf.publish_segment(closed);
                Ok(())
            }
            Err(growing::Failed::Write(error)) => Err(error),
            Err(growing::Failed::Sync(error)) => {
                if let Some(growing) = self.state.growing.take() {
                    match growing.synced_part() {
                        Some(part) => self.shelf.publish_segment(part),
                        None => self.shelf.remove_segment(growing.first()),
                    }
                    growing.give_up(self.disk.as_ref())?;
                }
                Err(error)
            }
        }
    }

    /// Removes write-ahead files that stand in synced segments as a whole.
    fn release(&mut self) -> Result<(), LedgerError> {
        let is_done = |end: u64, shelf: &Shelf| end <= shelf.archived() && end <= shelf.settled();
        let files = self.shelf.files();
        let Some((_, closed)) = files.split_last() else { return Ok(()) };
        let done: Vec<_> = closed.iter().take_while(|file| is_done(file.end(), &self.shelf)).collect();
        if done.is_empty() || !self.make_certain()? {
            return Ok(());
        }
        self.sync()?;
        for file in done {
            let _leaving = self.shelf.leaving();
            self.disk.remove(&file.path).map_err(disk("remove", &file.path))?;
            self.shelf.remove(file.first);
        }
        Ok(())
    }

    /// Syncs the segments that an earlier process wrote, once. Where that fails they are not trusted, and their
    /// write-ahead files stay until the next start looks at both.
    fn make_certain(&mut self) -> Result<bool, LedgerError> {
        if let Some(is_certain) = self.state.is_certain {
            return Ok(is_certain);
        }
        let first = self.shelf.files().first().map_or(u64::MAX, |file| file.first);
        let growing = self.state.growing.as_ref().map(Growing::first);
        self.state.is_certain = Some(false);
        for segment in
            self.shelf.segments().iter().filter(|known| known.end > first && Some(known.first) != growing)
        {
            let mut file = self.disk.open_append(&segment.path).map_err(disk("open", &segment.path))?;
            file.sync_data().map_err(disk("sync", &segment.path))?;
        }
        self.disk.sync_dir(&self.dir).map_err(disk("sync", &self.dir))?;
        self.state.is_certain = Some(true);
        Ok(true)
    }

    /// Removes what is past retention, once a second and for each new file.
    fn retire(&mut self) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let files = self.shelf.count();
        let is_done =
            |(last, known): (Mono, usize)| known == files && now.mono.saturating_since(last) < SLEEP;
        if self.state.retired.is_some_and(is_done) {
            return Ok(());
        }
        self.state.retired = Some((now.mono, files));
        let growing = self.state.growing.as_ref().map(Growing::first);
        self.retention.run(&self.shelf, growing, self.disk.as_ref(), now)
    }
}

/// Notes what is wrong with the headers of segments: their blocks are read all the same.
pub(crate) fn tell_bad_headers<'a>(bad: impl Iterator<Item = &'a BadHeader>) {
    for header in bad {
        tracing::error!(
            event = "ledger_damaged",
            code = "PC6021",
            file = %header.path.display(),
            first = header.first,
            "the header of a segment is damaged; its blocks are read all the same"
        );
    }
}

#[cfg(test)]
pub(crate) mod tests;
