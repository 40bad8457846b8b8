//! The write-ahead files as readers see them: which there are, how far each is written, what times it holds.
//!
//! The writer publishes after each write; queries and tails take a copy and read no further than it says, so they
//! never see half a frame. Holding the lock is a matter of a copy; lanes never touch it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

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

/// All files, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Vec<Arc<WalFile>>>);

impl Shelf {
    pub(crate) fn new(files: Vec<WalFile>) -> Self {
        Self(Mutex::new(files.into_iter().map(Arc::new).collect()))
    }

    /// A copy for a reader.
    pub(crate) fn files(&self) -> Vec<Arc<WalFile>> {
        self.0.lock().clone()
    }

    /// Index after the last record.
    pub(crate) fn next_index(&self) -> u64 {
        self.0.lock().last().map_or(0, |file| file.end())
    }

    /// Index of the oldest record that is kept.
    pub(crate) fn first_index(&self) -> u64 {
        self.0.lock().first().map_or(0, |file| file.first)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().iter().map(|file| file.len).sum()
    }

    /// Puts up the state of a file: a new one at the end, or the last one grown.
    pub(crate) fn publish(&self, file: &WalFile) {
        let mut files = self.0.lock();
        match files.last_mut().filter(|last| last.first == file.first) {
            Some(last) => *last = Arc::new(file.clone()),
            None => files.push(Arc::new(file.clone())),
        }
    }

    pub(crate) fn remove(&self, first: u64) {
        self.0.lock().retain(|file| file.first != first);
    }
}
