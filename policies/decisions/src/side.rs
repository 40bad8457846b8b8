//! The side store: who the committed ids on record are, kept apart from the log so that it can be erased (CM3 to CM5).
//!
//! For each person and UTC day of records there is one random key, sealed together with the id, in a file of that day
//! (`side/`). Salts come from it (`commit`), so records themselves add nothing. The writer thread asks for commitments and
//! has new keys on disk before it writes the first record that needs one: no crash leaves a record whose opening is lost.
//! Whoever erases a person replaces the files; leaves, tree and proofs do not notice. No key of this store, and no id, is
//! ever in the log.

mod file;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base_ports::{Disk, DiskFile, Rng, UnixTime};
use parking_lot::Mutex;
use policies_engine::DecisionId;

use crate::{
    commit::{Commitment, Opening, PersonKey},
    reveal::Opened,
    shelf::Span,
};
pub(crate) use file::LONGEST;
use file::{Found, Names, Seal};

/// Days of which the writer keeps the keys at hand: records of two come in turn around midnight.
const AT_HAND: usize = 2;

const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;

/// Days since 1970, UTC.
pub(crate) type Day = u64;

/// The day of a record: what its id says.
pub(crate) fn day_of(record: DecisionId) -> Day {
    record.millis() / DAY_MILLIS
}

/// The day of a time; those before 1970 are the first.
pub(crate) fn day_at(time: UnixTime) -> Day {
    u64::try_from(time.as_millis()).unwrap_or_default() / DAY_MILLIS
}

