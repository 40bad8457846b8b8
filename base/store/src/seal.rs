//! Sealing of key files: AES-256-GCM under a key that lies beside them or comes from elsewhere (S16, AU-02).
//! The context binds a sealed file to its purpose: moved to another, it does not open.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base_ports::{Disk, Rng};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"PCS1";
const KEY: usize = 32;
/// No key file is longer, bytes.
const LONGEST: u64 = 1 << 20;

/// A key that seals and opens.
pub struct SealKey(LessSafeKey);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read or made.
    #[error("`{}` cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("`{}` has mode {mode:o}; a key file must have 0600", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else owns the file.
    #[error("`{}` belongs to user {owner}", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// It is a directory, a device or a pipe, or far too long.
    #[error("`{}` is not a plain key file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The directory lets others replace the file.
    #[error("`{}` lets others replace key files in it (owner {owner}, mode {mode:o})", dir.display())]
    ExposedDirectory {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("`{}` does not hold a key of {KEY} bytes", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Another key sealed it, it was sealed for another purpose, or it is damaged.
    #[error("it was sealed with another key or for another purpose, or is damaged")]
    DoesNotOpen,
    /// The same of a file.
    #[error("`{}`: it was sealed with another key or for another purpose, or is damaged", path.display())]
    FileDoesNotOpen {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the random key at `path`, or makes one. The file must be a plain file of this user that nobody else can read.
///
/// # Errors
/// Whatever makes the file unusable.
pub fn load_or_create(
    path: &Path,
    rng: &dyn Rng,
    disk: &dyn Disk,
) -> Result<Zeroizing<[u8; KEY]>, SealError> {
    let mut key = Zeroizing::new([0u8; KEY]);
    match read_private(path, disk) {
        Err(SealError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            rng.fill(&mut *key);
            disk.write_atomic(path, &*key, 0o600)
                .map_err(|source| SealError::Io { path: path.to_owned(), source })?;
        }
        found => {
            let found = found?;
            *key = <[u8; KEY]>::try_from(found.as_slice())
                .map_err(|_length| SealError::NotAKey { path: path.to_owned() })?;
        }
    }
    Ok(key)
}

impl SealKey {
    /// Reads the key at `path`, or makes one. The file must be a plain file of this user that nobody else can read.
    ///
    /// # Errors
    /// Whatever makes the file unusable.
    pub fn load_or_create(path: &Path, rng: &dyn Rng, disk: &dyn Disk) -> Result<Self, SealError> {
        let secret = load_or_create(path, rng, disk)?;
        let key = UnboundKey::new(&AES_256_GCM, &*secret);
        key.map(|key| Self(LessSafeKey::new(key)))
            .map_err(|_unspecified| SealError::NotAKey { path: path.to_owned() })
    }

    /// Seals `plain` for the purpose `context`.
    #[must_use]
    pub fn seal(&self, context: &[u8], plain: &[u8], rng: &dyn Rng) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        // INVARIANT: room for the tag, so that no unsealed copy stays behind in memory that was given back.
        let mut body = Vec::with_capacity(plain.len().saturating_add(AES_256_GCM.tag_len()));
        body.extend_from_slice(plain);
        let sealed = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut body,
        );
        if sealed.is_err() {
            // INVARIANT: AES-GCM refuses only inputs beyond 2^36 bytes; an unsealed key must never leave here.
            std::process::abort();
        }
        [MAGIC.as_slice(), &nonce, &body].concat()
    }

    /// Opens the file at `path`, as [`read_private`] reads it; `None` when there is none.
    ///
    /// # Errors
    /// Whatever makes the file unusable, and [`SealError::FileDoesNotOpen`].
    pub fn open_file(
        &self,
        path: &Path,
        context: &[u8],
        disk: &dyn Disk,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        match read_private(path, disk) {
            Err(SealError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            sealed => {
                let opened = self.open(context, &sealed?);
                opened.map(Some).or(Err(SealError::FileDoesNotOpen { path: path.to_owned() }))
            }
        }
    }

    /// Opens what was sealed for `context`.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = sealed.strip_prefix(MAGIC.as_slice()).ok_or(SealError::DoesNotOpen)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::DoesNotOpen)?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened =
            self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut body);
        let length = opened.map(|plain| plain.len()).map_err(|_unspecified| SealError::DoesNotOpen)?;
        body.truncate(length);
        Ok(body)
    }
}

/// Reads a key file. A real one is opened without following links and checked on its descriptor: a plain file of this
/// user, for nobody else, in a directory where nobody else can replace it (FS4, FS5). A simulated one has no owner.
///
/// # Errors
/// Whatever makes the file unusable.
pub fn read_private(path: &Path, disk: &dyn Disk) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let failed = |source| SealError::Io { path: path.to_owned(), source };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            return disk.read(path).map(Zeroizing::new).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    let (about, user) = (file.metadata().map_err(failed)?, rustix::process::geteuid().as_raw());
    if !about.is_file() || about.len() > LONGEST {
        return Err(SealError::NotAFile { path: path.to_owned() });
    }
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealError::TooOpen { path: path.to_owned(), mode });
    }
    if about.uid() != user {
        return Err(SealError::ForeignOwner { path: path.to_owned(), owner: about.uid() });
    }
    look_at_directory(path, user)?;
    // INVARIANT: room for everything at once, so that no copy of a key stays behind in memory that was given back.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0).saturating_add(32)));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The directory belongs to this user or the system, and others cannot write there.
fn look_at_directory(path: &Path, user: u32) -> Result<(), SealError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = dir.metadata().map_err(|source| SealError::Io { path: dir.to_owned(), source })?;
    let (owner, mode) = (about.uid(), about.mode() & 0o7777);
    if mode & 0o002 == 0 && (owner == user || owner == 0) {
        return Ok(());
    }
    Err(SealError::ExposedDirectory { dir: dir.to_owned(), owner, mode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{SeededRng, SystemDisk};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn key(dir: &Path) -> Result<SealKey, SealError> {
        SealKey::load_or_create(&dir.join("seal.key"), &SeededRng::new(1), &SystemDisk)
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let dir = tempfile::tempdir().unwrap();
        let (first, again) = (key(dir.path()).unwrap(), key(dir.path()).unwrap());
        let sealed = first.seal(b"root", b"secret", &SeededRng::new(2));
        assert_eq!(**again.open(b"root", &sealed).unwrap(), *b"secret");
        assert!(again.open(b"signing", &sealed).is_err());
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(again.open(b"root", &damaged).is_err(), "byte {at}");
            assert!(again.open(b"root", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn fs4_fs5_an_open_or_linked_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        key(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(key(dir.path()), Err(SealError::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&path, dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), &path).unwrap();
        assert!(matches!(key(dir.path()), Err(SealError::Io { .. })));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(key(dir.path()), Err(SealError::NotAFile { .. })));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(key(dir.path()), Err(SealError::NotAKey { .. })));
    }

    #[test]
    fn fs4_a_key_in_a_directory_open_to_everybody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        key(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(key(dir.path()), Err(SealError::ExposedDirectory { mode: 0o777, .. })));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        key(dir.path()).unwrap();
    }

    #[test]
    fn a_simulated_disk_keeps_its_key_too() {
        let (disk, path) = (base_ports::MemoryDisk::new(), Path::new("/no/such/place/seal.key"));
        let make = |seed| SealKey::load_or_create(path, &SeededRng::new(seed), &disk).unwrap();
        let sealed = make(1).seal(b"c", b"secret", &SeededRng::new(3));
        assert_eq!(**make(2).open(b"c", &sealed).unwrap(), *b"secret");
    }
}
