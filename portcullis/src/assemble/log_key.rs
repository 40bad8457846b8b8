//! The keys of the decision ledger, each its own file, sealed like keys of the authority, 0600: `ledger-signing.key` signs
//! checkpoints (VF2, S16), `ledger-people.key` hashes ids of people (S35).
//!
//! Made at the first open. The first holds seeds, the newest first, so that a rotation has a place for the one before. The
//! second has none before: with another key nobody would be found in older records.

use std::io;
use std::path::Path;

use base_ports::{Disk, Rng};
use base_store::seal::{SealError, SealKey, read_private};
use policies_decisions::LogKeys;
use zeroize::Zeroizing;

const SEAL: &str = "seal.key";
const SIGNING: &str = "ledger-signing.key";
const PEOPLE: &str = "ledger-people.key";
const SEED: usize = 32;
/// The newest key, and the one before it.
const MOST_KEYS: usize = 2;

/// The keys of one ledger.
pub(super) struct Keys {
    /// Signs checkpoints.
    pub(super) log: LogKeys,
    /// Hashes ids of people.
    pub(super) people: Zeroizing<[u8; SEED]>,
}

/// The keys in `data_dir`.
///
/// # Errors
/// The file cannot be read, made or opened, or others can read it; the text names it.
pub(super) fn open(data_dir: &Path, disk: &dyn Disk, rng: &dyn Rng) -> Result<Keys, String> {
    let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng, disk).map_err(|error| error.to_string())?;
    let unlike =
        |file: &str| format!("`{}`: it holds no keys of {SEED} bytes", data_dir.join(file).display());
    let plain = load(data_dir, SIGNING, &seal, disk, rng)?;
    let (seeds, rest) = plain.as_chunks::<SEED>();
    let log = LogKeys::from_seeds(seeds).filter(|_| rest.is_empty() && seeds.len() <= MOST_KEYS);
    let plain = load(data_dir, PEOPLE, &seal, disk, rng)?;
    let people = <[u8; SEED]>::try_from(plain.as_slice()).map_err(|_other_length| unlike(PEOPLE))?;
    Ok(Keys { log: log.ok_or_else(|| unlike(SIGNING))?, people: Zeroizing::new(people) })
}

/// What a sealed file holds; one that is not there is made.
fn load(
    data_dir: &Path,
    file: &str,
    seal: &SealKey,
    disk: &dyn Disk,
    rng: &dyn Rng,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = data_dir.join(file);
    let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    // What the key is for is part of what is sealed: one file never stands in for the other.
    let purpose = file.trim_end_matches(".key").as_bytes();
    match read_private(&path, disk) {
        Ok(sealed) => seal.open(purpose, &sealed).map_err(|error| said(&error)),
        Err(SealError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mut seed = Zeroizing::new(vec![0; SEED]);
            rng.fill(&mut seed);
            let sealed = seal.seal(purpose, &seed, rng);
            disk.write_atomic(&path, &sealed, 0o600).map_err(|error| said(&error))?;
            Ok(seed)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{MemoryDisk, SeededRng};
    use policies_decisions::Signer;

    #[test]
    fn vf2_the_keys_of_the_ledger_are_made_once_and_are_never_on_disk_unsealed() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/no/such/place"));
        disk.create_dir_all(dir).unwrap();
        let first = open(dir, &disk, &SeededRng::new(1)).unwrap();
        let again = open(dir, &disk, &SeededRng::new(2)).unwrap();
        assert_eq!(again.log.public_keys(), first.log.public_keys());
        assert_eq!(again.people, first.people);
        let stored = disk.read(&dir.join(PEOPLE)).unwrap();
        assert!(!stored.windows(8).any(|part| first.people.windows(8).any(|key| key == part)));
        let mut seed = [0; SEED];
        SeededRng::new(1).fill(&mut seed);
        let stored = disk.read(&dir.join(SIGNING)).unwrap();
        assert!(!stored.windows(8).any(|part| seed.windows(8).any(|seed| seed == part)));
    }

    #[test]
    fn vf2_a_key_file_that_was_changed_or_put_in_place_of_another_is_refused() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/no/such/place"));
        disk.create_dir_all(dir).unwrap();
        let refused = || open(dir, &disk, &SeededRng::new(3)).map(|_| ()).unwrap_err();
        open(dir, &disk, &SeededRng::new(1)).unwrap();
        let signing = disk.read(&dir.join(SIGNING)).unwrap();
        disk.write_atomic(&dir.join(PEOPLE), &signing, 0o600).unwrap();
        assert!(refused().contains(PEOPLE));
        disk.flip(&dir.join(SIGNING), 40, 3);
        assert!(refused().contains(SIGNING));
    }
}
