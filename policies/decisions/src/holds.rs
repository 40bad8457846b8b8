//! Legal holds: named ranges, or what in a range a filter asks for, that retention does not touch (LG5).
//!
//! They stand in `ledger/holds`, replaced as a whole before a hold counts as set or released; each change is an
//! administration record. Who may set or release one is decided by whoever calls. A holds file that cannot be read holds
//! everything, so that damage never lets anything be removed. A filter that the index of a segment knows nothing of is
//! refused, and so is one that could find nobody: a hold that holds nothing is worse than none.

mod filter;
mod stored;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base_ports::{Disk, UnixTime};
use parking_lot::{Mutex, MutexGuard};
use policies_engine::{AdministrationRecord, AuditUnavailable, Principal, Record};

pub use filter::HoldFilter;

use crate::{
    error::{LedgerError, disk},
    ledger::Ledger,
    shelf::Span,
};

/// Longest name of a hold, bytes.
const MAX_NAME: usize = 128;

/// Longest reason of a hold, bytes.
const MAX_REASON: usize = 512;

/// A named range that is kept whatever retention says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name, for its release.
    pub name: String,
    /// What is held. Whole files are kept: what touches the range stays with all around it.
    pub range: HoldRange,
    /// Which records of the range; all, when it names none.
    pub filter: HoldFilter,
    /// What for.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: UnixTime,
}

/// What a hold covers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldRange {
    /// Records by their index.
    Indexes {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Records by their time.
    Times {
        /// The earliest.
        since: UnixTime,
        /// The latest.
        until: UnixTime,
    },
}

/// Why a hold was not set or released.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// There is one with that name.
    #[error("there is a hold `{0}` already; release it first, or choose another name")]
    Exists(String),
    /// There is none with that name.
    #[error("there is no hold `{0}`")]
    Unknown(String),
    /// The name is empty, too long or holds control characters.
    #[error("`{0}` is no name for a hold: 1 to 128 characters without control characters")]
    Name(String),
    /// The reason is empty, too long or holds control characters.
    #[error("a hold needs a reason: 1 to 512 characters without control characters")]
    Reason,
    /// The range ends before it begins.
    #[error("the range of hold `{0}` ends before it begins")]
    Range(String),
    /// The filter is not one that holds know.
    #[error("{0}")]
    Filter(String),
    /// The file of holds cannot be read, so it is not replaced.
    #[error("`{}` cannot be read: restore it, or remove it to lose the holds in it", .0.display())]
    Unreadable(PathBuf),
    /// It could not be put on record.
    #[error(transparent)]
    Unrecorded(AuditUnavailable),
    /// The disk refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Everything.
impl Default for HoldRange {
    fn default() -> Self {
        Self::Times { since: UnixTime::from_nanos(i64::MIN), until: UnixTime::from_nanos(i64::MAX) }
    }
}

impl HoldRange {
    /// The names and values of its ends; those of all times are none.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&'static str, String)> {
        let of_time = |name, time: &UnixTime| {
            let is_end = ![i64::MIN, i64::MAX].contains(&time.as_nanos());
            is_end.then(|| (name, time.to_string()))
        };
        let ends = match self {
            Self::Indexes { first, last } => {
                [Some(("first", first.to_string())), Some(("last", last.to_string()))]
            }
            Self::Times { since, until } => [of_time("since", since), of_time("until", until)],
        };
        ends.into_iter().flatten()
    }

    fn is_possible(&self) -> bool {
        match self {
            Self::Indexes { first, last } => first <= last,
            Self::Times { since, until } => since <= until,
        }
    }

    /// The times it covers.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Indexes { .. } => Span::ALL,
            Self::Times { since, until } => Span { from: since.as_nanos(), to: until.as_nanos() },
        }
    }

    fn touches(&self, first: u64, end: u64, span: Span) -> bool {
        match self {
            Self::Indexes { first: from, last } => *from < end && first <= *last,
            Self::Times { .. } => span.touches(self.span()),
        }
    }
}

/// The holds of a ledger.
#[derive(Debug)]
pub(crate) struct Holds {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// `None` when the file cannot be read: then everything is held.
    holds: Mutex<Option<Vec<Hold>>>,
    /// Held while files are removed by what the list said.
    removing: Mutex<()>,
    is_over: AtomicBool,
}

impl Holds {
    /// Reads the file.
    pub(crate) fn load(path: PathBuf, disk: Arc<dyn Disk>) -> Holds {
        let holds = match disk.read(&path) {
            Ok(bytes) => stored::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
            Err(_unreadable) => None,
        };
        if holds.is_none() {
            tracing::error!(
                event = "ledger_holds_unreadable",
                code = "PC6021",
                file = %path.display(),
                "the holds cannot be read: nothing is removed by retention until the file is restored"
            );
        }
        Holds {
            path,
            disk,
            holds: Mutex::new(holds),
            removing: Mutex::new(()),
            is_over: AtomicBool::new(false),
        }
    }

