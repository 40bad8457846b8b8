//! The disk as a parameter: the real one, and a simulated one that tears writes, fills up and loses what was not synced.

mod memory;
mod system;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use memory::{MemoryDisk, Survive};
pub use system::SystemDisk;

/// Where a component keeps files. Directories are made 0700, files 0600 unless said otherwise.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Makes the directory and its parents; new ones get mode 0700 and are durable when this returns.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The whole file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Up to `len` bytes from `offset` on; fewer where the file ends, none behind its end.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Opens for appending; made with mode 0600 when absent. A link is not followed. A new name is durable only after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the operating system says.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Replaces the file as a whole: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// What the operating system says. Readers see the old content or the new, never a part; after an error it may be
    /// either of them.
    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;

    /// Moves a file or directory.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The paths in a directory, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes renames and new names in the directory durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Size of a file, bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Bytes that may still be written in that directory's file system.
    ///
    /// # Errors
    /// What the operating system says.
    fn free(&self, dir: &Path) -> io::Result<u64>;

    /// Makes a file of `len` bytes that hold nothing but their place on the disk; mode 0600. On an error it may be left
    /// in part.
    ///
    /// # Errors
    /// What the operating system says, ENOSPC above all.
    fn allocate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Whether there is something at `path`.
    fn exists(&self, path: &Path) -> bool;
}

/// One open file.
pub trait DiskFile: Send + fmt::Debug {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// What the operating system says; part of it may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended durable (fdatasync). After an error the file must not be trusted: never try again.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Size, bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
