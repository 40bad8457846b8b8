//! The key that ids of people are hashed with on record: its own file `ledger-people.key`, sealed like keys of the authority,
//! 0600 (S35).
//!
//! Made at the first open and never replaced: with another key nobody would be found in older records.

use std::path::Path;

use base_ports::{Disk, Rng};
use base_store::seal::SealKey;
use zeroize::Zeroizing;

const SEAL: &str = "seal.key";
const FILE: &str = "ledger-people.key";
/// What the key is for is part of what is sealed: the file of another key never stands in for it.
const PURPOSE: &[u8] = b"ledger-people";
const LENGTH: usize = 32;

/// The key.
pub(super) type PeopleKey = Zeroizing<[u8; LENGTH]>;

/// The key in `data_dir`; one that is not there is made.
///
/// # Errors
/// The file cannot be read, made or opened, or others can read it; the text names it.
pub(super) fn open(data_dir: &Path, disk: &dyn Disk, rng: &dyn Rng) -> Result<PeopleKey, String> {
    let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng, disk).map_err(|error| error.to_string())?;
    let path = data_dir.join(FILE);
    let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let plain = match seal.open_file(&path, PURPOSE, disk).map_err(|error| error.to_string())? {
        Some(key) => key,
        None => {
            let mut key = Zeroizing::new(vec![0; LENGTH]);
            rng.fill(&mut key);
            let sealed = seal.seal(PURPOSE, &key, rng);
            disk.write_atomic(&path, &sealed, 0o600).map_err(|error| said(&error))?;
            key
        }
    };
    let key = <[u8; LENGTH]>::try_from(plain.as_slice());
    key.map(Zeroizing::new).map_err(|_other_length| said(&format!("it holds no key of {LENGTH} bytes")))
}

#[cfg(test)]
mod tests {
    use base_ports::{MemoryDisk, SeededRng};

    use super::*;

    #[test]
    fn the_key_for_people_is_made_once_and_is_never_on_disk_unsealed() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/no/such/place"));
        disk.create_dir_all(dir).unwrap();
        let first = open(dir, &disk, &SeededRng::new(1)).unwrap();
        assert_eq!(open(dir, &disk, &SeededRng::new(2)).unwrap(), first);
        let stored = disk.read(&dir.join(FILE)).unwrap();
        assert!(!stored.windows(8).any(|part| first.windows(8).any(|key| key == part)));
        // The file of another key, sealed for another purpose.
        let seal = SealKey::load_or_create(&dir.join(SEAL), &SeededRng::new(3), &disk).unwrap();
        let other = seal.seal(b"ledger-signing", &[7; LENGTH], &SeededRng::new(4));
        disk.write_atomic(&dir.join(FILE), &other, 0o600).unwrap();
        assert!(open(dir, &disk, &SeededRng::new(5)).unwrap_err().contains(FILE));
    }
}
