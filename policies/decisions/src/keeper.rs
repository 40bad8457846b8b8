//! The keeper thread: everything that waits for the disk to be sure.
//!
//! It syncs the files the writer appends to (group commit, LS3), reserves numbers for lanes (SQ3) and keeps the state
//! file. It works on handles of its own, so that the writer goes on appending while a sync is under way. A file whose
//! sync failed is never trusted again: what waited for it is refused, the writer moves to a new file, and what can be
//! read of the old one is copied to another, which takes its place. Until then nothing counts as synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};

use base_ports::{Clock, Disk, DiskFile, Mono};
use parking_lot::Mutex;
use policies_engine::AuditUnavailable;

use crate::{
    bell::Bell,
    frame::Frames,
    lane::{Done, Shared},
    meter::Meter,
    numbers::MAX_RESERVATION,
    shelf::{Shelf, WalFile},
    state::State,
};

/// How long the keeper sleeps when nothing is to be synced.
const REST: Duration = Duration::from_secs(5);

/// What others leave for the keeper.
#[derive(Debug)]
pub(crate) struct KeeperDesk {
    pub(crate) bell: Arc<Bell>,
    tray: Mutex<Tray>,
    /// The current file failed to sync.
    must_rotate: AtomicBool,
    syncs: AtomicU64,
    sync_failures: AtomicU64,
    is_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Tray {
    opened: Vec<PathBuf>,
    closed: Vec<Closed>,
    lanes: Vec<(Arc<Shared>, Option<SyncSender<()>>)>,
    is_dirty: bool,
    durable: Vec<Done>,
    settled: bool,
    stop: bool,
}

impl Tray {
    /// Whether something is to be synced, and whether something cannot wait for the commit interval.
    fn pressing(&self) -> (bool, bool) {
        let is_urgent = !self.durable.is_empty()
            || !self.opened.is_empty()
            || !self.closed.is_empty()
            || !self.lanes.is_empty()
            || self.settled
            || self.stop;
        (self.is_dirty, is_urgent)
    }
}

/// A file the writer is done with, and the numbers that stand in it or before.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) file: WalFile,
    pub(crate) stored: BTreeMap<u16, u64>,
}

impl KeeperDesk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bell: Arc::default(),
            tray: Mutex::default(),
            must_rotate: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            sync_failures: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        })
    }

    /// The writer goes on in a new file; what it leaves behind is full.
    pub(crate) fn rotated(&self, closed: Option<Closed>, opened: PathBuf) {
        let mut tray = self.tray.lock();
        tray.closed.extend(closed);
        tray.opened.push(opened);
        drop(tray);
        self.bell.ring();
    }

    /// Something was written; `durable` wait until it is synced.
    pub(crate) fn written(&self, durable: Vec<Done>) {
        let mut tray = self.tray.lock();
        let is_news = !tray.is_dirty || !durable.is_empty();
        tray.is_dirty = true;
        tray.durable.extend(durable);
        drop(tray);
        if is_news {
            self.bell.ring();
        }
    }

    /// A lane wants numbers; `ready` hears when it has the first.
    pub(crate) fn register(&self, lane: Arc<Shared>, ready: Option<SyncSender<()>>) {
        self.tray.lock().lanes.push((lane, ready));
        self.bell.ring();
    }

    /// Earlier boots are declared and synced: forget them.
    pub(crate) fn settle(&self) {
        self.tray.lock().settled = true;
        self.bell.ring();
    }

    /// Sync what there is and end.
    pub(crate) fn stop(&self) {
        self.tray.lock().stop = true;
        self.bell.ring();
    }

    /// Whether the current file must not be written any more; asking takes the answer.
    pub(crate) fn must_rotate(&self) -> bool {
        self.must_rotate.load(Ordering::Relaxed) && self.must_rotate.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Whether the last sync failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    pub(crate) fn sync_failures(&self) -> u64 {
        self.sync_failures.load(Ordering::Relaxed)
    }
}

/// The keeper's own things.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) desk: Arc<KeeperDesk>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wal: PathBuf,
    pub(crate) state_path: PathBuf,
    pub(crate) state: State,
    pub(crate) boot: [u8; 8],
    /// First index of this boot.
    pub(crate) begins_at: u64,
    pub(crate) is_settled: bool,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) commit_interval: Duration,
    pub(crate) lanes: Vec<KeptLane>,
    pub(crate) files: Vec<(PathBuf, Box<dyn DiskFile>)>,
    /// Full files that do not count as closed yet.
    pub(crate) closed: Vec<Closed>,
    /// Files that failed to sync: nothing counts as synced while there are any.
    pub(crate) doubtful: BTreeSet<PathBuf>,
    pub(crate) meter: Option<Arc<Meter>>,
}

