//! Opening: what stands in the files, what a crash left out, where to go on (SQ3, chapter 14).
//!
//! A torn tail is cut off. A bad frame with good ones after it is damage: what no checkpoint covers is set aside, what one
//! covers keeps the ledger from opening, and nothing is changed. Only write-ahead files that were not closed and synced
//! are read in full, and of segments what a crash may have torn.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::Disk;

use crate::{
    archive::{Segment, load, mend, tell_bad_headers},
    error::{LedgerError, disk},
    frame::{BadFrame, Frames, MAGIC, Magic, magic},
    leaf::{Gap, GapCause, Kind, LeafError, Place, View, gap_of},
    numbers::MAX_RESERVATION,
    proof::LogName,
    quarantine::{LANE, Quarantine, Step, Steps, Stretch, Unread, next_frame},
    ranges::Ranges,
    shelf::{Shelf, Span, WAL, WalFile, listed, path_of},
    source::Source,
    state::{LaneState, State},
};

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// All segments, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// All write-ahead files, oldest first; the next record goes into a new one.
    pub(crate) files: Vec<WalFile>,
    /// Index of the next record.
    pub(crate) next: u64,
    /// Closed files and boots that are still unsettled.
    pub(crate) state: State,
    /// Boots that ended without a close, with what to declare.
    pub(crate) crashed: Vec<Crashed>,
}

/// A boot that ended without a close.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crashed {
    pub(crate) boot: [u8; 8],
    /// Lane, last stored number, reserved bound.
    pub(crate) lanes: Vec<(u16, u64, u64)>,
    pub(crate) gaps: Vec<Gap>,
}

/// Reads state and files of the ledger in a directory.
pub(crate) fn recover(
    dir: &Path,
    disk_port: &dyn Disk,
    quarantine: &Quarantine,
) -> Result<Recovered, LedgerError> {
    let (wal, state_path) = (&dir.join("wal"), &dir.join("state"));
    let names = files(wal, disk_port)?;
    let state = state(state_path, disk_port)?;
    let is_rebuilt = state.is_none();
    let mut state = state.unwrap_or_default();

    let (segments, bad) = load(&dir.join("seg"), disk_port)?;
    let archived = segments.last().map_or(0, |segment| segment.end);
    // What a checkpoint covers was synced, and its index is known outside.
    let synced = LogName::synced(dir, disk_port);
    let (certain, damage) = (archived.max(state.through).max(synced), Torn { quarantine, synced });

    let mut streams = Streams::default();
    let (mut files, mut is_renamed): (Vec<WalFile>, bool) = (Vec::new(), false);
    for (mut first, mut path) in names {
        // The power took the end of the file before. Nothing behind it was ever certain, so it moves up: followers
        // see indexes without holes.
        let end = files.last().map(WalFile::end);
        if let Some(end) = end.filter(|end| *end < first && *end >= certain) {
            let moved = path_of(wal, end);
            disk_port.rename(&path, &moved).map_err(disk("rename", &path))?;
            (first, path, is_renamed) = (end, moved, true);
        }
        let known = state.files.get(&first).filter(|_| first < state.through);
        let file = match known {
            Some(&(count, span)) => {
                let len = disk_port.len(&path).map_err(disk("look at", &path))?;
                WalFile { path, first, count, len, span }
            }
            None => scan(path, first, disk_port, &mut streams, &damage)?,
        };
        if file.count > 0 {
            files.push(file);
        } else {
            // Its name must be free for the next record.
            disk_port.remove(&file.path).map_err(disk("remove", &file.path))?;
        }
    }
    if is_renamed {
        disk_port.sync_dir(wal).map_err(disk("sync", wal))?;
    }
    let segments = mend(segments, &bad, files.first().map(|file| file.first), disk_port)?;
    tell_bad_headers(bad.iter().filter(|bad| segments.iter().any(|segment| segment.first == bad.first)));
    let archived = segments.last().map_or(0, |segment| segment.end);
    let next = files.last().map_or(0, WalFile::end).max(archived);
    if is_rebuilt {
        note_segments(&segments, &mut streams, disk_port)?;
        state.boots = streams.boots();
    }
    let crashed = state
        .boots
        .iter()
        .filter(|(boot, _)| !streams.closed.contains(*boot))
        .map(|(boot, lanes)| streams.crashed(*boot, lanes))
        .collect();
    state.files = files.iter().map(|file| (file.first, (file.count, file.span))).collect();
    // `through` stays: until the crash is declared, the next start must read the same files again.
    Ok(Recovered { segments, files, next, state, crashed })
}

