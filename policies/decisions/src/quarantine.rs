//! What of the log cannot be read and stands in no tree: set aside, with records in its place that say so (FS3).
//!
//! Recovery, the tree and, without a tree, the archive come here with a stretch of a file that is no record. Its bytes are
//! copied to `ledger/quarantine`, then the list there is replaced, and from then on every reader gets for each index of the
//! stretch a record of the operation `quarantine`: where it was, how many bytes, why. So whoever follows the log goes on, and
//! the tree signs what everybody can read. Refuses what a tree has already, whose true hash is known: that stays damage,
//! and so does what the disk does not give out at all, which may come back.

mod find;
mod steps;
mod stretch;

use std::{
    io,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::{Clock, Disk};
use parking_lot::Mutex;

pub(crate) use find::next_frame;
pub(crate) use steps::{Step, Steps};
pub use stretch::SetAside;
pub(crate) use stretch::{LANE, OPERATION, Stretch};

use crate::{
    LedgerConfig,
    error::{LedgerError, disk},
    shelf::{Shelf, Span, WalFile},
    source::{Extent, Source, Volume},
};

/// What was set aside.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    list: Mutex<Vec<Arc<Stretch>>>,
    /// `None` where nothing is to be set aside.
    place: Option<Place>,
}

/// Where things are set aside, and by whom.
#[derive(Debug)]
struct Place {
    /// Directory of the ledger.
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    /// SPIFFE id of this enforcer and its name for people.
    enforcer: String,
    instance: String,
}

/// A stretch of a file without a readable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Index of its first record, and how many it held.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) why: String,
}

impl Quarantine {
    /// What was set aside in the ledger in a directory, for those who only read it.
    pub(crate) fn read(dir: &Path, disk_port: &dyn Disk) -> Quarantine {
        Quarantine { list: Mutex::new(listed(dir, disk_port).unwrap_or_default()), place: None }
    }

    /// What was set aside in the ledger that this is the configuration of.
    pub(crate) fn of(config: &LedgerConfig, disk: &Arc<dyn Disk>, clock: &Arc<dyn Clock>) -> Quarantine {
        Quarantine::open(Place {
            dir: config.dir.clone(),
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            enforcer: config.enforcer_id.clone(),
            instance: config.instance.clone(),
        })
    }

    /// The same for its writer. A list that cannot be read is not replaced: nothing more is set aside then.
    fn open(place: Place) -> Quarantine {
        let list = listed(&place.dir, place.disk.as_ref());
        if list.is_none() {
            let file = list_in(&place.dir);
            tracing::error!(
                event = "ledger_quarantine_unreadable",
                code = "PC6021",
                file = %file.display(),
                "the list of what was set aside cannot be read: restore it, or remove it to have those records damaged"
            );
        }
        let place = list.is_some().then_some(place);
        Quarantine { list: Mutex::new(list.unwrap_or_default()), place }
    }

    /// The stretches of a file.
    pub(crate) fn in_file(&self, path: &Path) -> Vec<Arc<Stretch>> {
        let name = path.file_name().and_then(|name| name.to_str());
        let list = self.list.lock();
        list.iter().filter(|known| Some(known.file.as_str()) == name).cloned().collect()
    }

    /// The stretch that begins there with that record.
    fn at(&self, path: &Path, offset: u64, index: u64) -> Option<Arc<Stretch>> {
        self.in_file(path).into_iter().find(|known| known.is_at(offset, index))
    }

    /// The stretch that is the rest of the block there.
    pub(crate) fn in_block(&self, path: &Path, offset: u64) -> Option<Arc<Stretch>> {
        self.in_file(path).into_iter().find(|known| known.offset == offset)
    }

    /// Records that are replaced.
    pub(crate) fn records(&self) -> u64 {
        self.list.lock().iter().map(|stretch| stretch.count).sum()
    }

    /// Sets aside what stands at that index and cannot be read. `false` when it can be, or when it is not known for sure
    /// how many records are missing. The caller knows that no tree has it.
    pub(crate) fn admit(&self, shelf: &Shelf, index: u64) -> Result<bool, LedgerError> {
        let Some(place) = &self.place else { return Ok(false) };
        let volumes = shelf.volumes();
        let Some(volume) = volumes.iter().find(|volume| (volume.first()..volume.end()).contains(&index))
        else {
            return Ok(false);
        };
        let found = match volume {
            Volume::Wal(file, _) => self.unread_in(file, place.disk.as_ref())?,
            Volume::Segment(_) => {
                in_segment(shelf, volume, index, place.disk.as_ref())?.into_iter().collect()
            }
        };
        let found: Vec<_> = found.into_iter().filter(|unread| unread.first >= index).collect();
        let has_it = found.first().is_some_and(|unread| unread.first == index);
        if has_it {
            found.into_iter().try_for_each(|unread| self.set_aside(volume.path(), unread).map(drop))?;
            shelf.forget_damage(volume.path(), index);
        }
        Ok(has_it)
    }