    /// While this is held no hold is added: what was asked of the list stays true until files are removed by it.
    pub(crate) fn steady(&self) -> MutexGuard<'_, ()> {
        self.removing.lock()
    }

    /// The holds whose range a file with these records touches; `None` when that cannot be known.
    pub(crate) fn touching(&self, first: u64, end: u64, span: Span) -> Option<Vec<Hold>> {
        let holds = self.holds.lock();
        let touches = |hold: &&Hold| hold.range.touches(first, end, span);
        holds.as_ref().map(|holds| holds.iter().filter(touches).cloned().collect())
    }

    pub(crate) fn set_over(&self, is_over: bool) {
        self.is_over.store(is_over, Ordering::Relaxed);
    }

    /// Whether held files are larger than the limit of the ledger.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn list(&self) -> Vec<Hold> {
        self.holds.lock().clone().unwrap_or_default()
    }

    /// Changes the list; it holds once it is on disk.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Hold>) -> Result<T, HoldError>) -> Result<T, HoldError> {
        let mut known = self.holds.lock();
        let mut holds = known.clone().ok_or_else(|| HoldError::Unreadable(self.path.clone()))?;
        let outcome = change(&mut holds)?;
        let written =
            stored::encode(&holds).and_then(|bytes| self.disk.write_atomic(&self.path, &bytes, 0o600));
        written.map_err(disk("write", &self.path))?;
        *known = Some(holds);
        Ok(outcome)
    }
}

/// What somebody wants held.
#[derive(Debug, Clone, Default)]
pub struct NewHold {
    /// Its name, for its release.
    pub name: String,
    /// What for.
    pub reason: String,
    /// Of which records.
    pub range: HoldRange,
    /// Filters of the ledger, by name; all records of the range without.
    pub filter: Vec<(String, String)>,
}

impl Ledger {
    /// Holds a range: what touches it is kept whatever the limits say, until it is released. On disk when this returns,
    /// and in line to go on record. Blocks.
    ///
    /// # Errors
    /// A name that is taken or no name, no reason, a range or a filter that is none, or the disk refuses; then nothing
    /// is held.
    pub fn hold(&self, new: NewHold, by: &Principal) -> Result<Hold, HoldError> {
        let is_text = |text: &str, most: usize| {
            !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control)
        };
        let NewHold { name, reason, range, filter } = new;
        if !is_text(&name, MAX_NAME) {
            return Err(HoldError::Name(name.escape_debug().to_string()));
        }
        if !is_text(&reason, MAX_REASON) {
            return Err(HoldError::Reason);
        }
        if !range.is_possible() {
            return Err(HoldError::Range(name));
        }
        let redaction = self.redaction();
        let at = self.inner().clock.now().wall;
        let filter = HoldFilter::read(&filter, range, redaction, at)?;
        let hold = Hold { name, range, filter, reason, by: redaction.shown(by), at };
        let steady = self.inner().holds.steady();
        self.inner().holds.change(|holds| {
            if holds.iter().any(|known| known.name == hold.name) {
                return Err(HoldError::Exists(hold.name.clone()));
            }
            holds.push(hold.clone());
            Ok(())
        })?;
        drop(steady);
        self.inner().own(self.about("hold", &hold, by));
        Ok(hold)
    }

    /// Ends a hold: on record and synced before retention may take anything.
    ///
    /// # Errors
    /// There is no such hold, it cannot be put on record, or the disk refuses; then it is still held.
    pub async fn release(&self, name: &str, by: &Principal) -> Result<Hold, HoldError> {
        let unknown = || HoldError::Unknown(name.to_owned());
        let hold = self.holds().into_iter().find(|hold| hold.name == name).ok_or_else(unknown)?;
        let (_, recorded) = self.append(self.about("release", &hold, by)).map_err(HoldError::Unrecorded)?;
        recorded.await.map_err(HoldError::Unrecorded)?;
        self.inner().holds.change(|holds| {
            let at = holds.iter().position(|known| *known == hold);
            at.map(|at| holds.remove(at)).ok_or_else(unknown)
        })
    }

    /// The holds, oldest first.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        self.inner().holds.list()
    }

    fn about(&self, operation: &str, hold: &Hold, by: &Principal) -> Record {
        let details = [("name".to_owned(), hold.name.clone()), ("reason".to_owned(), hold.reason.clone())];
        let range = hold.range.ends().map(|(name, end)| (name.to_owned(), end));
        let filter = hold.filter.pairs().iter().cloned();
        Record::Administration(AdministrationRecord {
            operation: operation.to_owned(),
            principal: Some(by.clone()),
            details: details.into_iter().chain(range).chain(filter).collect(),
            time: self.inner().clock.now(),
        })
    }
}

#[cfg(test)]
mod tests;
