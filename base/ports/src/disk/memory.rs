//! A simulated disk: files in memory, with the faults that real ones have.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// Files in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Content>,
    dirs: BTreeSet<PathBuf>,
    room: Option<u64>,
    fail_sync: bool,
}

#[derive(Debug, Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

impl MemoryDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only `bytes` more can be written; a write that needs more is torn there and fails with ENOSPC.
    pub fn limit_room(&self, bytes: u64) {
        self.0.lock().room = Some(bytes);
    }

    /// There is room again.
    pub fn free_room(&self) {
        self.0.lock().room = None;
    }

    /// From now on syncs fail with EIO (or work again).
    pub fn fail_sync(&self, fail: bool) {
        self.0.lock().fail_sync = fail;
    }

    /// The power goes: what was not synced is gone, except its first `kept` bytes.
    pub fn lose_unsynced(&self, kept: usize) {
        for content in self.0.lock().files.values_mut() {
            let survive = content.synced.saturating_add(kept).min(content.bytes.len());
            content.bytes.truncate(survive);
            content.synced = survive;
        }
    }

    /// Flips one bit of a file.
    pub fn flip(&self, path: &Path, at: usize, bit: u8) {
        if let Some(byte) = self.0.lock().files.get_mut(path).and_then(|content| content.bytes.get_mut(at)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Cuts a file.
    pub fn cut(&self, path: &Path, len: usize) {
        if let Some(content) = self.0.lock().files.get_mut(path) {
            content.bytes.truncate(len);
            content.synced = content.synced.min(len);
        }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()))
}

impl State {
    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fits = match self.room {
            Some(room) => bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)),
            None => bytes.len(),
        };
        let (written, rest) = bytes.split_at_checked(fits).unwrap_or((bytes, &[]));
        self.files.get_mut(path).ok_or_else(|| missing(path))?.bytes.extend_from_slice(written);
        if let Some(room) = &mut self.room {
            *room = room.saturating_sub(u64::try_from(written.len()).unwrap_or(u64::MAX));
        }
        if rest.is_empty() { Ok(()) } else { Err(io::Error::from_raw_os_error(28)) }
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().files.get(path).map(|content| content.bytes.clone()).ok_or_else(|| missing(path))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.lock().files.entry(path.to_owned()).or_default();
        Ok(Box::new(MemoryFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.fail_sync {
            return Err(io::Error::from_raw_os_error(5));
        }
        let needed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match &mut state.room {
            Some(room) if *room < needed => return Err(io::Error::from_raw_os_error(28)),
            Some(room) => *room = room.saturating_sub(needed),
            None => {}
        }
        state.files.insert(path.to_owned(), Content { bytes: bytes.to_vec(), synced: bytes.len() });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(content) = state.files.remove(from) {
            state.files.insert(to.to_owned(), content);
            return Ok(());
        }
        let below: Vec<_> = state.files.keys().filter(|path| path.starts_with(from)).cloned().collect();
        if below.is_empty() && !state.dirs.remove(from) {
            return Err(missing(from));
        }
        for path in below {
            if let (Some(content), Ok(rest)) = (state.files.remove(&path), path.strip_prefix(from)) {
                state.files.insert(to.join(rest), content);
            }
        }
        state.dirs.insert(to.to_owned());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path).map(drop).ok_or_else(|| missing(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.0.lock();
        if !state.dirs.contains(dir) && !state.files.keys().any(|path| path.starts_with(dir)) {
            return Err(missing(dir));
        }
        Ok(state.files.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        if self.0.lock().fail_sync { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        let content = state.files.get(path).ok_or_else(|| missing(path))?;
        Ok(u64::try_from(content.bytes.len()).unwrap_or(u64::MAX))
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.0.lock();
        state.dirs.contains(path) || state.files.contains_key(path)
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.0.lock().append(&self.path, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.fail_sync {
            return Err(io::Error::from_raw_os_error(5));
        }
        let content = state.files.get_mut(&self.path).ok_or_else(|| missing(&self.path))?;
        content.synced = content.bytes.len();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.cut(&self.path, usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.len(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_tears_the_write() {
        let disk = MemoryDisk::new();
        let mut file = disk.open_append(Path::new("/a")).unwrap();
        disk.limit_room(3);
        assert_eq!(file.append(b"hello").unwrap_err().raw_os_error(), Some(28));
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"hel");
        disk.free_room();
        file.append(b"p").unwrap();
        assert_eq!(file.len().unwrap(), 4);
    }

    #[test]
    fn power_loss_takes_what_was_not_synced() {
        let disk = MemoryDisk::new();
        let mut file = disk.open_append(Path::new("/a")).unwrap();
        file.append(b"kept").unwrap();
        file.sync_data().unwrap();
        file.append(b"lost").unwrap();
        disk.lose_unsynced(1);
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"keptl");
        disk.fail_sync(true);
        assert!(file.sync_data().is_err());
    }
}
