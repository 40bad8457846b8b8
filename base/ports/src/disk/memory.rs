//! A simulated disk: files in memory, with the faults that real ones have (TM-05).
//!
//! Bytes and names are kept as a kernel keeps them: what the process sees, and what would be left if the power went now.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};
use content::Content;

/// Files in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// What is left, after the power went, of bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// Nothing of them.
    Nothing,
    /// All of them, as when only the process was killed.
    Everything,
    /// A choice of them, by this number: single names, and single sectors of 512 bytes with zeros for the others.
    Sectors(u64),
}

type Inode = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, Inode>,
    durable: BTreeMap<PathBuf, Inode>,
    dirs: BTreeSet<PathBuf>,
    room: Option<u64>,
    fail_sync: bool,
    fail_read: bool,
    fail_dir_syncs: u64,
    read: BTreeMap<PathBuf, u64>,
    /// Changes since the beginning, and the one at which the process dies.
    steps: u64,
    last: Option<u64>,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn fault(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()))
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl MemoryDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A second disk with the same content and no faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.0.lock();
        let mut copies: BTreeMap<*const Mutex<Content>, Inode> = BTreeMap::new();
        let mut twin = |inode: &Inode| {
            let copy = copies
                .entry(Arc::as_ptr(inode))
                .or_insert_with(|| Arc::new(Mutex::new(inode.lock().clone())));
            Arc::clone(copy)
        };
        let names = state.names.iter().map(|(path, inode)| (path.clone(), twin(inode))).collect();
        let durable = state.durable.iter().map(|(path, inode)| (path.clone(), twin(inode))).collect();
        Self(Arc::new(Mutex::new(State { names, durable, dirs: state.dirs.clone(), ..State::default() })))
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

    /// The next `count` syncs of directories fail with EIO, also the one that ends a replacement of a file.
    pub fn fail_dir_syncs(&self, count: u64) {
        self.0.lock().fail_dir_syncs = count;
    }

    /// From now on reads fail with EIO (or work again).
    pub fn fail_read(&self, fail: bool) {
        self.0.lock().fail_read = fail;
    }

    /// Bytes of that file that were read so far.
    #[must_use]
    pub fn bytes_read(&self, path: &Path) -> u64 {
        self.0.lock().read.get(path).copied().unwrap_or_default()
    }

    /// Changes made so far: writes, syncs, cuts, new names, removals.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// After that many more changes the process is dead: the next one happens in part, and everything fails from then on.
    pub fn die_after(&self, changes: u64) {
        let mut state = self.0.lock();
        state.last = Some(state.steps.saturating_add(changes));
    }

    /// The process of [`MemoryDisk::die_after`] is gone and another may come. The machine goes on: nothing is lost, nothing
    /// is synced.
    pub fn revive(&self) {
        self.0.lock().last = None;
    }

    /// The power goes: of unsynced bytes and names only what `survive` says is left. Faults end.
    pub fn lose_power(&self, survive: Survive) {
        let mut state = self.0.lock();
        let mut coin = content::Coin::new(survive);
        let paths: BTreeSet<_> = state.names.keys().chain(state.durable.keys()).cloned().collect();
        for path in paths {
            let (seen, kept) = (state.names.get(&path).cloned(), state.durable.get(&path).cloned());
            let same = match (&seen, &kept) {
                (Some(seen), Some(kept)) => Arc::ptr_eq(seen, kept),
                _ => false,
            };
            match if same || coin.keeps() { seen } else { kept } {
                Some(inode) => state.names.insert(path, inode),
                None => state.names.remove(&path),
            };
        }
        let left: BTreeMap<*const Mutex<Content>, &Inode> =
            state.names.values().map(|inode| (Arc::as_ptr(inode), inode)).collect();
        left.into_values().for_each(|inode| inode.lock().lose_power(&mut coin));
        state.durable = state.names.clone();
        (state.room, state.fail_sync, state.fail_read, state.last) = (None, false, false, None);
    }

    /// What was not synced is gone, except its first `kept` bytes. Names stay.
    pub fn lose_unsynced(&self, kept: usize) {
        self.0.lock().names.values().for_each(|inode| inode.lock().lose_unsynced(kept));
    }

    /// Flips one bit of a file.
    pub fn flip(&self, path: &Path, at: usize, bit: u8) {
        if let Some(inode) = self.0.lock().names.get(path) {
            inode.lock().flip(at, bit);
        }
    }

    /// Cuts a file.
    pub fn cut(&self, path: &Path, len: usize) {
        if let Some(inode) = self.0.lock().names.get(path) {
            let mut content = inode.lock();
            content.truncate(len);
            content.sync();
        }
    }
}

/// What becomes of a change.
#[derive(PartialEq, Eq)]
enum Step {
    Whole,
    /// The process dies in it.
    Part,
}

impl State {
    fn step(&mut self) -> io::Result<Step> {
        self.steps = self.steps.saturating_add(1);
        match self.last {
            Some(last) if self.steps > last.saturating_add(1) => Err(fault(EIO)),
            Some(last) if self.steps > last => Ok(Step::Part),
            _ => Ok(Step::Whole),
        }
    }

