//! The store of one process: journal first, index second, acknowledgement last.

mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use base_ports::{Clock, Disk, SystemDisk};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::history::History;
use crate::index::{Index, MapIndex, SledIndex};
use crate::journal::{self, FORMAT, Journal};
use crate::lock::Lock;
use crate::{Committed, Entry, Revision, Store, StoreError, Transaction, Watch};
use writer::{Queue, Writer};

/// A durable store in a directory.
#[derive(Debug)]
pub struct Embedded {
    index: Arc<dyn Index>,
    history: Arc<Mutex<History>>,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    _lock: Option<Lock>,
}

impl Embedded {
    /// Opens the store in `dir`, or makes one where there has never been one. Locks the directory.
    ///
    /// # Errors
    /// Another process, damage, a newer format, or what the disk says. Never an empty store where one has been.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        disk.create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let lock = Lock::take(dir)?;
        let journal_dir = dir.join("journal");
        let is_new = prepare(&disk, dir, &journal_dir)?;
        let (index, journal) = match is_new {
            true => (open_index(dir)?, None),
            false => recovered(&disk, dir, &journal_dir)?,
        };
        let journal = match journal {
            Some(journal) => journal,
            None => {
                let journal = journal::create(&disk, &journal_dir)?;
                mark(&disk, dir)?;
                journal
            }
        };
        Ok(Self::run(index, journal, clock, Some(lock)))
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
        disk.create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let journal_dir = dir.join("journal");
        let index: Arc<dyn Index> = Arc::new(MapIndex::default());
        let journal = if prepare(&disk, dir, &journal_dir)? {
            let journal = journal::create(&disk, &journal_dir)?;
            mark(&disk, dir)?;
            journal
        } else {
            let recovered = journal::recover(&disk, &journal_dir, &*index)?;
            recovered.ok_or_else(|| StoreError::Index("an empty index stands on every journal".to_owned()))?
        };
        Ok(Self::run(index, journal, clock, None))
    }

    fn run(index: Arc<dyn Index>, journal: Journal, clock: Arc<dyn Clock>, lock: Option<Lock>) -> Arc<Self> {
        let revision = journal.head().0;
        let history = Arc::new(Mutex::new(History::after(revision)));
        let queue = Arc::new(Queue::new(revision));
        let writer =
            Writer::new(journal, Arc::clone(&index), Arc::clone(&history), Arc::clone(&queue), clock);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run());
        if let Err(error) = &thread {
            tracing::error!(event = "journal_thread", error = %error, "the journal's thread did not start");
            queue.close();
        }
        Arc::new(Self { index, history, queue, writer: thread.ok(), _lock: lock })
    }
}

impl Store for Embedded {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.index.get(key)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.index.range(prefix, after, limit)
    }

    fn revision(&self) -> Revision {
        self.queue.revision()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let answer = transaction.check_limits().and_then(|()| self.queue.push(transaction));
        Box::pin(async move { answer?.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        Ok(self.history.lock().watch(prefix, from))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(event = "journal_thread", "the journal's thread had panicked");
        }
    }
}

/// A key and the entry it has after a commit; `None` when it is gone.
pub(crate) type Changed = (Vec<u8>, Option<Entry>);

/// The entries that `changes` make of what the index holds.
pub(crate) fn after(
    index: &dyn Index,
    changes: &[(Vec<u8>, Option<Bytes>)],
    revision: Revision,
) -> Result<Vec<Changed>, StoreError> {
    let mut entries = Vec::with_capacity(changes.len());
    for (key, value) in changes {
        let entry = match value {
            None => None,
            Some(value) => {
                let created = index.get(key)?.map_or(revision, |entry| entry.created);
                Some(Entry { key: key.clone(), value: value.clone(), created, modified: revision })
            }
        };
        entries.push((key.clone(), entry));
    }
    Ok(entries)
}

const MARKER: &str = "STORE";

/// Whether there has never been a store in `dir`.
fn prepare(disk: &Arc<dyn Disk>, dir: &Path, journal_dir: &Path) -> Result<bool, StoreError> {
    let marker = dir.join(MARKER);
    let has_journal = disk.list(journal_dir).is_ok_and(|files| !files.is_empty());
    if !disk.exists(&marker) {
        // Without a marker a journal is one whose first start died before its first commit.
        return Ok(!has_journal);
    }
    let text = disk.read(&marker).map_err(|error| StoreError::io(&marker, error))?;
    let format =
        String::from_utf8_lossy(&text).trim().rsplit(' ').next().and_then(|number| number.parse().ok());
    if let Some(found) = format.filter(|found| *found > u32::from(FORMAT)) {
        return Err(StoreError::TooNew { dir: dir.to_owned(), found, known: FORMAT.into() });
    }
    if has_journal { Ok(false) } else { Err(StoreError::JournalMissing { dir: dir.to_owned() }) }
}

fn mark(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), StoreError> {
    let marker = dir.join(MARKER);
    let text = format!("portcullis store, format {FORMAT}\n");
    disk.write_atomic(&marker, text.as_bytes(), 0o600).map_err(|error| StoreError::io(marker, error))
}

type Opened = (Arc<dyn Index>, Option<Journal>);

/// Index and journal that agree: an index that cannot be opened, or stands on another journal, is moved aside and
/// rebuilt.
fn recovered(disk: &Arc<dyn Disk>, dir: &Path, journal_dir: &Path) -> Result<Opened, StoreError> {
    match open_index(dir) {
        Ok(index) => match journal::recover(disk, journal_dir, &*index) {
            Ok(Some(journal)) => return Ok((index, Some(journal))),
            Ok(None) | Err(StoreError::Index(_)) => {}
            Err(error) => return Err(error),
        },
        Err(error) => tracing::warn!(event = "index_unusable", error = %error, "the index cannot be opened"),
    }
    quarantine(dir)?;
    let index = open_index(dir)?;
    let journal = journal::recover(disk, journal_dir, &*index)?;
    tracing::warn!(event = "index_rebuilt", "the index was rebuilt from the journal");
    Ok((index, journal))
}

fn open_index(dir: &Path) -> Result<Arc<dyn Index>, StoreError> {
    Ok(Arc::new(SledIndex::open(&dir.join("index"))?))
}

fn quarantine(dir: &Path) -> Result<(), StoreError> {
    let aside =
        (1..).map(|n: u32| dir.join(format!("index.quarantine-{n}"))).find(|path: &PathBuf| !path.exists());
    let (from, to) = (dir.join("index"), aside.unwrap_or_else(|| dir.join("index.quarantine")));
    match SystemDisk.rename(&from, &to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(from, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