/// Notes what the streams in segments hold.
pub(crate) fn note_segments(
    segments: &[Segment],
    streams: &mut Streams,
    disk_port: &dyn Disk,
) -> Result<(), LedgerError> {
    let shelf = Shelf::new(segments.to_vec(), Vec::new());
    let mut source = Source::new(&shelf, disk_port);
    for volume in shelf.volumes() {
        for extent in source.extents(&volume, Span::ALL, &[])? {
            // What cannot be read says nothing about its streams; whoever asks for it is told.
            source.read(&extent, extent.first, &mut |_, leaf| {
                streams.note(leaf).map(|_| ()).unwrap_or_default();
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(())
}

/// The write-ahead files of a directory with the index of their first record, oldest first.
pub(crate) fn files(wal: &Path, disk_port: &dyn Disk) -> Result<Vec<(u64, PathBuf)>, LedgerError> {
    listed(wal, WAL, disk_port).map_err(disk("list", wal))
}

/// What the state file says; `None` when there is none.
pub(crate) fn state(path: &Path, disk_port: &dyn Disk) -> Result<Option<State>, LedgerError> {
    match disk_port.read(path) {
        Ok(bytes) => {
            let state = State::decode(&bytes);
            state.map(Some).map_err(|source| LedgerError::State { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk("read", path)(error)),
    }
}

/// What to do where a file is damaged.
pub(crate) struct Torn<'a> {
    pub(crate) quarantine: &'a Quarantine,
    /// Index before which a checkpoint covers the records.
    pub(crate) synced: u64,
}

impl Torn<'_> {
    /// What is set aside of a bad frame at that offset; `None` for what is no more than a torn tail.
    fn stretch(
        &self,
        path: &Path,
        bytes: &[u8],
        (offset, index): (usize, u64),
        source: BadFrame,
    ) -> Result<Option<Arc<Stretch>>, LedgerError> {
        if !Frames::from(bytes, offset).any_later() {
            return Ok(None);
        }
        let end = next_frame(bytes, offset);
        let len = (end - offset) as u64;
        let unread =
            Unread { first: index, count: 1, offset: offset as u64, bytes: len, why: source.to_string() };
        let stretch = match index < self.synced {
            true => None,
            false => self.quarantine.set_aside(path, unread)?,
        };
        let damaged = || LedgerError::Damaged { path: path.to_owned(), offset: offset as u64, source };
        stretch.map(Some).ok_or_else(damaged)
    }
}

/// Reads one file in full, cuts off a torn tail, and notes what the streams in it hold. How many records stood where one
/// is set aside nobody knows any more: it counts as one.
pub(crate) fn scan(
    path: PathBuf,
    first: u64,
    disk_port: &dyn Disk,
    streams: &mut Streams,
    damage: &Torn<'_>,
) -> Result<WalFile, LedgerError> {
    let mut bytes = disk_port.read(&path).map_err(disk("read", &path))?;
    let found = magic(&bytes);
    match found {
        Magic::Known => (),
        // The crash came while the file was made: nothing was ever in it.
        Magic::Cut => return Ok(WalFile { path, first, count: 0, len: 0, span: Span::EMPTY }),
        // The power went before its first sector was on disk; what stands behind that is judged as ever.
        Magic::Blank if first >= damage.synced => {
            bytes.resize(bytes.len().max(MAGIC.len()), 0);
            bytes.splice(..MAGIC.len(), MAGIC);
        }
        Magic::Version => return Err(LedgerError::Newer { path }),
        Magic::Blank | Magic::Foreign => return Err(LedgerError::Foreign { path }),
    }
    let mut steps = Steps::of_file(&bytes, first, damage.quarantine.in_file(&path));
    let mut span = Span::EMPTY;
    loop {
        let (offset, index) = (steps.offset(), steps.index());
        match steps.next() {
            None => break,
            Some(Step::Record(leaf)) => {
                let time = streams.note(leaf).map_err(|source| LedgerError::Unreadable {
                    path: path.clone(),
                    offset: offset as u64,
                    source,
                })?;
                span.add(time);
            }
            Some(Step::Aside(stretch)) => span.add(stretch.at()),
            Some(Step::Bad(bad)) => {
                let Some(stretch) = damage.stretch(&path, &bytes, (offset, index), bad)? else {
                    torn(&path, offset, bytes.len(), bad);
                    break;
                };
                span.add(stretch.at());
                steps.pass(&stretch);
            }
        }
    }
    let (count, len) = (steps.index() - first, steps.offset() as u64);
    if found == Magic::Blank && count > 0 {
        tracing::warn!(event = "ledger_head_restored", file = %path.display(), "the head of the file had not reached the disk");
        disk_port.write_atomic(&path, &bytes, 0o600).map_err(disk("write", &path))?;
    }
    settle(&path, len, disk_port)?;
    Ok(WalFile { path, first, count, len, span })
}

fn torn(path: &Path, offset: usize, len: usize, bad: BadFrame) {
    let lost = len.saturating_sub(offset);
    tracing::warn!(event = "ledger_torn_tail", file = %path.display(), offset, lost, %bad, "cut off a torn tail");
}

/// Cuts the file to what is good and makes that durable: it counts as closed from now on.
fn settle(path: &Path, len: u64, disk_port: &dyn Disk) -> Result<(), LedgerError> {
    let mut file = disk_port.open_append(path).map_err(disk("open", path))?;
    if file.len().map_err(disk("look at", path))? > len {
        file.truncate(len).map_err(disk("cut", path))?;
    }
    file.sync_data().map_err(disk("sync", path))
}

/// What the scanned files hold, per boot and lane.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    covered: BTreeMap<([u8; 8], u16), Ranges>,
    stored: BTreeMap<([u8; 8], u16), u64>,
    pub(crate) closed: BTreeSet<[u8; 8]>,
}

impl Streams {
    /// Notes one record and returns its time.
    pub(crate) fn note(&mut self, leaf: &[u8]) -> Result<i64, LeafError> {
        let view = View::of(leaf)?;
        let place = view.place()?;
        // It is no stream of a process.
        if place.lane == LANE {
            return Ok(view.time);
        }
        let lane = (place.boot, place.lane);
        self.covered.entry(lane).or_default().insert(place.seq, place.seq);
        let stored = self.stored.entry(lane).or_default();
        *stored = place.seq.max(*stored);
        match view.kind() {
            Kind::GAP => {
                let gap = gap_of(view.body())?;
                if let Some((first, last)) = gap.range {
                    self.covered.entry((gap.boot, gap.lane)).or_default().insert(first, last);
                }
            }
            Kind::STREAM_CLOSE => {
                self.closed.insert(place.boot);
            }
            _ => (),
        }
        Ok(view.time)
    }

    /// Boots and lanes, for a ledger whose state file is gone: no lane is ever further ahead than this.
    pub(crate) fn boots(&self) -> BTreeMap<[u8; 8], BTreeMap<u16, LaneState>> {
        let mut boots: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (&(boot, lane), &stored) in &self.stored {
            let state = LaneState { stored: 0, reserved: stored + MAX_RESERVATION };
            boots.entry(boot).or_default().insert(lane, state);
        }
        boots
    }

    /// Boots of which anything was noted.
    pub(crate) fn known(&self) -> BTreeSet<[u8; 8]> {
        self.stored.keys().map(|(boot, _)| *boot).collect()
    }

    /// Whether a record belongs to one of these boots, or declares what one of them left out.
    pub(crate) fn concerns(leaf: &[u8], boots: &BTreeSet<[u8; 8]>) -> bool {
        let Ok(view) = View::of(leaf) else { return false };
        let is_of = view.place().is_ok_and(|place| boots.contains(&place.boot));
        is_of || (view.kind() == Kind::GAP && gap_of(view.body()).is_ok_and(|gap| boots.contains(&gap.boot)))
    }

    /// Whether that number is on record, itself or in a gap.
    pub(crate) fn covers(&self, place: &Place) -> bool {
        let covered = self.covered.get(&(place.boot, place.lane));
        covered.is_some_and(|covered| covered.missing(place.seq, place.seq).is_empty())
    }

    /// What to declare about a boot that did not close.
    pub(crate) fn crashed(&self, boot: [u8; 8], lanes: &BTreeMap<u16, LaneState>) -> Crashed {
        let mut crashed = Crashed { boot, lanes: Vec::new(), gaps: Vec::new() };
        for (&lane, state) in lanes {
            let stored = self.stored.get(&(boot, lane)).copied().unwrap_or_default().max(state.stored);
            crashed.lanes.push((lane, stored, state.reserved));
            let missing = match self.covered.get(&(boot, lane)) {
                Some(covered) => covered.missing(state.stored + 1, state.reserved),
                None => Ranges::default().missing(state.stored + 1, state.reserved),
            };
            for (first, last) in missing {
                // What lies before a stored number was used and is lost; what lies behind may never have been used.
                crashed.gaps.push(Gap {
                    boot,
                    lane,
                    range: Some((first, last)),
                    exact: last < stored,
                    count: last - first + 1,
                    cause: GapCause::Crash,
                    from: None,
                    to: None,
                    effects: BTreeMap::new(),
                    reasons: BTreeMap::new(),
                });
            }
        }
        crashed
    }
}

#[cfg(test)]
mod tests;
