//! The write-ahead files as readers see them: which there are, how far each is written, what times it holds.
//!
//! The writer publishes after each write; queries and tails take a copy and read no further than it says, so they
//! never see half a frame. Holding the lock is a matter of a copy; lanes never touch it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::bell::Bell;

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

/// Where the file with that first index stands: twenty digits, so that names sort as indexes.
pub(crate) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.wal"))
}

/// The first index a file name says.
pub(crate) fn first_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// All files, oldest first, and how far they are certain.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    files: Mutex<Vec<Arc<WalFile>>>,
    synced: AtomicU64,
    /// Who is woken when more is certain.
    followers: Mutex<Vec<Arc<Bell>>>,
}

impl Shelf {
    /// Files that are on disk, all of them synced.
    pub(crate) fn new(files: Vec<WalFile>) -> Self {
        let synced = AtomicU64::new(files.last().map_or(0, WalFile::end));
        let files = Mutex::new(files.into_iter().map(Arc::new).collect());
        Self { files, synced, followers: Mutex::default() }
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

    /// Rings that bell, if its thread sleeps, whenever more is synced.
    pub(crate) fn follow(&self, bell: Arc<Bell>) {
        self.followers.lock().push(bell);
    }

    /// A copy for a reader.
    pub(crate) fn files(&self) -> Vec<Arc<WalFile>> {
        self.files.lock().clone()
    }

    /// Index after the last record.
    pub(crate) fn next_index(&self) -> u64 {
        self.files.lock().last().map_or(0, |file| file.end())
    }

    /// Index of the oldest record that is kept.
    pub(crate) fn first_index(&self) -> u64 {
        self.files.lock().first().map_or(0, |file| file.first)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.lock().iter().map(|file| file.len).sum()
    }

    /// Puts up the state of a file: a new one at the end, or the last one grown.
    pub(crate) fn publish(&self, file: &WalFile) {
        let mut files = self.files.lock();
        match files.last_mut().filter(|last| last.first == file.first) {
            Some(last) => *last = Arc::new(file.clone()),
            None => files.push(Arc::new(file.clone())),
        }
    }

    pub(crate) fn remove(&self, first: u64) {
        self.files.lock().retain(|file| file.first != first);
    }
}
