//! The key that signs versions of policies: its own file `policy-signing.key`, sealed, 0600, never the authority's (ST4).
//!
//! Made at the first open. After a rotation old and new key sign, until the next rotation drops the old one.

use crate::{
    PolicyStoreError,
    note::{self, Verifier},
};
use aws_lc_rs::signature::Ed25519KeyPair;
use base_ports::{Disk, Rng};
use base_store::seal::SealKey;
use parking_lot::RwLock;
use policies_engine::Numbers;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

const FILE: &str = "policy-signing.key";
const SEAL: &str = "seal.key";
const PURPOSE: &[u8] = b"policy-signing";
const SUFFIX: &str = "/policies";
const SEED: usize = 32;
/// The newest key, and the one before it.
const MOST_KEYS: usize = 2;

/// Signs manifests.
pub struct Signer {
    name: String,
    rng: Arc<dyn Rng>,
    /// Where the keys lie; none for keys that end with the process.
    place: Option<Place>,
    /// Newest first; never empty.
    keys: RwLock<Vec<Key>>,
}

struct Place {
    path: PathBuf,
    seal: SealKey,
    disk: Arc<dyn Disk>,
}

struct Key {
    seed: Zeroizing<[u8; SEED]>,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The keys in `data_dir`, made when there are none. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, made or opened, or others can read it.
    pub fn open(
        data_dir: &Path,
        trust_domain: &str,
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
    ) -> Result<Signer, PolicyStoreError> {
        let path = data_dir.join(FILE);
        let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng.as_ref(), disk.as_ref()).map_err(key)?;
        let name = format!("{trust_domain}{SUFFIX}");
        let Some(plain) = seal.open_file(&path, PURPOSE, disk.as_ref()).map_err(key)? else {
            let signer = Signer { place: Some(Place { path, seal, disk }), ..Signer::in_memory(name, rng)? };
            signer.save(&signer.keys.read())?;
            return Ok(signer);
        };
        let (seeds, rest) = plain.as_chunks::<SEED>();
        if seeds.is_empty() || seeds.len() > MOST_KEYS || !rest.is_empty() {
            return Err(key(format!("`{}` holds no keys of {SEED} bytes", path.display())));
        }
        let keys = seeds.iter().map(|seed| Key::of(Zeroizing::new(*seed))).collect::<Result<_, _>>()?;
        Ok(Signer { name, rng, place: Some(Place { path, seal, disk }), keys: RwLock::new(keys) })
    }

    /// A key that ends with the process, for tests and for `policy` commands that store nothing.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn ephemeral(trust_domain: &str, rng: Arc<dyn Rng>) -> Result<Signer, PolicyStoreError> {
        Signer::in_memory(format!("{trust_domain}{SUFFIX}"), rng)
    }

    fn in_memory(name: String, rng: Arc<dyn Rng>) -> Result<Signer, PolicyStoreError> {
        let first = Key::fresh(rng.as_ref())?;
        Ok(Signer { name, rng, place: None, keys: RwLock::new(vec![first]) })
    }

    /// The trust domain it signs for.
    pub(crate) fn trust_domain(&self) -> &str {
        self.name.strip_suffix(SUFFIX).unwrap_or(&self.name)
    }

    /// The public keys, for enforcers to pin; the newest first.
    #[must_use]
    pub fn verifiers(&self) -> Vec<Verifier> {
        self.keys.read().iter().map(|key| Verifier::of(&self.name, &key.pair)).collect()
    }

    /// The note about a manifest.
    pub(crate) fn sign(&self, numbers: Numbers, manifest: &[u8]) -> String {
        note::sign(&self.name, numbers, manifest, self.keys.read().iter().map(|key| &key.pair))
    }

    /// Makes a new key; from now on it and the one before it sign. Blocks.
    pub(crate) fn rotate(&self) -> Result<(), PolicyStoreError> {
        let mut keys = self.keys.write();
        let mut next = vec![Key::fresh(self.rng.as_ref())?];
        if let Some(newest) = keys.first() {
            next.push(Key::of(newest.seed.clone())?);
        }
        self.save(&next)?;
        *keys = next;
        Ok(())
    }

    fn save(&self, keys: &[Key]) -> Result<(), PolicyStoreError> {
        let Some(Place { path, seal, disk }) = &self.place else { return Ok(()) };
        // INVARIANT: room for all keys, so that no copy stays behind in memory that was given back.
        let mut plain = Zeroizing::new(Vec::with_capacity(SEED * MOST_KEYS));
        keys.iter().for_each(|key| plain.extend_from_slice(key.seed.as_slice()));
        let sealed = seal.seal(PURPOSE, &plain, self.rng.as_ref());
        let written = disk.write_atomic(path, &sealed, 0o600);
        written.map_err(|cause| key(format!("`{}` cannot be written: {cause}", path.display())))
    }
}

impl Key {
    fn fresh(rng: &dyn Rng) -> Result<Key, PolicyStoreError> {
        let mut seed = Zeroizing::new([0; SEED]);
        rng.fill(seed.as_mut_slice());
        Key::of(seed)
    }

    fn of(seed: Zeroizing<[u8; SEED]>) -> Result<Key, PolicyStoreError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(key)?;
        Ok(Key { seed, pair })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifiers", &self.verifiers()).finish_non_exhaustive()
    }
}

fn key(cause: impl ToString) -> PolicyStoreError {
    PolicyStoreError::Key(cause.to_string())
}

#[cfg(test)]
mod tests;
