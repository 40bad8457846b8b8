//! Roll-ups: what every day of decisions came to, kept longer than the decisions themselves (QY5).
//!
//! The archive counts each decision once into the day of its time, with the record in hand when it packs a block, and
//! writes the days it touched to `ledger/rollup/<day>` as whole files. Records that were not in hand at their turn are
//! read for it: those that fill no block yet, and those that an earlier process put away without counting them. A day
//! says up to which index it is counted, and `rollup/through` from where to go on: a file that was written and a number
//! that was not count nothing twice. What could not be read, or was gone before it was counted, is told with the day,
//! never passed over in silence.

mod day;
mod report;
mod stored;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base_ports::{Clock, Disk, Mono, UnixTime};
use parking_lot::Mutex;

use self::day::Day;
pub(crate) use self::report::{Question, Words};
use crate::{
    error::{LedgerError, disk},
    leaf::{Kind, LeafError, View},
    shelf::{Shelf, Span},
    source::Source,
};

/// Days that are kept, whatever the retention of records.
const KEPT_DAYS: i64 = 400;

/// How often what fills no block yet is counted while the archive is busy.
const PERIOD: Duration = Duration::from_millis(500);

/// How often what was counted is written.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// How long a damaged place is tried again: it may be set aside, or its file restored.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that are read in one turn: the archive goes on with its own behind it.
const TURN: u64 = 5_000;

/// Nanoseconds of a day.
const DAY: i64 = 86_400_000_000_000;

/// The day of a time, counted from 1970, UTC.
pub(crate) fn day_of(time: UnixTime) -> i64 {
    time.as_nanos().div_euclid(DAY)
}

