//! Legal holds: named ranges that retention does not touch (LG5).
//!
//! They stand in `ledger/holds`, replaced as a whole before a hold counts as set or released; each change is an
//! administration record. Who may set or release one is decided by whoever calls. A holds file that cannot be read holds
//! everything, so that damage never lets anything be removed.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base_ports::{Disk, UnixTime};
use parking_lot::Mutex;
use policies_engine::{AdministrationRecord, Record};
use serde::{Deserialize, Serialize};

use crate::{
    error::{LedgerError, disk},
    ledger::Ledger,
    shelf::Span,
};

/// Longest name of a hold, bytes.
const MAX_NAME: usize = 128;

/// Version of the file.
const VERSION: u32 = 1;

/// A named range that is kept whatever retention says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name, for its release.
    pub name: String,
    /// What is held. Whole files are kept: what touches the range stays with all around it.
    pub range: HoldRange,
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
    /// The range ends before it begins.
    #[error("the range of hold `{0}` ends before it begins")]
    Range(String),
    /// The file of holds cannot be read, so it is not replaced.
    #[error("`{}` cannot be read: restore it, or remove it to lose the holds in it", .0.display())]
    Unreadable(PathBuf),
    /// The disk refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    holds: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<(i64, i64)>,
    by: String,
    at: i64,
}

impl HoldRange {
    fn is_possible(&self) -> bool {
        match self {
            Self::Indexes { first, last } => first <= last,
            Self::Times { since, until } => since <= until,
        }
    }

    fn touches(&self, first: u64, end: u64, span: Span) -> bool {
        match self {
            Self::Indexes { first: from, last } => *from < end && first <= *last,
            Self::Times { since, until } => {
                span.touches(Span { from: since.as_nanos(), to: until.as_nanos() })
            }
        }
    }
}

impl From<&Hold> for Row {
    fn from(hold: &Hold) -> Row {
        let (indexes, times) = match hold.range {
            HoldRange::Indexes { first, last } => (Some((first, last)), None),
            HoldRange::Times { since, until } => (None, Some((since.as_nanos(), until.as_nanos()))),
        };
        Row { name: hold.name.clone(), indexes, times, by: hold.by.clone(), at: hold.at.as_nanos() }
    }
}

impl Row {
    fn hold(self) -> Option<Hold> {
        let range = match (self.indexes, self.times) {
            (Some((first, last)), None) => HoldRange::Indexes { first, last },
            (None, Some((since, until))) => {
                HoldRange::Times { since: UnixTime::from_nanos(since), until: UnixTime::from_nanos(until) }
            }
            _ => return None,
        };
        Some(Hold { name: self.name, range, by: self.by, at: UnixTime::from_nanos(self.at) })
    }
}

/// The holds of a ledger.
#[derive(Debug)]
pub(crate) struct Holds {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// `None` when the file cannot be read: then everything is held.
    holds: Mutex<Option<Vec<Hold>>>,
    is_over: AtomicBool,
}

impl Holds {
    /// Reads the file.
    pub(crate) fn load(path: PathBuf, disk: Arc<dyn Disk>) -> Holds {
        let holds = match disk.read(&path) {
            Ok(bytes) => decode(&bytes),
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
        Holds { path, disk, holds: Mutex::new(holds), is_over: AtomicBool::new(false) }
    }

    /// Whether a file with these records is held.
    pub(crate) fn holds(&self, first: u64, end: u64, span: Span) -> bool {
        let holds = self.holds.lock();
        holds.as_ref().is_none_or(|holds| holds.iter().any(|hold| hold.range.touches(first, end, span)))
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
        let stored = Stored { version: VERSION, holds: holds.iter().map(Row::from).collect() };
        let bytes = serde_json::to_vec_pretty(&stored).map_err(io::Error::other);
        let written = bytes.and_then(|bytes| self.disk.write_atomic(&self.path, &bytes, 0o600));
        written.map_err(disk("write", &self.path))?;
        *known = Some(holds);
        Ok(outcome)
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<Hold>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let holds = stored.holds.into_iter().map(Row::hold).collect::<Option<Vec<_>>>()?;
    (stored.version == VERSION).then_some(holds)
}

impl Ledger {
    /// Holds a range: what touches it is kept whatever the limits say, until it is released. On disk when this returns,
    /// and on record.
    ///
    /// # Errors
    /// A name that is taken or no name, a range that is none, or the disk refuses; then nothing is held.
    pub fn hold(&self, name: &str, range: HoldRange, by: &str) -> Result<Hold, HoldError> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(HoldError::Name(name.escape_debug().to_string()));
        }
        if !range.is_possible() {
            return Err(HoldError::Range(name.to_owned()));
        }
        let at = self.inner().clock.now().wall;
        let hold = Hold { name: name.to_owned(), range, by: by.to_owned(), at };
        self.inner().holds.change(|holds| {
            if holds.iter().any(|known| known.name == name) {
                return Err(HoldError::Exists(name.to_owned()));
            }
            holds.push(hold.clone());
            Ok(())
        })?;
        self.say_hold("hold", &hold, by);
        Ok(hold)
    }

    /// Ends a hold. Retention takes what is past its limits with its next run.
    ///
    /// # Errors
    /// There is no such hold, or the disk refuses; then it is still held.
    pub fn release(&self, name: &str, by: &str) -> Result<Hold, HoldError> {
        let hold = self.inner().holds.change(|holds| {
            let at = holds.iter().position(|known| known.name == name);
            at.map(|at| holds.remove(at)).ok_or_else(|| HoldError::Unknown(name.to_owned()))
        })?;
        self.say_hold("release", &hold, by);
        Ok(hold)
    }

    /// The holds, oldest first.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        self.inner().holds.list()
    }

    fn say_hold(&self, operation: &str, hold: &Hold, by: &str) {
        let (from, to) = match hold.range {
            HoldRange::Indexes { first, last } => (("first", first.to_string()), ("last", last.to_string())),
            HoldRange::Times { since, until } => (("since", since.to_string()), ("until", until.to_string())),
        };
        let details = [("name", hold.name.clone()), from, to, ("by", by.to_owned())];
        self.inner().own(Record::Administration(AdministrationRecord {
            operation: operation.to_owned(),
            principal: None,
            details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            time: self.inner().clock.now(),
        }));
    }
}

#[cfg(test)]
mod tests;