/// A lane as the keeper sees it.
#[derive(Debug)]
pub(crate) struct KeptLane {
    shared: Arc<Shared>,
    window: u64,
    reserved: u64,
    since: Mono,
    ready: Option<SyncSender<()>>,
}

impl KeptLane {
    fn new(shared: Arc<Shared>, ready: Option<SyncSender<()>>) -> Self {
        let window = shared.reservation;
        Self { shared, window, reserved: 0, since: Mono::from_nanos(0), ready }
    }

    /// Whether half of its numbers are used.
    fn is_short(&self) -> bool {
        self.reserved.saturating_sub(self.shared.reserved.used()) <= self.window / 2
    }

    /// Takes the next reservation. A lane that comes back within a second gets twice as many as before, up to a
    /// bound, so that reservations never limit it.
    fn extend(&mut self, now: Mono) {
        let is_busy = self.reserved > 0 && now.saturating_since(self.since) < Duration::from_secs(1);
        self.window = if is_busy { (self.window * 2).min(MAX_RESERVATION) } else { self.shared.reservation };
        self.since = now;
        self.reserved = self.reserved.max(self.shared.reserved.used() + self.window);
    }
}

impl Keeper {
    /// Reserves the first numbers of the ledger's own lane, before anything is written.
    pub(crate) fn begin(&mut self, own: Arc<Shared>) -> io::Result<()> {
        self.lanes.push(KeptLane::new(own, None));
        self.reserve();
        self.try_save()
    }

    /// Runs until the desk says stop.
    pub(crate) fn run(&mut self) {
        self.desk.bell.attach();
        loop {
            // Before the tray: the file of each of these records is open here, or its opening lies in the tray.
            let through = self.shelf.next_index();
            let tray = std::mem::take(&mut *self.desk.tray.lock());
            let (has_opened, has_closed) = (!tray.opened.is_empty(), !tray.closed.is_empty());
            for path in tray.opened {
                self.open(&path);
            }
            let lanes = tray.lanes.into_iter();
            self.lanes.extend(lanes.map(|(shared, ready)| KeptLane::new(shared, ready)));
            // Before the sync: a lane without numbers loses records.
            if self.reserve() {
                self.save();
            }
            let has_mended = self.mend();
            if tray.is_dirty || has_opened || has_mended {
                self.sync(tray.durable, through);
            }
            let is_settled = tray.settled && !self.files.is_empty();
            if has_closed {
                // All are synced by now, and only the last is still written to.
                let done = self.files.len().saturating_sub(1);
                self.files.drain(..done);
            }
            if is_settled {
                self.settle();
            }
            self.closed.extend(tray.closed);
            // One that may be lost with the power must be read at the next start.
            let is_certain = self.doubtful.is_empty();
            if is_certain {
                std::mem::take(&mut self.closed).into_iter().for_each(|closed| self.close(closed));
            }
            if (is_certain && (has_closed || has_mended)) || is_settled {
                self.save();
            }
            if tray.stop {
                return;
            }
            self.rest();
        }
    }

    /// Waits for work. Group commit happens here: what was written waits for the interval, unless somebody waits for
    /// the sync.
    fn rest(&self) {
        loop {
            let (is_dirty, is_urgent) = self.desk.tray.lock().pressing();
            if is_urgent {
                return;
            }
            if is_dirty {
                return self.desk.bell.nap(self.commit_interval);
            }
            self.desk.bell.nap(REST);
            if self.lanes.iter().any(KeptLane::is_short) {
                return;
            }
        }
    }

    fn open(&mut self, path: &Path) {
        let opened = self.disk.open_append(path).and_then(|file| {
            self.disk.sync_dir(&self.wal)?;
            Ok(file)
        });
        match opened {
            Ok(file) => self.files.push((path.to_owned(), file)),
            Err(error) => {
                self.doubtful.insert(path.to_owned());
                self.distrust(&error);
            }
        }
    }

