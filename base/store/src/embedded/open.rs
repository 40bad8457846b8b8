//! Opening: is there a store, does its journal hold, does its index stand on it. Refuses before it changes anything.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, SystemDisk};

use crate::StoreError;
use crate::index::{Index, MapIndex, SledIndex};
use crate::journal::{self, FORMAT, Journal, Survey};
use crate::overlay::Changed;

const MARKER: &str = "STORE";
const JOURNAL: &str = "journal";
const INDEX: &str = "index";
/// Indexes moved aside that are kept for whoever looks for the cause.
const QUARANTINE: usize = 3;

type Opened = (Arc<dyn Index>, Journal);

/// Index and journal of a real directory.
pub(super) fn on_disk(disk: &Arc<dyn Disk>, dir: &Path, roll: u64) -> Result<Opened, StoreError> {
    // The index is made last, so one without a journal says that there was a store.
    let had_index = dir.join(INDEX).exists();
    let Some(survey) = survey(disk, dir, had_index)? else {
        let journal = begin(disk, dir, roll)?;
        let index = fresh(dir, |index| index.apply(&Changed::new(), journal.head()))?;
        return Ok((index, journal));
    };
    let standing = standing(dir, &survey)?;
    let journal = survey.open(roll)?;
    mark(disk, dir)?;
    let index: Arc<dyn Index> = match standing {
        Some(index) => match survey.fill(&index) {
            Ok(()) => Arc::new(index),
            Err(error) => {
                tracing::warn!(event = "index_unusable", error = %error, "the index cannot be brought up");
                drop(index);
                fresh(dir, |index| survey.fill(index))?
            }
        },
        None => fresh(dir, |index| survey.fill(index))?,
    };
    Ok((index, journal))
}

/// The same with an index in memory, for a simulated disk.
pub(super) fn in_memory(disk: &Arc<dyn Disk>, dir: &Path, roll: u64) -> Result<Opened, StoreError> {
    let index = Arc::new(MapIndex::default());
    let Some(survey) = survey(disk, dir, false)? else { return Ok((index, begin(disk, dir, roll)?)) };
    let journal = survey.open(roll)?;
    mark(disk, dir)?;
    survey.fill(&*index)?;
    Ok((index, journal))
}

/// The journal in `dir`, verified; `None` where there has never been a store.
fn survey(disk: &Arc<dyn Disk>, dir: &Path, had_index: bool) -> Result<Option<Survey>, StoreError> {
    let (marked, journal) = (is_marked(disk, dir)?, dir.join(JOURNAL));
    match journal::is_in(disk, &journal)? {
        // Without a mark it is the journal of a first start that was cut short.
        true => Survey::of(disk, &journal).map(Some),
        false if marked || had_index => Err(StoreError::JournalMissing { dir: dir.to_owned() }),
        false => Ok(None),
    }
}

fn begin(disk: &Arc<dyn Disk>, dir: &Path, roll: u64) -> Result<Journal, StoreError> {
    let journal = Journal::create(disk, &dir.join(JOURNAL), roll)?;
    mark(disk, dir)?;
    Ok(journal)
}

/// Whether the mark says that there is a store.
fn is_marked(disk: &Arc<dyn Disk>, dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join(MARKER);
    let text = match disk.read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io(path, error)),
    };
    let text = String::from_utf8_lossy(&text);
    let format = text.trim().strip_prefix("portcullis store, format ").and_then(|number| number.parse().ok());
    match format {
        Some(found) if found > u32::from(FORMAT) => {
            Err(StoreError::TooNew { dir: dir.to_owned(), found, known: FORMAT.into() })
        }
        Some(_) => Ok(true),
        None => Err(StoreError::Corrupt { file: path, offset: 0, what: "it does not name a format" }),
    }
}

/// Leaves the mark, durably, before the first commit is taken.
fn mark(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), StoreError> {
    if is_marked(disk, dir)? {
        return Ok(());
    }
    let (path, text) = (dir.join(MARKER), format!("portcullis store, format {FORMAT}\n"));
    disk.write_atomic(&path, text.as_bytes(), 0o600).map_err(|error| StoreError::io(path, error))
}

/// The index on disk when it can be read and stands on the journal.
///
/// # Errors
/// When it has seen more than the journal holds: that is the proof of a loss, so it is not moved aside.
fn standing(dir: &Path, survey: &Survey) -> Result<Option<SledIndex>, StoreError> {
    let path = dir.join(INDEX);
    if !path.exists() {
        return Ok(None);
    }
    let opened = SledIndex::open(&path).and_then(|index| Ok((index.position()?, index)));
    let (position, index) = match opened {
        Ok((Some(position), index)) => (position, index),
        Ok((None, _)) => return Ok(None),
        Err(error) => {
            tracing::warn!(event = "index_unusable", error = %error, "the index cannot be opened");
            return Ok(None);
        }
    };
    let (journal, seen) = (survey.head().0.get(), position.0.get());
    if seen > journal {
        return Err(StoreError::JournalBehind { dir: dir.to_owned(), journal, index: seen });
    }
    if !survey.contains(position) {
        tracing::warn!(
            event = "index_unusable",
            revision = seen,
            "the index stands on another or an older journal"
        );
        return Ok(None);
    }
    match index.verify() {
        Ok(()) => Ok(Some(index)),
        Err(error) => {
            tracing::warn!(event = "index_unusable", error = %error, "the index is damaged");
            Ok(None)
        }
    }
}

/// A new index, filled; in memory when none can be made on disk, so that a full or failing disk keeps nobody from reading.
fn fresh(
    dir: &Path,
    fill: impl Fn(&dyn Index) -> Result<(), StoreError>,
) -> Result<Arc<dyn Index>, StoreError> {
    let make = || -> Result<_, StoreError> {
        let path = dir.join(INDEX);
        quarantine(dir)?;
        // Sled would make it readable for everybody.
        SystemDisk.create_dir_all(&path).map_err(|error| StoreError::io(&path, error))?;
        let index = SledIndex::open(&path)?;
        fill(&index)?;
        Ok(Arc::new(index))
    };
    match make() {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::error!(event = "index_in_memory", error = %error, "no index can be made on disk; it is kept in memory");
            let index = MapIndex::default();
            fill(&index)?;
            Ok(Arc::new(index))
        }
    }
}

/// Moves the index aside, if there is one.
fn quarantine(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(INDEX);
    if !path.exists() {
        return Ok(());
    }
    let mut places = (1..=QUARANTINE).map(|number| dir.join(format!("index.quarantine-{number}")));
    let free = places.find(|place: &PathBuf| !place.exists());
    let aside = free.unwrap_or_else(|| dir.join("index.quarantine-1"));
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(|error| StoreError::io(&aside, error))?;
    }
    SystemDisk.rename(&path, &aside).map_err(|error| StoreError::io(path, error))?;
    tracing::warn!(event = "index_quarantined", aside = %aside.display(), "the index was moved aside and is rebuilt from the journal");
    Ok(())
}
