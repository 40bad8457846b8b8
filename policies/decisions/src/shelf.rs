//! The files of the log as readers see them: segments and write-ahead files, how far each is written, what times it
//! holds.
//!
//! The writer publishes after each write and the archive after each block; readers take a copy and read no further than
//! it says, so they never see half a frame. Holding the lock is a matter of a copy; lanes never touch it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base_ports::Disk;
use parking_lot::{Mutex, MutexGuard};

use crate::{archive::Segment, bell::Bell, quarantine::Quarantine, scan::Damage, source::Volume};

/// One write-ahead file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalFile {
    pub(crate) path: PathBuf,
    /// Index of its first record.
    pub(crate) first: u64,
    /// Records in it.
    pub(crate) count: u64,
    /// Bytes written.
    pub(crate) len: u64,
    pub(crate) span: Span,
}

impl WalFile {
    pub(crate) fn new(dir: &Path, first: u64) -> Self {
        Self { path: path_of(dir, first), first, count: 0, len: 0, span: Span::EMPTY }
    }

    /// Index after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// The earliest and the latest time of some records, Unix nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Span {
    pub(crate) const EMPTY: Span = Span { from: i64::MAX, to: i64::MIN };

    /// All times.
    pub(crate) const ALL: Span = Span { from: i64::MIN, to: i64::MAX };

    pub(crate) fn add(&mut self, time: i64) {
        self.join(Span { from: time, to: time });
    }

    pub(crate) fn join(&mut self, other: Span) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }

    pub(crate) fn touches(self, other: Span) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// How names of write-ahead files end.
pub(crate) const WAL: &str = ".wal";

/// Where the write-ahead file with that first index stands.
pub(crate) fn path_of(dir: &Path, first: u64) -> PathBuf {
    named(dir, first, WAL)
}

/// Where a file of the log stands: its first index in twenty digits, so that names sort as indexes, and its kind.
pub(crate) fn named(dir: &Path, first: u64, kind: &str) -> PathBuf {
    dir.join(format!("{first:020}{kind}"))
}

/// The first index that the name of a file of that kind says.
pub(crate) fn index_in(path: &Path, kind: &str) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(kind)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// The files of that kind in a directory with their first indexes, oldest first.
pub(crate) fn listed(dir: &Path, kind: &str, disk_port: &dyn Disk) -> io::Result<Vec<(u64, PathBuf)>> {
    let found = disk_port.list(dir)?.into_iter();
    let mut files: Vec<_> = found.filter_map(|path| Some((index_in(&path, kind)?, path))).collect();
    files.sort_unstable();
    Ok(files)
}

/// A place in a write-ahead file where a frame begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Of the file.
    first: u64,
    index: u64,
    offset: u64,
}

/// Bytes between marks, at least.
const MARK_EVERY: u64 = 64 << 10;

/// All files, and how far they are certain.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    stock: Mutex<Stock>,
    synced: AtomicU64,
    settled: AtomicU64,
    /// Index after the last record that the tree has; `u64::MAX` without a tree.
    treed: AtomicU64,
    /// Who is woken when more is certain.
    followers: Mutex<Vec<Arc<Bell>>>,
    /// Held while a file goes from the disk and then from here: whoever finds it gone waits for the second.
    leaving: Mutex<()>,
    damaged: Mutex<BTreeMap<u64, Damage>>,
    /// Segments whose footer did not fit.
    suspects: Mutex<BTreeSet<u64>>,
    /// What is read in the place of what cannot be.
    quarantine: Arc<Quarantine>,
}

/// What files there are, oldest first.
#[derive(Debug, Default)]
struct Stock {
    segments: Vec<Arc<Segment>>,
    files: Vec<Arc<WalFile>>,
    /// By index.
    marks: Vec<Mark>,
}

impl Stock {
    /// Index after the last record that stands in a segment.
    fn archived(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end)
    }
}

