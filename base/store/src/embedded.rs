//! The store of one process: journal first, index second, acknowledgement last.

mod open;
mod queue;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use base_ports::{Clock, Disk};
use parking_lot::{Mutex, RwLock};

use crate::history::Feed;
use crate::index::Index;
use crate::journal::{Journal, ROLL};
use crate::lock::Lock;
use crate::{Committed, Entry, Revision, Store, StoreError, Transaction, Watch};
use queue::Queue;
use writer::Writer;

/// A durable store in a directory.
///
/// Reads are answered by the calling thread, from an index that shows durable commits only. Commits go to one writer
/// thread: what waits there shares one record and one disk sync. When sled fails, reads and commits go on from an index
/// in memory that is rebuilt from the journal; a read in between may get [`StoreError::Index`].
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    /// None once it is closed.
    running: Mutex<Option<(JoinHandle<()>, Option<Lock>)>>,
}

/// What the writer changes and everybody sees.
#[derive(Debug)]
struct Shared {
    /// `None` when neither sled nor the journal could be read.
    index: RwLock<Option<Arc<dyn Index>>>,
    queue: Queue,
    feed: Feed,
}

impl Embedded {
    /// Opens the store in `dir`, or makes one where there has never been one. Locks the directory.
    ///
    /// # Errors
    /// Another process, damage, a newer format, or what the disk says. Never an empty store where one has been.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        disk.create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let lock = Lock::take(dir)?;
        let (index, journal) = open::on_disk(&disk, dir, ROLL)?;
        Self::run(index, journal, clock, Some(lock))
    }

    /// Opens a store on a simulated disk, with its index in memory. For tests of whoever uses a store.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_simulated(
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_rolling(dir, disk, clock, ROLL)
    }

    fn open_rolling(
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        roll: u64,
    ) -> Result<Arc<Self>, StoreError> {
        disk.create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let (index, journal) = open::in_memory(&disk, dir, roll)?;
        Self::run(index, journal, clock, None)
    }

    /// Why commits are refused at present; `None` when they are taken. For readiness.
    #[must_use]
    pub fn refuses(&self) -> Option<StoreError> {
        self.shared.queue.refuses()
    }

    /// Writes what waits, and lets go of the directory: another process may open it. What is asked of this store from now
    /// on is refused.
    pub fn close(&self) {
        let Some((writer, lock)) = self.running.lock().take() else { return };
        self.shared.queue.close();
        if writer.join().is_err() {
            tracing::error!(event = "journal_thread", "the journal's thread had panicked");
        }
        *self.shared.index.write() = None;
        drop(lock);
    }

    fn run(
        index: Arc<dyn Index>,
        journal: Journal,
        clock: Arc<dyn Clock>,
        lock: Option<Lock>,
    ) -> Result<Arc<Self>, StoreError> {
        let revision = journal.head().0;
        let (queue, feed) = (Queue::new(revision), Feed::after(revision));
        let shared = Arc::new(Shared { index: RwLock::new(Some(index)), queue, feed });
        let writer = Writer::new(journal, Arc::clone(&shared), clock);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| StoreError::io("journal thread", error))?;
        Ok(Arc::new(Self { shared, running: Mutex::new(Some((thread, lock))) }))
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let index = self.shared.index()?;
        read(&*index).inspect_err(|_| self.shared.queue.ask_for_an_index())
    }
}

impl Shared {
    fn index(&self) -> Result<Arc<dyn Index>, StoreError> {
        self.index
            .read()
            .clone()
            .ok_or_else(|| StoreError::Index("it is closed, or could not be rebuilt; restart".to_owned()))
    }
}

impl Store for Embedded {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.read(|index| index.get(key))
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(|index| index.range(prefix, after, limit))
    }

    fn revision(&self) -> Revision {
        self.shared.queue.revision()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let answer = transaction.check_limits().and_then(|()| self.shared.queue.push(transaction));
        Box::pin(async move { answer?.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        Ok(self.shared.feed.watch(prefix, from))
    }
}

impl Drop for Embedded {
    /// Writes what waits, then ends the writer.
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
