//! The real disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskFile};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

/// Tells temporary files of one process apart, also when two threads write the same path.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Disk for SystemDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.sync_dir(parent(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent(path) != Path::new(".") => {
                self.create_dir_all(parent(path))?;
                self.create_dir_all(path)
            }
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = vec![0; len];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX))) {
                Ok(0) => break,
                Ok(more) => read = read.saturating_add(more),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600);
        Ok(Box::new(SystemFile(options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?)))
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "path has no file name"));
        };
        let dir = parent(path);
        let (process, number) = (std::process::id(), TEMPORARY.fetch_add(1, Ordering::Relaxed));
        let temporary = dir.join(format!(".{}.{process}.{number}.new", name.to_string_lossy()));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        let written =
            file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written.and_then(|()| self.sync_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths =
            fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        Ok(paths)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            // Not every file system can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                io::copy(&mut io::repeat(0).take(len), &mut file)?;
            }
            outcome => outcome?,
        }
        file.sync_all()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

/// The directory that holds `path`; of a bare name the working directory.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_directories_and_files_are_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        SystemDisk.create_dir_all(&dir).unwrap();
        SystemDisk.create_dir_all(&dir).unwrap();
        SystemDisk.open_append(&dir.join("log")).unwrap().append(b"x").unwrap();
        SystemDisk.write_atomic(&dir.join("key"), b"old", 0o600).unwrap();
        SystemDisk.write_atomic(&dir.join("key"), b"new", 0o600).unwrap();
        assert_eq!((mode(&root.path().join("a")), mode(&dir)), (0o700, 0o700));
        assert_eq!((mode(&dir.join("log")), mode(&dir.join("key"))), (0o600, 0o600));
        assert_eq!(SystemDisk.read(&dir.join("key")).unwrap(), b"new");
        assert_eq!(SystemDisk.list(&dir).unwrap().len(), 2, "no temporary file is left");
        assert!(SystemDisk.create_dir_all(&dir.join("log")).is_err(), "a file is no directory");
    }

    #[test]
    fn a_part_of_a_file_is_read_and_its_end_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(SystemDisk.read_at(&path, 3, 4).unwrap(), b"3456");
        assert_eq!(SystemDisk.read_at(&path, 8, 4).unwrap(), b"89");
        assert_eq!(SystemDisk.read_at(&path, 11, 4).unwrap(), b"");
        assert!(SystemDisk.read_at(&root.path().join("none"), 0, 1).is_err());
    }

    #[test]
    fn an_allocated_file_has_its_place() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("reserve");
        SystemDisk.allocate(&path, 100_000).unwrap();
        assert_eq!((SystemDisk.len(&path).unwrap(), mode(&path)), (100_000, 0o600));
        assert!(SystemDisk.free(root.path()).unwrap() > 0);
    }

    #[test]
    fn fs5_a_link_is_not_appended_through() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(SystemDisk.open_append(&link).is_err());
        SystemDisk.write_atomic(&link, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept", "the link was replaced, not followed");
    }

    #[test]
    fn two_threads_that_replace_one_file_leave_one_whole_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::thread::scope(|scope| {
            for byte in [b'a', b'b'] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        SystemDisk.write_atomic(path, &[byte; 4_096], 0o600).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 4_096 && bytes.iter().all(|byte| *byte == bytes[0]));
    }
}