    fn alive(&self) -> io::Result<()> {
        let dead = self.last.is_some_and(|last| self.steps > last);
        if dead { Err(fault(EIO)) } else { Ok(()) }
    }

    fn append(&mut self, inode: &Inode, bytes: &[u8]) -> io::Result<()> {
        let step = self.step()?;
        let wanted = if step == Step::Part { bytes.len() / 2 } else { bytes.len() };
        let fits = self.room.map_or(wanted, |room| wanted.min(usize::try_from(room).unwrap_or(usize::MAX)));
        let (written, _) = bytes.split_at_checked(fits).unwrap_or((bytes, &[]));
        inode.lock().append(written);
        if let Some(room) = &mut self.room {
            *room = room.saturating_sub(size(fits));
        }
        match step {
            Step::Part => Err(fault(EIO)),
            Step::Whole if fits < bytes.len() => Err(fault(ENOSPC)),
            Step::Whole => Ok(()),
        }
    }

    fn dir_sync_fails(&mut self) -> bool {
        let fails = self.fail_dir_syncs > 0;
        self.fail_dir_syncs = self.fail_dir_syncs.saturating_sub(1);
        fails
    }

    fn sync_dir(&mut self, dir: &Path) {
        self.durable.retain(|path, _| path.parent() != Some(dir));
        let inside = self.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        self.durable.extend(inside.map(|(path, inode)| (path.clone(), Arc::clone(inode))));
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock();
        state.alive()?;
        if state.fail_read {
            return Err(fault(EIO));
        }
        let bytes = state.names.get(path).map(|inode| inode.lock().bytes().to_vec());
        let bytes = bytes.ok_or_else(|| missing(path))?;
        *state.read.entry(path.to_owned()).or_default() += size(bytes.len());
        Ok(bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock();
        state.alive()?;
        if state.fail_read {
            return Err(fault(EIO));
        }
        let inode = Arc::clone(state.names.get(path).ok_or_else(|| missing(path))?);
        let content = inode.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes().len());
        let to = from.saturating_add(len).min(content.bytes().len());
        let part = content.bytes().get(from..to).unwrap_or_default().to_vec();
        *state.read.entry(path.to_owned()).or_default() += size(part.len());
        Ok(part)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = Arc::clone(state.names.entry(path.to_owned()).or_default());
        Ok(Box::new(MemoryFile { disk: self.clone(), inode }))
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.fail_sync {
            return Err(fault(EIO));
        }
        let step = state.step()?;
        match &mut state.room {
            Some(room) if *room < size(bytes.len()) => return Err(fault(ENOSPC)),
            Some(room) => *room = room.saturating_sub(size(bytes.len())),
            None => {}
        }
        let inode = Arc::new(Mutex::new(Content::synced(bytes)));
        state.names.insert(path.to_owned(), Arc::clone(&inode));
        if step == Step::Part || state.dir_sync_fails() {
            return Err(fault(EIO));
        }
        state.durable.insert(path.to_owned(), inode);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        if let Some(inode) = state.names.remove(from) {
            state.names.insert(to.to_owned(), inode);
            return Ok(());
        }
        let below: Vec<_> = state.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        if below.is_empty() && !state.dirs.remove(from) {
            return Err(missing(from));
        }
        for path in below {
            if let (Some(inode), Ok(rest)) = (state.names.remove(&path), path.strip_prefix(from)) {
                state.names.insert(to.join(rest), inode);
            }
        }
        state.dirs.insert(to.to_owned());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let inode = state.names.remove(path).ok_or_else(|| missing(path))?;
        if let Some(room) = &mut state.room {
            *room = room.saturating_add(size(inode.lock().bytes().len()));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.0.lock();
        state.alive()?;
        if !state.dirs.contains(dir) && !state.names.keys().any(|path| path.starts_with(dir)) {
            return Err(missing(dir));
        }
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.step()? == Step::Part || state.fail_sync || state.dir_sync_fails() {
            return Err(fault(EIO));
        }
        state.sync_dir(dir);
        Ok(())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        state.alive()?;
        let inode = state.names.get(path).ok_or_else(|| missing(path))?;
        Ok(size(inode.lock().bytes().len()))
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        state.alive()?;
        Ok(state.room.unwrap_or(u64::MAX))
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut file = self.open_append(path)?;
        file.truncate(0)?;
        file.append(&vec![0; usize::try_from(len).unwrap_or(usize::MAX)])?;
        file.sync_data()
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.0.lock();
        state.dirs.contains(path) || state.names.contains_key(path)
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.0.lock().append(&self.inode, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.step()? == Step::Part || state.fail_sync {
            return Err(fault(EIO));
        }
        self.inode.lock().sync();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.step()? == Step::Part {
            return Err(fault(EIO));
        }
        self.inode.lock().truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.0.lock().alive()?;
        Ok(size(self.inode.lock().bytes().len()))
    }
}

#[cfg(test)]
mod tests;