    fn sync(&mut self, durable: Vec<Done>, through: u64) {
        let begun = self.clock.mono();
        let synced = self.files.iter_mut().try_for_each(|(_, file)| file.sync_data());
        let took = self.clock.mono().saturating_since(begun);
        self.meter.iter().for_each(|meter| meter.synced(took));
        let outcome = match synced {
            Ok(()) if !self.files.is_empty() => {
                self.desk.syncs.fetch_add(1, Ordering::Relaxed);
                self.desk.is_failing.store(false, Ordering::Relaxed);
                if self.doubtful.is_empty() {
                    self.shelf.raise_synced(through);
                }
                Ok(())
            }
            Ok(()) => Err(AuditUnavailable("no file is open".to_owned())),
            Err(error) => {
                self.distrust(&error);
                Err(AuditUnavailable(format!("sync failed: {error}")))
            }
        };
        for done in durable {
            // Whoever waited may have given up; then nobody is left to be told.
            drop(done.send(outcome.clone()));
        }
    }

    fn distrust(&mut self, error: &io::Error) {
        tracing::error!(event = "ledger_sync_failed", %error, "the ledger's file is not trusted any more");
        self.desk.sync_failures.fetch_add(1, Ordering::Relaxed);
        self.desk.is_failing.store(true, Ordering::Relaxed);
        self.doubtful.extend(self.files.drain(..).map(|(path, _)| path));
        self.desk.must_rotate.store(true, Ordering::Relaxed);
    }

    /// Replaces files whose sync failed by synced copies, once the writer has left them; `true` when there was one and
    /// none is left.
    fn mend(&mut self) -> bool {
        if self.doubtful.is_empty() {
            return false;
        }
        let files = self.shelf.files();
        let current = files.last().map(|file| file.path.clone());
        for path in std::mem::take(&mut self.doubtful) {
            let known = files.iter().find(|file| file.path == path).filter(|file| file.count > 0);
            let outcome = match known {
                _ if Some(&path) == current.as_ref() => Err(io::Error::other("it is still written to")),
                Some(file) => self.copy(file),
                // Nothing was ever in it, or retention took it.
                None => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::debug!(event = "ledger_copy_failed", %error, file = %path.display(), "tried again");
                self.doubtful.insert(path);
            }
        }
        self.doubtful.is_empty()
    }

    /// Writes what can be read of a file to another, syncs that, and puts it in its place.
    fn copy(&self, file: &WalFile) -> io::Result<()> {
        let mut bytes = self.disk.read(&file.path)?;
        bytes.truncate(usize::try_from(file.len).unwrap_or(usize::MAX));
        let whole = Frames::of_file(&bytes).map_while(Result::ok).count() as u64;
        if whole != file.count {
            return Err(io::Error::other("it does not hold what was written"));
        }
        self.disk.write_atomic(&file.path, &bytes, 0o600)?;
        tracing::info!(event = "ledger_file_copied", file = %file.path.display(), "its records are certain again");
        Ok(())
    }

    /// Earlier boots are on record and synced: their files need not be read again.
    fn settle(&mut self) {
        self.state.boots.retain(|boot, _| *boot == self.boot);
        self.state.through = self.state.through.max(self.begins_at);
        self.is_settled = true;
    }

    fn close(&mut self, closed: Closed) {
        let file = closed.file;
        if self.is_settled {
            self.state.through = file.end();
        }
        self.state.files.insert(file.first, (file.count, file.span));
        let lanes = self.state.boots.entry(self.boot).or_default();
        for (lane, stored) in closed.stored {
            lanes.entry(lane).or_default().stored = stored;
        }
    }

    /// Gives numbers to lanes that run short of them. Returns whether any did.
    fn reserve(&mut self) -> bool {
        let now = self.clock.mono();
        let mut any = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_short()) {
            lane.extend(now);
            any = true;
        }
        any
    }

    fn save(&mut self) {
        if let Err(error) = self.try_save() {
            tracing::error!(event = "ledger_state_failed", %error, "cannot reserve decision numbers");
            for lane in &mut self.lanes {
                lane.reserved = lane.shared.reserved.bound();
            }
        }
    }

    /// Writes the state file; only then may lanes use what it reserves.
    fn try_save(&mut self) -> io::Result<()> {
        let standing: BTreeSet<_> = self.shelf.files().iter().map(|file| file.first).collect();
        self.state.files.retain(|first, _| standing.contains(first));
        let lanes = self.state.boots.entry(self.boot).or_default();
        for lane in &self.lanes {
            lanes.entry(lane.shared.number).or_default().reserved = lane.reserved;
        }
        self.disk.write_atomic(&self.state_path, &self.state.encode(), 0o600)?;
        self.shelf.raise_settled(self.state.through);
        for lane in &mut self.lanes {
            lane.shared.reserved.raise(lane.reserved);
            if let Some(ready) = lane.ready.take() {
                // A lane whose maker has stopped waiting just goes on.
                ready.try_send(()).unwrap_or_default();
            }
        }
        Ok(())
    }
}
