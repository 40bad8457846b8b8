//! The files of a journal by their names: `<first revision>.log` and `<revision>.snap`, twenty digits each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::Disk;

use crate::{Revision, StoreError};

/// What lies in a journal's directory, oldest first.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) segments: Vec<(Revision, PathBuf)>,
    pub(super) snapshots: Vec<(Revision, PathBuf)>,
    /// Left behind by a process that died while it replaced a file.
    pub(super) leftovers: Vec<PathBuf>,
}

impl Files {
    pub(super) fn list(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let mut files = Self { segments: Vec::new(), snapshots: Vec::new(), leftovers: Vec::new() };
        for path in disk.list(dir).map_err(|error| StoreError::io(dir, error))? {
            match (number(&path), path.extension().and_then(|ending| ending.to_str())) {
                (Some(first), Some("log")) => files.segments.push((first, path)),
                (Some(revision), Some("snap")) => files.snapshots.push((revision, path)),
                (_, Some("new")) => files.leftovers.push(path),
                _ => {}
            }
        }
        files.segments.sort();
        files.snapshots.sort();
        Ok(files)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.snapshots.is_empty()
    }
}

/// The segment whose first commit is `first`.
pub(super) fn segment(dir: &Path, first: Revision) -> PathBuf {
    dir.join(format!("{:020}.log", first.get()))
}

/// The snapshot at `revision`.
pub(super) fn snapshot(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("{:020}.snap", revision.get()))
}

fn number(path: &Path) -> Option<Revision> {
    let stem = path.file_stem()?.to_str()?;
    (stem.len() == 20).then(|| stem.parse::<u64>().ok().map(Revision::from))?
}
