//! Snapshot files on disk, one for each snapshot that was in force, the newest last (ST9): a follower starts from them
//! without its publisher, and explains decisions of retired snapshots by them.
//!
//! A file is written whole or not at all. One that is damaged is put aside as `.bad`, and the one before it is used.

use super::{
    file::{self, SnapshotFile},
    held::{Held, Offer},
};
use crate::note::Verifier;
use base_ports::Disk;
use policies_engine::Numbers;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files kept, and bytes of all of them.
const KEPT: usize = 100;
const KEPT_BYTES: u64 = 512 << 20;
/// No snapshot is larger: 64 MiB of policies, 64 MiB of entities, and what is around them.
const LARGEST: u64 = 256 << 20;
const SUFFIX: &str = "pcsnap";

/// A directory of snapshot files.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

/// Why a file gives no snapshot.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It cannot be read now.
    Unreadable(io::Error),
    /// Its bytes are not those that were written.
    Damaged(String),
    /// It is whole, and no key that is pinned now signed it.
    Untrusted(String),
}

impl Shelf {
    pub(crate) fn open(dir: PathBuf, disk: Arc<dyn Disk>) -> io::Result<Shelf> {
        disk.create_dir_all(&dir)?;
        Ok(Shelf { dir, disk })
    }

    /// The newest snapshot whose file is good. Damaged ones are put aside. What is wrong is told, once for each file.
    pub(crate) fn newest(&self, keys: &[Verifier]) -> (Option<Held>, Vec<String>) {
        let mut told = Vec::new();
        for path in self.files().into_iter().rev() {
            match self.read(&path, keys) {
                Ok(held) => return (Some(held), told),
                Err(cause) => {
                    told.push(format!("`{}`: {cause}", path.display()));
                    if matches!(cause, Unusable::Damaged(_)) {
                        self.put_aside(&path);
                    }
                }
            }
        }
        (None, told)
    }

    /// The snapshot of that number, of its newest epoch.
    pub(crate) fn get(&self, snapshot: u64, keys: &[Verifier]) -> Option<Result<Held, Unusable>> {
        let wanted = format!(".{snapshot:020}.{SUFFIX}");
        let path = self.files().into_iter().rev().find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(&wanted))
        })?;
        Some(self.read(&path, keys))
    }

    /// Reads any snapshot file, also one that was exported elsewhere.
    pub(crate) fn read(&self, path: &Path, keys: &[Verifier]) -> Result<Held, Unusable> {
        let length = self.disk.len(path).map_err(Unusable::Unreadable)?;
        if length > LARGEST {
            return Err(Unusable::Damaged(format!("{length} bytes are more than a snapshot can have")));
        }
        let bytes = self.disk.read(path).map_err(Unusable::Unreadable)?;
        let file = SnapshotFile::decode(bytes).map_err(|cause| Unusable::Damaged(cause.to_string()))?;
        let offer = Offer::verified(file.manifest, file.note, keys)
            .map_err(|refused| Unusable::Untrusted(refused.detail))?;
        offer.complete(file.objects, None).map_err(|refused| Unusable::Damaged(refused.detail))
    }

    /// Writes a snapshot down, durably, and forgets the oldest ones beyond what is kept.
    pub(crate) fn put(&self, held: &Held) -> io::Result<()> {
        let Numbers { epoch, snapshot, .. } = held.offer.numbers;
        let path = self.dir.join(format!("{epoch:020}.{snapshot:020}.{SUFFIX}"));
        self.disk.write_atomic(&path, &held.to_file(), 0o600)?;
        let mut bytes = 0_u64;
        for (at, path) in self.files().into_iter().rev().enumerate() {
            bytes = bytes.saturating_add(self.disk.len(&path).unwrap_or(0));
            if at >= KEPT || (at > 1 && bytes > KEPT_BYTES) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// The files by number, oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.disk.list(&self.dir).unwrap_or_default();
        files.retain(|path| path.extension().is_some_and(|extension| extension == SUFFIX));
        files.sort();
        files
    }

    fn put_aside(&self, path: &Path) {
        let aside = path.with_extension("bad");
        if let Err(cause) = self.disk.rename(path, &aside) {
            tracing::error!(event = "snapshot_file_stays", path = %path.display(), %cause, "a damaged file cannot be put aside");
        }
    }
}

impl Held {
    /// The bytes of its snapshot file.
    pub(crate) fn to_file(&self) -> Vec<u8> {
        let Offer { raw, note, .. } = &self.offer;
        file::encode((raw, note), self.objects.iter().map(|(hash, text)| (hash, text.as_bytes())))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Unusable::Damaged(cause) => write!(f, "is damaged: {cause}"),
            Unusable::Untrusted(cause) => write!(f, "is not believed: {cause}"),
        }
    }
}