impl Shelf {
    /// Files that are on disk, all of them synced.
    pub(crate) fn new(segments: Vec<Segment>, files: Vec<WalFile>) -> Self {
        let segments = segments.into_iter().map(Arc::new).collect();
        let files = files.into_iter().map(Arc::new).collect();
        let shelf =
            Self { stock: Mutex::new(Stock { segments, files, marks: Vec::new() }), ..Self::default() };
        shelf.synced.store(shelf.next_index(), Ordering::Release);
        shelf.treed.store(u64::MAX, Ordering::Release);
        shelf
    }

    /// The same files, with what of them was set aside.
    pub(crate) fn beside(self, quarantine: Arc<Quarantine>) -> Self {
        Self { quarantine, ..self }
    }

    /// What was set aside.
    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Index after the last record that no loss of power takes away.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Records before `through` are synced.
    pub(crate) fn raise_synced(&self, through: u64) {
        if self.synced.fetch_max(through, Ordering::AcqRel) < through {
            self.followers.lock().iter().for_each(|bell| bell.ring_sleeper());
        }
    }

    /// Index after the last record that may be removed: what the tree has not yet, it needs.
    pub(crate) fn treed(&self) -> u64 {
        self.treed.load(Ordering::Acquire)
    }

    /// Whether there is a tree.
    pub(crate) fn has_tree(&self) -> bool {
        self.treed() != u64::MAX
    }

    /// The tree has the records before `through`, and no others.
    pub(crate) fn set_treed(&self, through: u64) {
        self.treed.store(through, Ordering::Release);
    }

    /// Rings that bell, if its thread sleeps, whenever more is synced.
    pub(crate) fn follow(&self, bell: Arc<Bell>) {
        self.followers.lock().push(bell);
    }

    /// Index before which no start needs the write-ahead files any more.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// The state on disk counts all files before `through`.
    pub(crate) fn raise_settled(&self, through: u64) {
        self.settled.fetch_max(through, Ordering::AcqRel);
    }

    /// The write-ahead files, oldest first.
    pub(crate) fn files(&self) -> Vec<Arc<WalFile>> {
        self.stock.lock().files.clone()
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.stock.lock().segments.clone()
    }

    /// How many files there are.
    pub(crate) fn count(&self) -> usize {
        let stock = self.stock.lock();
        stock.segments.len() + stock.files.len()
    }

    /// The log as readers go through it, oldest first and each record once.
    pub(crate) fn volumes(&self) -> Vec<Volume> {
        let stock = self.stock.lock();
        let archived = stock.archived();
        let segments = stock.segments.iter().cloned().map(Volume::Segment);
        let rest = stock.files.iter().filter(|file| file.end() > archived);
        let files = rest.map(|file| Volume::Wal(Arc::clone(file), file.first.max(archived)));
        segments.chain(files).collect()
    }

    /// Index after the last record that stands in a segment.
    pub(crate) fn archived(&self) -> u64 {
        self.stock.lock().archived()
    }

    /// Where the write-ahead files from that index on end before others begin: retention has taken what stood between.
    pub(crate) fn hole_after(&self, from: u64) -> Option<u64> {
        let stock = self.stock.lock();
        let behind = stock.files.iter().filter(|file| file.end() > from);
        let mut neighbours = behind.clone().zip(behind.skip(1));
        neighbours.find(|(file, next)| file.end() < next.first).map(|(file, _)| file.end())
    }

    /// Index after the last record.
    pub(crate) fn next_index(&self) -> u64 {
        let stock = self.stock.lock();
        stock.files.last().map_or(0, |file| file.end()).max(stock.archived())
    }