/// `2026-11-22`, which is also the name of its file.
pub(crate) fn name_of(day: i64) -> String {
    let text = UnixTime::from_nanos(day.saturating_mul(DAY)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The day of a file.
fn day_named(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let time = UnixTime::parse_rfc3339(&format!("{name}T00:00:00Z")).ok()?;
    Some(day_of(time))
}

/// Roll-ups as the ledger and its readers hold them.
#[derive(Debug)]
pub(crate) struct Rollups {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Days that are not only on disk.
    days: Mutex<BTreeMap<i64, Day>>,
    /// Index after the last record counted.
    through: AtomicU64,
}

impl Rollups {
    /// Index after the last record that is counted.
    pub(crate) fn through(&self) -> u64 {
        self.through.load(Ordering::Acquire)
    }

    fn path(&self, day: i64) -> PathBuf {
        self.dir.join(name_of(day))
    }

    /// The days that have a file.
    fn stored(&self) -> Result<Vec<i64>, LedgerError> {
        let files = self.disk.list(&self.dir).map_err(disk("list", &self.dir))?;
        let mut days: Vec<_> = files.iter().filter_map(|path| day_named(path)).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// A day as it stands in its file; `Err` with what is wrong with it.
    fn read(&self, day: i64) -> Result<Option<Result<Day, String>>, LedgerError> {
        let path = self.path(day);
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let bytes = self.disk.read(&path).map_err(disk("read", &path))?;
        Ok(Some(stored::decode(&bytes, day).map_err(|error| error.to_string())))
    }
}

/// What counts. The archive alone has one.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) rollups: Arc<Rollups>,
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
    /// Index of the next record to count.
    next: u64,
    /// What the log had when this process opened it: no earlier process can have counted more of it.
    opened_at: u64,
    /// When it last read what was not in hand.
    looked: Mono,
    saved: Mono,
    saved_through: u64,
    /// Since when a damaged place holds it up.
    stuck: Option<(u64, Mono)>,
    /// The day on which old files were last removed.
    tidied: Option<i64>,
    is_failing: bool,
}

impl Counter {
    /// Goes on in `dir` with a log that had `opened_at` records when this process opened it.
    pub(crate) fn new(
        dir: PathBuf,
        disk_port: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        shelf: &Arc<Shelf>,
        opened_at: u64,
    ) -> Result<Counter, LedgerError> {
        disk_port.create_dir_all(&dir).map_err(disk("create", &dir))?;
        let path = dir.join("through");
        let known = match disk_port.exists(&path) {
            true => disk_port.read(&path).map_err(disk("read", &path))?,
            false => Vec::new(),
        };
        let known = std::str::from_utf8(&known).ok().and_then(|text| text.trim_end().parse::<u64>().ok());
        // Without the number all that is kept is gone through: days know what they have.
        let next = known.unwrap_or_else(|| shelf.first_index()).min(opened_at);
        let rollups = Arc::new(Rollups {
            dir,
            disk: Arc::clone(disk_port),
            days: Mutex::default(),
            through: AtomicU64::new(next),
        });
        Ok(Counter {
            rollups,
            shelf: Arc::clone(shelf),
            clock: Arc::clone(clock),
            next,
            opened_at,
            looked: clock.mono(),
            saved: clock.mono(),
            saved_through: next,
            stuck: None,
            tidied: None,
            is_failing: false,
        })
    }

    /// Counts the records of a block that begins at `first`. What is not next, or cannot be counted now, waits for
    /// [`Counter::turn`].
    pub(crate) fn take(&mut self, first: u64, records: &[Result<View<'_>, LeafError>]) {
        for (index, record) in (first..).zip(records) {
            if index == self.next && self.count(index, record.as_ref().ok()).is_err() {
                break;
            }
        }
        self.rollups.through.store(self.next, Ordering::Release);
    }

    /// Counts what was not in hand, and writes what is due; `true` when there is more to count at once. Whatever fails
    /// is told and tried again, and holds nothing else up.
    pub(crate) fn turn(&mut self, stop: bool, is_idle: bool) -> bool {
        let turned = self.catch_up(stop, is_idle);
        let was_failing = std::mem::replace(&mut self.is_failing, turned.is_err());
        if let Err(error) = &turned
            && !was_failing
        {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(event = "ledger_rollup_failed", %error, source, "it is tried again");
        }
        turned.unwrap_or(false)
    }

    fn catch_up(&mut self, stop: bool, is_idle: bool) -> Result<bool, LedgerError> {
        let now = self.clock.mono();
        let is_behind = self.next < self.shelf.archived() && self.stuck.is_none() && !self.is_failing;
        let is_due = is_behind || is_idle || now.saturating_since(self.looked) >= PERIOD;
        // Whoever stops waits: what is not counted yet is counted by the next process.
        let counted = if is_due && !stop {
            self.looked = now;
            self.advance(TURN)
        } else {
            Ok(false)
        };
        self.rollups.through.store(self.next, Ordering::Release);
        if stop || now.saturating_since(self.saved) >= SAVE_EVERY {
            self.saved = now;
            self.save()?;
            self.tidy()?;
        }
        counted
    }

    /// Counts up to `most` records; `true` when there are more.
    fn advance(&mut self, most: u64) -> Result<bool, LedgerError> {
        let synced = self.shelf.synced();
        let end = synced.min(self.next.saturating_add(most));
        let (shelf, disk_port) = (Arc::clone(&self.shelf), Arc::clone(&self.rollups.disk));
        let mut source = Source::new(&shelf, disk_port.as_ref()).quiet();
        for volume in shelf.volumes() {
            if volume.end() <= self.next {
                continue;
            }
            for extent in source.extents(&volume, Span::ALL, &[])? {
                if extent.end <= self.next {
                    continue;
                }
                if extent.first.max(self.next) >= end {
                    return Ok(self.next < synced);
                }
                self.miss(extent.first)?;
                let mut failed = None;
                let reading = source.read(&extent, self.next, &mut |index, leaf| {
                    if index >= end {
                        return ControlFlow::Break(());
                    }
                    match self.count(index, View::of(leaf).ok().as_ref()) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(error) => {
                            failed = Some(error);
                            ControlFlow::Break(())
                        }
                    }
                })?;
                if let Some(error) = failed {
                    return Err(error);
                }
                if let Some(damage) = reading.damage {
                    return self.wait_for(damage.last.saturating_add(1).min(synced));
                }
                if reading.is_stopped {
                    return Ok(self.next < synced);
                }
            }
        }
        Ok(false)
    }

    /// Counts one record; `None` where it has no form that this build knows.
    fn count(&mut self, index: u64, view: Option<&View<'_>>) -> Result<(), LedgerError> {
        match view {
            Some(view) if view.kind() == Kind::DECISION => {
                let time = UnixTime::from_nanos(view.time);
                self.in_day(day_of(time), index, |day| day.count(view))?;
            }
            Some(_) => {}
            None => self.in_day(self.today(), index, |day| day.uncounted += 1)?,
        }
        self.next = index + 1;
        self.stuck = None;
        Ok(())
    }

    /// What stood before `index` and was not counted is gone.
    fn miss(&mut self, index: u64) -> Result<(), LedgerError> {
        if index > self.next {
            let missed = index - self.next;
            self.in_day(self.today(), self.next, |day| day.uncounted += missed)?;
            self.next = index;
        }
        Ok(())
    }

    /// A place cannot be read: it is tried again for a while, then passed over as missed.
    fn wait_for(&mut self, end: u64) -> Result<bool, LedgerError> {
        let now = self.clock.mono();
        let since = match self.stuck {
            Some((at, since)) if at == self.next => since,
            _ => now,
        };
        self.stuck = Some((self.next, since));
        if now.saturating_since(since) < PATIENCE {
            return Ok(false);
        }
        self.miss(end)?;
        Ok(true)
    }

    fn today(&self) -> i64 {
        day_of(self.clock.now().wall)
    }

    /// Works on a day, which is read from its file first, unless it has that index already.
    fn in_day(&self, day: i64, index: u64, work: impl FnOnce(&mut Day)) -> Result<(), LedgerError> {
        let mut days = self.rollups.days.lock();
        let found = match days.entry(day) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => empty.insert(self.load(day)?),
        };
        if index >= found.through {
            work(found);
            found.is_changed = true;
        }
        Ok(())
    }

    /// A damaged file is put aside, and its day goes on with what comes.
    fn load(&self, day: i64) -> Result<Day, LedgerError> {
        match self.rollups.read(day)? {
            None => Ok(Day::default()),
            Some(Ok(mut known)) => {
                // A ledger that lost records counts on from what it has left.
                known.through = known.through.min(self.opened_at.max(self.next));
                Ok(known)
            }
            Some(Err(problem)) => {
                let path = self.rollups.path(day);
                tracing::error!(
                    event = "ledger_rollup_damaged",
                    code = "PC6021",
                    file = %path.display(),
                    problem,
                    "what was counted of that day is lost; restore the file from a copy"
                );
                let aside = path.with_extension("damaged");
                self.rollups.disk.rename(&path, &aside).map_err(disk("rename", &path))?;
                Ok(Day { is_damaged: true, ..Day::default() })
            }
        }
    }

    /// Writes the days that changed, then from where to go on.
    fn save(&mut self) -> Result<(), LedgerError> {
        if self.next == self.saved_through {
            return Ok(());
        }
        let rollups = Arc::clone(&self.rollups);
        let changed: Vec<i64> = {
            let days = rollups.days.lock();
            days.iter().filter(|(_, day)| day.is_changed).map(|(at, _)| *at).collect()
        };
        for at in changed {
            // Encoded under the lock, written without it: readers wait for no disk.
            let bytes = rollups.days.lock().get_mut(&at).map(|day| {
                day.through = self.next;
                stored::encode(day, at)
            });
            let path = rollups.path(at);
            let bytes = bytes.unwrap_or_default();
            rollups.disk.write_atomic(&path, &bytes, 0o600).map_err(disk("write", &path))?;
            rollups.days.lock().entry(at).and_modify(|day| day.is_changed = false);
        }
        let path = rollups.dir.join("through");
        let text = format!("{}\n", self.next);
        rollups.disk.write_atomic(&path, text.as_bytes(), 0o600).map_err(disk("write", &path))?;
        self.saved_through = self.next;
        let today = self.today();
        rollups.days.lock().retain(|at, day| *at == today || day.is_changed);
        Ok(())
    }

    /// Removes what is older than it is kept, once a day.
    fn tidy(&mut self) -> Result<(), LedgerError> {
        let today = self.today();
        if self.tidied == Some(today) {
            return Ok(());
        }
        for old in self.rollups.stored()?.into_iter().filter(|day| *day <= today - KEPT_DAYS) {
            let path = self.rollups.path(old);
            self.rollups.disk.remove(&path).map_err(disk("remove", &path))?;
        }
        self.tidied = Some(today);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
