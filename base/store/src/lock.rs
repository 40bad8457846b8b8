//! One process per directory (FS6): an advisory lock whose file names the owner. Also looks at the directory itself (FS4).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::StoreError;

/// A directory that belongs to one process, as long as the value lives.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing alone would leave it locked while a child process that was just forked has not yet run its program.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::debug!(error = %error, "the lock was left to the end of the process");
        }
    }
}

impl Lock {
    /// Locks `dir`, which must belong to this user alone.
    ///
    /// # Errors
    /// Another process, another owner, or what the operating system says.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        look_at(dir)?;
        let path = dir.join("lock");
        let failed = |error| StoreError::io(&path, error);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
        let mut file = file.map_err(failed)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            let error = io::Error::from(error);
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(failed(error));
            }
            let mut owner = String::new();
            file.read_to_string(&mut owner).map_err(failed)?;
            return Err(StoreError::Locked { dir: dir.to_owned(), owner: owner.trim().to_owned() });
        }
        let named = file.set_len(0).and_then(|()| file.rewind());
        named.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self(file))
    }
}

fn look_at(dir: &Path) -> Result<(), StoreError> {
    let about = dir.metadata().map_err(|error| StoreError::io(dir, error))?;
    let (owner, user) = (about.uid(), rustix::process::geteuid().as_raw());
    let what = if owner != user {
        format!("belongs to user {owner}, this process is user {user}")
    } else if about.mode() & 0o022 != 0 {
        format!("can be written by others (mode {:o})", about.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(StoreError::Exposed { dir: dir.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn fs6_the_lock_names_its_owner_and_ends_with_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("is in use by process {}", std::process::id())), "{refused}");
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn fs4_fs5_a_directory_open_to_others_or_a_linked_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o770, 0o702] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Lock::take(dir.path()), Err(StoreError::Exposed { .. })), "{mode:o}");
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let target = dir.path().join("target");
        std::os::unix::fs::symlink(&target, dir.path().join("lock")).unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(StoreError::Io { .. })));
        assert!(!target.exists());
    }
}
