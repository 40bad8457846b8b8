//! The key of the decision log: its own file `ledger-signing.key`, sealed like keys of the authority, 0600 (VF2, S16).
//!
//! Made at the first open. The file holds seeds, the newest first, so that a rotation has a place for the one before.

use std::io;
use std::path::Path;

use base_ports::{Disk, Rng};
use base_store::seal::{SealError, SealKey, read_private};
use policies_decisions::LogKeys;
use zeroize::Zeroizing;

const FILE: &str = "ledger-signing.key";
const SEAL: &str = "seal.key";
const PURPOSE: &[u8] = b"ledger-signing";
const SEED: usize = 32;
/// The newest key, and the one before it.
const MOST_KEYS: usize = 2;

/// The keys in `data_dir`.
///
/// # Errors
/// The file cannot be read, made or opened, or others can read it; the text names it.
pub(super) fn open(data_dir: &Path, disk: &dyn Disk, rng: &dyn Rng) -> Result<LogKeys, String> {
    let path = data_dir.join(FILE);
    let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng, disk).map_err(|error| error.to_string())?;
    let plain = match read_private(&path, disk) {
        Ok(sealed) => seal.open(PURPOSE, &sealed).map_err(|error| said(&error))?,
        Err(SealError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mut seed = Zeroizing::new(vec![0; SEED]);
            rng.fill(&mut seed);
            let sealed = seal.seal(PURPOSE, &seed, rng);
            disk.write_atomic(&path, &sealed, 0o600).map_err(|error| said(&error))?;
            seed
        }
        Err(error) => return Err(error.to_string()),
    };
    let (seeds, rest) = plain.as_chunks::<SEED>();
    let keys = LogKeys::from_seeds(seeds).filter(|_| rest.is_empty() && seeds.len() <= MOST_KEYS);
    keys.ok_or_else(|| said(&format!("it holds no keys of {SEED} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{MemoryDisk, SeededRng};
    use policies_decisions::Signer;

    #[test]
    fn vf2_the_key_of_the_log_is_made_once_and_is_never_on_disk_unsealed() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/no/such/place"));
        disk.create_dir_all(dir).unwrap();
        let first = open(dir, &disk, &SeededRng::new(1)).unwrap().public_keys();
        assert_eq!(open(dir, &disk, &SeededRng::new(2)).unwrap().public_keys(), first);
        let mut seed = [0; SEED];
        SeededRng::new(1).fill(&mut seed);
        let stored = disk.read(&dir.join(FILE)).unwrap();
        assert!(!stored.windows(8).any(|part| seed.windows(8).any(|seed| seed == part)));
        disk.flip(&dir.join(FILE), 40, 3);
        assert!(open(dir, &disk, &SeededRng::new(3)).unwrap_err().contains(FILE));
    }
}