    /// Everything in a write-ahead file that is no record and was not set aside yet.
    fn unread_in(&self, file: &WalFile, disk_port: &dyn Disk) -> Result<Vec<Unread>, LedgerError> {
        let mut bytes = disk_port.read(&file.path).map_err(disk("read", &file.path))?;
        bytes.truncate(usize::try_from(file.len).unwrap_or(usize::MAX));
        let found = find::unread(&bytes, file.first, file.count);
        let is_new = |unread: &Unread| self.at(&file.path, unread.offset, unread.first).is_none();
        Ok(found.into_iter().filter(is_new).collect())
    }

    /// Copies the bytes of a stretch and puts it on the list; `None` where nothing is to be set aside.
    pub(crate) fn set_aside(&self, path: &Path, unread: Unread) -> Result<Option<Arc<Stretch>>, LedgerError> {
        let Some(place) = &self.place else { return Ok(None) };
        let (disk_port, len) = (place.disk.as_ref(), usize::try_from(unread.bytes).unwrap_or(usize::MAX));
        let bytes = disk_port.read_at(path, unread.offset, len).map_err(disk("read", path))?;
        let stretch = Arc::new(Stretch::new(path, unread, &bytes, place));
        let dir = place.dir.join("quarantine");
        disk_port.create_dir_all(&dir).map_err(disk("create", &dir))?;
        let aside = dir.join(stretch.name());
        disk_port.write_atomic(&aside, &bytes, 0o600).map_err(disk("write", &aside))?;
        let mut list = self.list.lock();
        let mut longer = list.clone();
        longer.push(Arc::clone(&stretch));
        place.save(&longer)?;
        *list = longer;
        drop(list);
        let Stretch { file, first, count, offset, bytes, why, .. } = stretch.as_ref();
        tracing::error!(
            event = "ledger_quarantined",
            code = "PC6021",
            file,
            first,
            count,
            offset,
            bytes,
            why,
            aside = %aside.display(),
            "records cannot be read and no checkpoint covers them: set aside, and records in their place say so"
        );
        Ok(Some(stretch))
    }

    /// Forgets what is not among these indexes of the log: retention took it, or a loss that was accepted.
    pub(crate) fn retire(&self, kept: Range<u64>) -> Result<(), LedgerError> {
        let Some(place) = &self.place else { return Ok(()) };
        let mut list = self.list.lock();
        let (gone, left): (Vec<_>, Vec<_>) =
            list.iter().cloned().partition(|it| it.end() <= kept.start || it.first >= kept.end);
        if gone.is_empty() {
            return Ok(());
        }
        place.save(&left)?;
        *list = left;
        drop(list);
        for stretch in gone {
            let path = place.dir.join("quarantine").join(stretch.name());
            match place.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk("remove", &path)(error));
                }
                _ => (),
            }
        }
        Ok(())
    }
}

impl Place {
    fn save(&self, list: &[Arc<Stretch>]) -> Result<(), LedgerError> {
        let path = list_in(&self.dir);
        let written = stretch::encode(list).and_then(|bytes| self.disk.write_atomic(&path, &bytes, 0o600));
        written.map_err(disk("write", &path))
    }
}

fn list_in(dir: &Path) -> PathBuf {
    dir.join("quarantine").join("list")
}

/// The list in a directory; `None` for one that is none.
fn listed(dir: &Path, disk_port: &dyn Disk) -> Option<Vec<Arc<Stretch>>> {
    match disk_port.read(&list_in(dir)) {
        Ok(bytes) => stretch::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_unreadable) => None,
    }
}

/// The rest of a block from that index on, if it cannot be read and stands in no write-ahead file, from which the next
/// start makes it again.
fn in_segment(
    shelf: &Shelf,
    volume: &Volume,
    index: u64,
    disk_port: &dyn Disk,
) -> Result<Option<Unread>, LedgerError> {
    if shelf.files().iter().any(|file| (file.first..file.end()).contains(&index)) {
        return Ok(None);
    }
    let mut source = Source::new(shelf, disk_port);
    let extents = source.extents(volume, Span::ALL, &[])?;
    let Some(extent) = extents.iter().find(|extent| (extent.first..extent.end).contains(&index)) else {
        return Ok(None);
    };
    let len = usize::try_from(extent.bytes()).unwrap_or(usize::MAX);
    disk_port.read_at(volume.path(), extent.offset(), len).map_err(disk("read", volume.path()))?;
    let reading = source.read(extent, index, &mut |_, _| ControlFlow::Continue(()))?;
    let unread = |extent: &Extent, why| Unread {
        first: index,
        count: extent.end - index,
        offset: extent.offset(),
        bytes: extent.bytes(),
        why,
    };
    Ok(reading.damage.map(|damage| unread(extent, damage.problem)))
}

#[cfg(test)]
mod tests;
