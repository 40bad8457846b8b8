//! VF2: auditors with the old key follow to the new one, and only the old key leads there.

use std::{path::Path, sync::Arc};

use base_ports::{Disk, MemoryDisk, SystemClock, SystemRng};
use parking_lot::Mutex;
use policies_engine::{AdministrationRecord, Record};

use super::*;
use crate::{
    LedgerConfig,
    proof::{
        Auditor, DirMaterial, LogKeys, Verified,
        growing::{ORIGIN, opened, signing},
        verify,
    },
    testing::{allow, eventually, vouch::Auditing, wait},
};

/// Keys by their number, the newest first.
#[derive(Debug)]
struct Ring(Mutex<Vec<u8>>);

impl Ring {
    fn keys(&self) -> LogKeys {
        let seeds: Vec<_> = self.0.lock().iter().map(|seed| [*seed; 32]).collect();
        LogKeys::from_seeds(&seeds).unwrap()
    }
}

impl Signer for Ring {
    fn public_keys(&self) -> Vec<[u8; 32]> {
        self.keys().public_keys()
    }

    fn sign(&self, text: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
        self.keys().sign(text)
    }

    fn draw(&self, _: UnixTime) -> Result<[u8; 32], String> {
        let next = self.0.lock()[0] + 1;
        Ok(LogKeys::from_seeds(&[[next; 32]]).unwrap().public_keys()[0])
    }

    fn turn(&self, _: [u8; 32], _: UnixTime, _: UnixTime) -> Result<(), String> {
        let mut keys = self.0.lock();
        let next = keys[0] + 1;
        keys.insert(0, next);
        Ok(())
    }
}

fn key(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, LogKeys::from_seeds(&[[seed; 32]]).unwrap().public_keys()[0])
}

fn verified(disk: &MemoryDisk, keys: &[VerifierKey]) -> Verified {
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk.clone())).unwrap();
    verify(
        &material,
        &Auditor { keys, since: None, identities: &Auditing, now: None, sample: (0, &SystemRng) },
    )
    .unwrap()
}

fn rotated(disk: &MemoryDisk, ring: &Arc<Ring>) {
    let config = LedgerConfig { signer: Some(Arc::clone(ring) as _), ..signing() };
    let ledger = opened(disk, config).unwrap();
    let mut lane = ledger.lane(0);
    drop(lane.record(allow()));
    for _ in 0..2 {
        wait(ledger.rotate_key(Principal::local_user(0, None, &[]))).unwrap();
        drop(lane.record(allow()));
    }
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    eventually("it is signed", || tree.covered() > 5);
    ledger.close();
}

#[test]
fn vf2_an_auditor_with_the_first_key_follows_to_the_last() {
    let (disk, ring) = (MemoryDisk::new(), Arc::new(Ring(Mutex::new(vec![1]))));
    rotated(&disk, &ring);
    // While both sign, the old key is enough; later only the tree leads on.
    assert_eq!(verified(&disk, &[key(1)]).faults, []);
    ring.0.lock().truncate(1);
    let config = LedgerConfig { signer: Some(Arc::clone(&ring) as _), ..signing() };
    assert!(opened(&disk, config.clone()).is_ok(), "the last checkpoint is signed by it as well");
    let note = disk.read(Path::new("/ledger/checkpoint")).unwrap();
    assert!(super::super::Checkpoint::open(&note, &[key(1)]).is_err());
    for first in [1, 2, 3] {
        let found = verified(&disk, &[key(first)]);
        assert_eq!(found.faults, [], "key {first}");
        let changes: Vec<_> =
            found.keys.iter().map(|change| (change.old.clone(), change.new.clone())).collect();
        assert_eq!(changes, [(key(1), key(2)), (key(2), key(3))]);
    }
    assert!(verified(&disk, &[key(9)]).faults[0].what.contains("no signature of the given key"));
}

#[test]
fn vf2_dl7_only_the_key_before_hands_over() {
    let disk = MemoryDisk::new();
    // An operator signs with a key of his own, and says that the old one is its.
    let forger = Arc::new(Ring(Mutex::new(vec![7])));
    let config = LedgerConfig { signer: Some(Arc::clone(&forger) as _), ..signing() };
    let ledger = opened(&disk, config).unwrap();
    let now = base_ports::Clock::now(&SystemClock);
    let forged = Handover {
        old: key(1),
        new: key(7),
        at: now.wall,
        until: now.wall + OVERLAP,
        signature: vec![3; 64],
    };
    drop(ledger.append(Record::Administration(AdministrationRecord {
        operation: OPERATION.to_owned(),
        principal: None,
        details: forged.details(),
        time: now,
    })));
    ledger.close();
    assert!(verified(&disk, &[key(1)]).faults[0].what.contains("no signature of the given key"));
    let found = verified(&disk, &[key(7)]);
    assert!(found.faults[0].what.contains("the old key did not sign this change of keys"), "{found:?}");
}

#[test]
fn a_change_reads_back_and_no_other_text_is_one() {
    let ring = Ring(Mutex::new(vec![1]));
    let at = UnixTime::from_secs(1_795_330_800);
    let made = Handover { old: key(1), new: key(2), at, until: at + OVERLAP, signature: Vec::new() };
    let made = made.signed(&ring).unwrap();
    let details = made.details();
    assert_eq!(Handover::told(&details), Some(made.clone()));
    for at in 0..details.len() {
        let mut other = details.clone();
        other[at].1.push('A');
        assert_eq!(Handover::told(&other), None);
        other.remove(at);
        assert_eq!(Handover::told(&other), None);
    }
    let other = Handover { old: key(3), ..made };
    assert!(other.signed(&ring).is_none(), "only a key that signs hands over");
}