    /// Index of the oldest record that is kept. A write-ahead file may still stand whose first records went with their
    /// segment.
    pub(crate) fn first_index(&self) -> u64 {
        let stock = self.stock.lock();
        let file = stock.files.first().map(|file| file.first);
        stock.segments.first().map(|segment| segment.first).or(file).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> u64 {
        let stock = self.stock.lock();
        let files = stock.files.iter().map(|file| file.len);
        files.chain(stock.segments.iter().map(|segment| segment.len)).sum()
    }

    /// Puts up the state of a file: a new one at the end, or the last one grown.
    pub(crate) fn publish(&self, file: &WalFile) {
        let mut stock = self.stock.lock();
        let Stock { files, marks, .. } = &mut *stock;
        match files.last_mut().filter(|last| last.first == file.first) {
            Some(last) => {
                // Where it ended until now, a frame begins.
                let mark = Mark { first: last.first, index: last.end(), offset: last.len };
                let before =
                    marks.last().filter(|mark| mark.first == file.first).map_or(0, |mark| mark.offset);
                if mark.offset >= before + MARK_EVERY {
                    marks.push(mark);
                }
                *last = Arc::new(file.clone());
            }
            None => files.push(Arc::new(file.clone())),
        }
    }

    /// A place in the write-ahead file with that first index from which record `index` is not far: the index of the
    /// frame there, and its offset. Offset zero is the begin of the file.
    pub(crate) fn mark(&self, first: u64, index: u64) -> (u64, u64) {
        let stock = self.stock.lock();
        let at = stock.marks.partition_point(|mark| mark.index <= index);
        let mark = at.checked_sub(1).and_then(|at| stock.marks.get(at)).filter(|mark| mark.first == first);
        mark.map_or((first, 0), |mark| (mark.index, mark.offset))
    }

    /// Takes a write-ahead file away.
    pub(crate) fn remove(&self, first: u64) {
        let mut stock = self.stock.lock();
        stock.files.retain(|file| file.first != first);
        stock.marks.retain(|mark| mark.first != first);
    }

    /// Held around the removal of a file from the disk and from here.
    pub(crate) fn leaving(&self) -> MutexGuard<'_, ()> {
        self.leaving.lock()
    }

    pub(crate) fn has_wal(&self, first: u64) -> bool {
        drop(self.leaving());
        self.stock.lock().files.iter().any(|file| file.first == first)
    }

    /// Puts up the state of a segment: a new one at the end, or what became of one that is there.
    pub(crate) fn publish_segment(&self, segment: Segment) {
        let mut stock = self.stock.lock();
        let at = stock.segments.partition_point(|known| known.first < segment.first);
        match stock.segments.get_mut(at).filter(|known| known.first == segment.first) {
            Some(known) => *known = Arc::new(segment),
            None => stock.segments.insert(at, Arc::new(segment)),
        }
    }

    /// Takes a segment away.
    pub(crate) fn remove_segment(&self, first: u64) {
        self.stock.lock().segments.retain(|segment| segment.first != first);
        self.suspects.lock().remove(&first);
    }

    pub(crate) fn has_segment(&self, first: u64) -> bool {
        drop(self.leaving());
        self.stock.lock().segments.iter().any(|segment| segment.first == first)
    }

    /// Remembers a range that cannot be read, and says so once.
    pub(crate) fn note_damage(&self, damage: &Damage) {
        let mut known = self.damaged.lock();
        let is_known = known
            .range(..=damage.first)
            .next_back()
            .is_some_and(|(_, known)| known.file == damage.file && known.last >= damage.last);
        if !is_known {
            let Damage { file, first, last, problem } = damage;
            tracing::error!(
                event = "ledger_damaged",
                code = "PC6021",
                file = %file.display(),
                first,
                last,
                problem,
                "records cannot be read; restore the file from a copy, all others are answered"
            );
            known.insert(damage.first, damage.clone());
        }
    }

    /// What was damaged from that index on in a file is so no more.
    pub(crate) fn forget_damage(&self, file: &Path, first: u64) {
        self.damaged.lock().retain(|known, damage| *known != first || damage.file != file);
    }

    /// Ranges that were found damaged since the start.
    pub(crate) fn damaged(&self) -> usize {
        self.damaged.lock().len()
    }

    /// A footer that did not fit: to be made again.
    pub(crate) fn suspect(&self, segment: &Segment) {
        if self.suspects.lock().insert(segment.first) {
            tracing::warn!(
                event = "ledger_footer_damaged",
                file = %segment.path.display(),
                "the index of a segment is damaged and is made again; answers are slower until then"
            );
        }
    }

    /// The segments whose footer is to be made again.
    pub(crate) fn suspects(&self) -> BTreeSet<u64> {
        self.suspects.lock().clone()
    }

    /// The footer was made again.
    pub(crate) fn clear(&self, first: u64) {
        self.suspects.lock().remove(&first);
    }
}
