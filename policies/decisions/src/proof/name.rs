//! Which log a ledger keeps: the file `log`. After a loss that an operator accepted, the same ledger keeps another one.
//!
//! The first log has its tiles and its checkpoint in the directory of the ledger, the next one in `log-2` and so on, so
//! that one replacement of this file is the whole change and earlier trees stay where they are.

use std::{
    io,
    path::{Path, PathBuf},
};

use base_ports::Disk;

use super::error::{TreeError, disk};

const HEADER: &str = "portcullis-log/1";

/// Number, beginning and state of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogName {
    /// 1, and one more for each accepted loss.
    pub(crate) number: u64,
    /// Index in the ledger of its first leaf.
    pub(crate) base: u64,
    /// A checkpoint of it was signed.
    pub(crate) is_signed: bool,
}

impl LogName {
    /// The first log of a ledger whose records begin at `base`.
    pub(crate) fn first(base: u64) -> Self {
        Self { number: 1, base, is_signed: false }
    }

    /// The log of the ledger in `dir`, if one was begun.
    pub(crate) fn load(dir: &Path, disk_port: &dyn Disk) -> Result<Option<Self>, TreeError> {
        let path = dir.join("log");
        let bytes = match disk_port.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("read", &path)(error)),
        };
        let found = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        found.map(Some).ok_or(TreeError::Name { path })
    }

    pub(crate) fn save(&self, dir: &Path, disk_port: &dyn Disk) -> Result<(), TreeError> {
        let path = dir.join("log");
        disk_port.write_atomic(&path, self.to_text().as_bytes(), 0o600).map_err(disk("write", &path))
    }

    /// `example.org/decisions/main`, with the number behind it from the second on.
    pub(crate) fn origin(&self, ledger: &str) -> String {
        if self.number == 1 { ledger.to_owned() } else { format!("{ledger}/{}", self.number) }
    }

    /// Where tiles and checkpoint lie.
    pub(crate) fn place(&self, dir: &Path) -> PathBuf {
        if self.number == 1 { dir.to_owned() } else { dir.join(format!("log-{}", self.number)) }
    }

    /// Index in the ledger before which everything was synced once, as the checkpoint in that directory says. Whether that
    /// is ours is not asked: it only makes whoever asks more careful. All of it where a checkpoint was signed and cannot be
    /// read, nothing where none was.
    pub(crate) fn synced(dir: &Path, disk_port: &dyn Disk) -> u64 {
        let name = match Self::load(dir, disk_port) {
            Ok(Some(name)) => name,
            Ok(None) => return 0,
            Err(_unreadable) => return u64::MAX,
        };
        let note = disk_port.read(&name.place(dir).join("checkpoint")).unwrap_or_default();
        let size = std::str::from_utf8(&note).ok().and_then(|note| note.lines().nth(1)?.parse().ok());
        let unknown = if name.is_signed { u64::MAX } else { 0 };
        size.map_or(unknown, |size: u64| name.base.saturating_add(size))
    }

    fn to_text(self) -> String {
        let state = if self.is_signed { "signed" } else { "new" };
        format!("{HEADER}\n{}\n{}\n{state}\n", self.number, self.base)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.split('\n').collect();
        let [HEADER, number, base, state, ""] = lines.as_slice() else { return None };
        let found =
            Self { number: number.parse().ok()?, base: base.parse().ok()?, is_signed: *state == "signed" };
        (found.number > 0 && found.to_text() == text).then_some(found)
    }
}