/// The side store of one ledger.
pub(crate) struct Side {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    seal: Seal,
    /// In the names of the files that this process makes.
    tag: u64,
    open: Mutex<BTreeMap<Day, OpenDay>>,
    /// Held while files are replaced or removed. Before `open`, where both are needed.
    files: Mutex<()>,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A day that the writer writes.
#[derive(Default)]
struct OpenDay {
    people: HashMap<Box<str>, PersonKey>,
    /// People whose keys are not on disk yet.
    fresh: Vec<Box<str>>,
    /// Where they go. Without one, or after a failure, everybody goes into the next file.
    file: Option<(PathBuf, Box<dyn DiskFile>)>,
    files: u32,
    erased: u64,
    /// Somebody was erased, and no file says so yet.
    is_behind: bool,
}

impl Side {
    /// Nothing is read or made before it is needed.
    pub(crate) fn new(dir: &Path, disk: &Arc<dyn Disk>, rng: &Arc<dyn Rng>, key: &[u8; 32]) -> Side {
        Side {
            dir: dir.join("side"),
            disk: Arc::clone(disk),
            rng: Arc::clone(rng),
            seal: Seal::new(key),
            tag: rng.u64(),
            open: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// What stands in that field of that record in place of the id. Called by the writer alone; the key is on disk after the next
    /// [`Side::flush`].
    pub(crate) fn commit(&self, field: &str, id: &str, record: DecisionId) -> Commitment {
        let day = day_of(record);
        let mut open = self.open.lock();
        if !open.contains_key(&day) && open.len() >= AT_HAND {
            let settled = open.iter().find(|(_, of)| of.is_settled()).map(|(day, _)| *day);
            settled.and_then(|day| open.remove(&day));
        }
        let day = open.entry(day).or_default();
        if let Some(key) = day.people.get(id) {
            return key.commit(field, id, record);
        }
        let mut secret = [0; 32];
        self.rng.fill(&mut secret);
        let key = PersonKey::new(secret);
        let committed = key.commit(field, id, record);
        day.people.insert(id.into(), key);
        day.fresh.push(id.into());
        committed
    }

    /// Makes the keys of everything that was committed durable. Until this has worked no record that needs them may be
    /// written.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut open = self.open.lock();
        open.iter_mut().filter(|(_, day)| !day.is_settled()).try_for_each(|(day, of)| self.write(*day, of))
    }

    fn write(&self, day: Day, of: &mut OpenDay) -> io::Result<()> {
        if let Some((path, mut file)) = of.file.take() {
            let mut frames = Vec::new();
            for (id, key) in of.fresh.iter().filter_map(|id| of.people.get_key_value(id)) {
                self.seal.person(&mut frames, day, id, key, self.rng.as_ref());
            }
            // After a failure nobody knows what is in it: readers take what is whole, the writer another file.
            file.append(&frames)?;
            file.sync_data()?;
            of.file = Some((path, file));
        } else {
            self.disk.create_dir_all(&self.dir)?;
            let path = self.dir.join(Names::of(day, self.tag, of.files));
            self.disk.write_atomic(&path, &self.whole(day, of), 0o600)?;
            of.files += 1;
            of.file = Some((path.clone(), self.disk.open_append(&path)?));
        }
        of.fresh.clear();
        of.is_behind = false;
        Ok(())
    }

    /// A file with everybody of that day.
    fn whole(&self, day: Day, of: &OpenDay) -> Vec<u8> {
        let mut bytes = file::begin(of.erased);
        for (id, key) in &of.people {
            self.seal.person(&mut bytes, day, id, key, self.rng.as_ref());
        }
        bytes
    }

    /// The key that the writer has at hand for a person and a day.
    pub(crate) fn key_at_hand(&self, id: &str, day: Day) -> Option<PersonKey> {
        self.open.lock().get(&day)?.people.get(id).cloned()
    }

    /// The keys of a person for the records of a day, as they stand in files: one for each process that wrote some.
    pub(crate) fn keys_of(&self, id: &str, day: Day) -> Vec<PersonKey> {
        let (mut keys, term) = (Vec::new(), self.seal.term(id));
        self.each(day, |found| found.term == term, &mut |found, key| {
            if found == id {
                keys.push(key);
            }
        });
        keys
    }

    /// Opens what that record is committed to; `oldest` is the first day that is still kept. Tries everybody of the day:
    /// call it from a thread that may block.
    pub(crate) fn reveal(
        &self,
        record: DecisionId,
        (field, committed): (&'static str, Commitment),
        oldest: Day,
    ) -> Opened {
        let (day, mut opening) = (day_of(record), None);
        let read = self.each(day, |_| true, &mut |id, key| {
            if opening.is_none() && key.commit(field, id, record) == committed {
                opening = Some(Opening {
                    field: field.to_owned(),
                    value: id.to_owned(),
                    salt: key.salt(field, record),
                });
            }
        });
        match (opening, read) {
            (Some(opening), _) => Opened::Clear(opening),
            (None, _) if day < oldest => Opened::Expired,
            (None, Read { is_damaged: false, erased: 1.. }) => Opened::Erased,
            (None, _) => Opened::Lost,
        }
    }

    /// Gives out the people in the files of a day that are wanted.
    fn each(
        &self,
        day: Day,
        wanted: impl Fn(&Found<'_>) -> bool,
        give: &mut dyn FnMut(&str, PersonKey),
    ) -> Read {
        let mut read = Read::default();
        for path in self.paths().into_iter().filter(|path| Names::day(path) == Some(day)) {
            match self.disk.read(&path) {
                Ok(bytes) => {
                    let contents = file::read(&bytes);
                    read.erased += contents.erased;
                    read.is_damaged |= contents.is_damaged;
                    for found in contents.people.iter().filter(|found| wanted(found)) {
                        match self.seal.open(day, found) {
                            Some((id, key)) => give(&id, key),
                            None => read.is_damaged = true,
                        }
                    }
                }
                // Retention took it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(_unread) => read.is_damaged = true,
            }
        }
        read
    }

    /// The days of which there is a key of that person. Reads files.
    pub(crate) fn days_of(&self, id: &str) -> BTreeSet<Day> {
        let open = self.open.lock();
        let at_hand = open.iter().filter(|(_, of)| of.people.contains_key(id)).map(|(day, _)| *day);
        let mut days: BTreeSet<_> = at_hand.collect();
        drop(open);
        let in_files: BTreeSet<_> = self.paths().iter().filter_map(|path| Names::day(path)).collect();
        days.extend(in_files.into_iter().filter(|day| !self.keys_of(id, *day).is_empty()));
        days
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.disk.list(&self.dir).unwrap_or_default()
    }

    /// Removes every key of that person, and gives how many there were. What was written of him stays on record and can
    /// be told for him by nobody any more. Reads and writes files.
    ///
    /// # Errors
    /// When a file cannot be read or replaced. What was removed until then is gone; ask again.
    pub(crate) fn erase(&self, id: &str) -> io::Result<u64> {
        let _files = self.files.lock();
        let (mut count, mut replaced) = (0, BTreeSet::new());
        {
            let mut open = self.open.lock();
            for (day, of) in open.iter_mut() {
                if of.people.remove(id).is_none() {
                    continue;
                }
                of.fresh.retain(|fresh| **fresh != *id);
                of.erased += 1;
                of.is_behind = true;
                count += 1;
                // On a failure everybody who is left goes into another file.
                if let Some((path, _)) = of.file.take() {
                    self.disk.write_atomic(&path, &self.whole(*day, of), 0o600)?;
                    of.file = Some((path.clone(), self.disk.open_append(&path)?));
                    of.fresh.clear();
                    of.is_behind = false;
                    replaced.insert(path);
                }
            }
        }
        let term = self.seal.term(id);
        for path in self.paths().into_iter().filter(|path| !replaced.contains(path)) {
            let Some(day) = Names::day(&path) else { continue };
            let bytes = self.disk.read(&path)?;
            let contents = file::read(&bytes);
            let is_he = |found: &Found<'_>| {
                found.term == term && self.seal.open(day, found).is_none_or(|(found, _)| found == id)
            };
            let (his, others): (Vec<_>, Vec<_>) = contents.people.iter().partition(|found| is_he(found));
            if !his.is_empty() {
                let mut left = file::begin(contents.erased + his.len() as u64);
                others.iter().for_each(|found| file::keep(&mut left, found));
                self.disk.write_atomic(&path, &left, 0o600)?;
                count += his.len() as u64;
            }
        }
        Ok(count)
    }

    /// Removes the files of days before `oldest`, but those `held`.
    ///
    /// # Errors
    /// When one cannot be removed; the next run tries again.
    pub(crate) fn retire(&self, oldest: Day, held: impl Fn(Day) -> bool) -> io::Result<()> {
        let _files = self.files.lock();
        let is_past = |day: &Day| *day < oldest && !held(*day);
        self.open.lock().retain(|day, of| !of.is_settled() || !is_past(day));
        for path in self.paths() {
            if Names::day(&path).is_some_and(|day| is_past(&day)) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Takes the files of the ledger in `dir` as well, whose records are taken over next.
    ///
    /// # Errors
    /// When one cannot be read or written.
    pub(crate) fn adopt(&self, dir: &Path) -> io::Result<()> {
        let _files = self.files.lock();
        let there = dir.join("side");
        for path in self.disk.list(&there).unwrap_or_default() {
            let Some(name) = path.file_name().filter(|_| Names::day(&path).is_some()) else { continue };
            let here = self.dir.join(name);
            // An earlier try has brought it, and somebody may have been erased from it since.
            if !self.disk.exists(&here) {
                self.disk.create_dir_all(&self.dir)?;
                self.disk.write_atomic(&here, &self.disk.read(&path)?, 0o600)?;
            }
        }
        Ok(())
    }
}

/// The first day of which it can be told who the people are: as long as records are kept, or `clear` when that is shorter.
pub(crate) fn oldest(now: UnixTime, age: Duration, clear: Option<Duration>) -> Day {
    day_at(now - clear.map_or(age, |clear| clear.min(age)))
}

/// The times of a day.
pub(crate) fn span_of(day: Day) -> Span {
    let begin = i64::try_from(day * DAY_MILLIS).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Span {
        from: begin,
        to: begin.saturating_add(i64::try_from(DAY_MILLIS * 1_000_000).unwrap_or(i64::MAX) - 1),
    }
}

impl OpenDay {
    /// Whether all of it is on disk.
    fn is_settled(&self) -> bool {
        self.fresh.is_empty() && !self.is_behind
    }
}

/// What the files of a day say besides.
#[derive(Debug, Default)]
struct Read {
    erased: u64,
    is_damaged: bool,
}

#[cfg(test)]
mod tests;
