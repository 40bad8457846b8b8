//! The key file across restarts, rotations and damage.

use super::*;
use base_ports::{MemoryDisk, SeededRng, SystemDisk};
use std::{fs, os::unix::fs::PermissionsExt};

fn open(dir: &Path, seed: u64) -> Result<Signer, PolicyStoreError> {
    Signer::open(dir, "example.org", Arc::new(SystemDisk), Arc::new(SeededRng::new(seed)))
}

#[test]
fn st4_the_key_is_made_once_sealed_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), 1).unwrap();
    let path = dir.path().join("policy-signing.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let seed = first.keys.read()[0].seed.to_vec();
    let stored = fs::read(&path).unwrap();
    assert!(!stored.windows(SEED).any(|part| part == seed), "the key does not lie there in the open");
    assert_eq!(open(dir.path(), 2).unwrap().verifiers(), first.verifiers());
    let told = first.verifiers()[0].to_string();
    assert!(told.starts_with("example.org/policies+"), "{told}");
    assert!(!format!("{first:?}").contains("seed"));
}

#[test]
fn st4_a_rotation_signs_with_old_and_new_and_the_next_one_drops_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), 1).unwrap();
    let old = signer.verifiers();
    signer.rotate().unwrap();
    let both = signer.verifiers();
    assert_eq!((both.len(), &both[1]), (2, &old[0]));
    assert_eq!(open(dir.path(), 9).unwrap().verifiers(), both, "after a restart too");
    signer.rotate().unwrap();
    let next = signer.verifiers();
    assert_eq!((next.len(), &next[1]), (2, &both[0]));
}

#[test]
fn st4_a_key_file_that_others_read_or_that_is_damaged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 1).unwrap();
    let path = dir.path().join("policy-signing.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(dir.path(), 1), Err(PolicyStoreError::Key(cause)) if cause.contains("mode 644")));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(open(dir.path(), 1), Err(PolicyStoreError::Key(_))));
}

#[test]
fn a_key_that_cannot_be_written_is_not_used() {
    let disk = Arc::new(MemoryDisk::new());
    let place = Path::new("/no/such/place");
    let made = Signer::open(place, "example.org", disk.clone(), Arc::new(SeededRng::new(1))).unwrap();
    let again = Signer::open(place, "example.org", disk, Arc::new(SeededRng::new(2))).unwrap();
    assert_eq!(made.verifiers(), again.verifiers());
}
