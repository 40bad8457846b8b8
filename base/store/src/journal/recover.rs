//! Opening a journal: verify all of it first, then cut a torn tail, sync, and bring an index up to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::Disk;

use super::files::Files;
use super::walk::{Base, End, Tail, walk};
use super::{Journal, Segment};
use crate::index::{Index, Position};
use crate::overlay::Overlay;
use crate::{Revision, StoreError};

/// A journal that was read and found good. Nothing on disk was changed for it.
#[derive(Debug)]
pub(crate) struct Survey {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    base: Base,
    segments: Vec<(Revision, PathBuf)>,
    leftovers: Vec<PathBuf>,
    /// The chain after each record.
    chain: BTreeMap<Revision, [u8; 32]>,
    end: End,
}

impl Survey {
    /// Verifies the journal in `dir`.
    ///
    /// # Errors
    /// Damage that is not a torn tail, a newer format, or what the disk says.
    pub(crate) fn of(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let files = Files::list(disk, dir)?;
        let base = Base::newest(disk, &files)?;
        // INVARIANT: a snapshot stands where a segment ends, so the others lie wholly before it.
        let segments: Vec<_> =
            files.segments.into_iter().filter(|(first, _)| *first > base.position.0).collect();
        let mut chain = BTreeMap::from([base.position]);
        let end = walk(disk, &segments, base.position, Tail::MayBeTorn, &mut |_, (revision, hash)| {
            chain.insert(revision, hash);
            Ok(())
        })?;
        let end = end.ok_or_else(|| StoreError::JournalMissing { dir: dir.to_owned() })?;
        let (disk, dir, leftovers) = (Arc::clone(disk), dir.to_owned(), files.leftovers);
        Ok(Self { disk, dir, base, segments, leftovers, chain, end })
    }

    /// The newest commit and the chain up to it.
    pub(crate) fn head(&self) -> Position {
        self.end.head
    }

    /// Whether the journal passes through `position` at or after its newest snapshot.
    pub(crate) fn contains(&self, (revision, chain): Position) -> bool {
        self.chain.get(&revision) == Some(&chain)
    }

    /// Cuts a torn tail and makes durable what was read: it may have been in the kernel's memory only, and from now on
    /// others rely on it.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(&self, roll: u64) -> Result<Journal, StoreError> {
        let (path, length) = (&self.end.segment, super::size(self.end.length));
        let open = || {
            let mut file = self.disk.open_append(path)?;
            if self.end.torn > 0 {
                tracing::warn!(
                    event = "journal_tail_cut", file = %path.display(), offset = length, bytes = self.end.torn,
                    "a record that was never acknowledged was cut off"
                );
                file.truncate(length)?;
            }
            file.sync_data()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        };
        let file = open().map_err(|error| StoreError::io(path, error))?;
        for path in &self.leftovers {
            if let Err(error) = self.disk.remove(path) {
                tracing::debug!(error = %error, file = %path.display(), "a leftover file stays");
            }
        }
        let segment = Segment { file, salt: self.end.salt, length };
        Ok(Journal::resume(&self.disk, &self.dir, segment, self.end.head, roll.max(self.base.size)))
    }

    /// Brings `index` from its own position, or from nothing, up to the head.
    ///
    /// # Errors
    /// What the index or the disk says.
    pub(crate) fn fill(&self, index: &dyn Index) -> Result<(), StoreError> {
        let stands = match index.position()? {
            Some(position) => position.0,
            None => {
                let entries = self.base.entries.iter().map(|entry| (entry.key.clone(), Some(entry.clone())));
                index.apply(&entries.collect(), self.base.position)?;
                self.base.position.0
            }
        };
        let replay = &mut |record: &super::Record, position: Position| {
            if position.0 <= stands {
                return Ok(());
            }
            let mut overlay = Overlay::new(index);
            for (revision, changes) in record.commits() {
                overlay.commit(changes, revision)?;
            }
            index.apply(&overlay.into_changed(), position)
        };
        walk(&self.disk, &self.segments, self.base.position, Tail::MayBeTorn, replay).map(drop)
    }
}
