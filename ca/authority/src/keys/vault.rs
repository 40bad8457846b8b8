//! Private keys at rest: one sealed file per key, 0600, written before any record names it (AU-02, AU-03).
//!
//! The seal binds a file to its purpose: a key file renamed into the place of another does not open.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base_ports::{Disk, Rng};
use base_store::seal::{SealError, SealKey, read_private};
use ca_identity::{KeyId, PrivateKey};

use super::KeyKind;
use crate::config::Config;
use crate::error::AuthorityError;

const FILE_MODE: u32 = 0o600;
const MARKER: &str = "authority";

/// The directory of sealed key files.
pub(crate) struct Vault {
    dir: PathBuf,
    seal: SealKey,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
}

impl Vault {
    /// Opens the directory, and makes it and the sealing key when both are new.
    pub(crate) fn open(
        config: &Config,
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, AuthorityError> {
        let dir = config.keys_dir.clone();
        disk.create_dir_all(&dir).map_err(|source| AuthorityError::KeyFile { path: dir.clone(), source })?;
        let listed =
            disk.list(&dir).map_err(|source| AuthorityError::KeyFile { path: dir.clone(), source })?;
        let sealed = listed.iter().any(|path| path.extension().is_some_and(|ending| ending == "key"));
        if sealed && !disk.exists(&config.seal_key_path) && !config.force_new {
            let seal_key = config.seal_key_path.clone();
            return Err(AuthorityError::SealKeyMissing { keys_dir: dir, seal_key });
        }
        let seal = SealKey::load_or_create(&config.seal_key_path, rng.as_ref(), disk.as_ref())?;
        Ok(Self { dir, seal, disk, rng })
    }

    /// True when an authority was completed here once.
    pub(crate) fn is_marked(&self) -> bool {
        self.disk.exists(&self.dir.join(MARKER))
    }

    /// Leaves the mark. Its content is for people.
    pub(crate) fn mark(&self, text: &str) -> Result<(), AuthorityError> {
        let path = self.dir.join(MARKER);
        let written = self.disk.write_atomic(&path, text.as_bytes(), FILE_MODE);
        written.map_err(|source| AuthorityError::KeyFile { path, source })
    }

    /// Writes a key; durable when it returns.
    pub(crate) fn save(&self, kind: KeyKind, key_id: KeyId, key: &PrivateKey) -> Result<(), AuthorityError> {
        let sealed = self.seal.seal(&context(kind, key_id), key.pkcs8(), self.rng.as_ref());
        let path = self.path(kind, key_id);
        let written = self.disk.write_atomic(&path, &sealed, FILE_MODE);
        written.map_err(|source| AuthorityError::KeyFile { path, source })
    }

    /// Reads a key back and checks that it is the one that its record names.
    pub(crate) fn load(&self, kind: KeyKind, key_id: KeyId) -> Result<PrivateKey, AuthorityError> {
        let path = self.path(kind, key_id);
        let sealed = match read_private(&path, self.disk.as_ref()) {
            Ok(sealed) => sealed,
            Err(SealError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let (kind, key_id) = (kind.as_str(), key_id.to_string());
                return Err(AuthorityError::KeyFileMissing { kind, key_id, path });
            }
            Err(SealError::Io { source, .. }) => return Err(AuthorityError::KeyFile { path, source }),
            Err(unsafe_file) => return Err(unsafe_file.into()),
        };
        let opened = self.seal.open(&context(kind, key_id), &sealed);
        let plain = opened.map_err(|source| AuthorityError::Unseal { path: path.clone(), source })?;
        let key = PrivateKey::from_pkcs8(&plain)?;
        if key.key_id() != key_id {
            return Err(AuthorityError::WrongKey { path, key_id: key_id.to_string() });
        }
        Ok(key)
    }

    /// Removes a key that no record names any more.
    pub(crate) fn remove(&self, kind: KeyKind, key_id: KeyId) -> Result<(), AuthorityError> {
        let path = self.path(kind, key_id);
        match self.disk.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(AuthorityError::KeyFile { path, source })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, kind: KeyKind, key_id: KeyId) -> PathBuf {
        self.dir.join(format!("{}-{key_id}.key", kind.as_str()))
    }
}

fn context(kind: KeyKind, key_id: KeyId) -> Vec<u8> {
    format!("portcullis authority key v1 {} {key_id}", kind.as_str()).into_bytes()
}
