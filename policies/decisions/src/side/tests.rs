//! Whom a commitment is about: told for as long as it is kept, by nobody after an erasure, and lost by no crash.

use base_ports::{MemoryDisk, Rng, Survive, SystemRng};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;
use crate::commit::PRINCIPAL;

const ALICE: &str = "alice.liddell@corp.example";
const BOB: &str = "bob@corp.example";

fn side(disk: &MemoryDisk) -> Side {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    Side::new(Path::new("/ledger"), &disk, &rng, &[7; 32])
}

fn record(day: Day, seq: u64) -> DecisionId {
    DecisionId::new(day * DAY_MILLIS + 5, 9, seq)
}

fn value(opened: Opened) -> Option<String> {
    match opened {
        Opened::Clear(opening) => Some(opening.value),
        _ => None,
    }
}

/// Whether these bytes stand in any file.
fn stands(disk: &MemoryDisk, bytes: &[u8]) -> bool {
    let files = disk.list(Path::new("/ledger/side")).unwrap_or_default();
    let all: Vec<_> = files.iter().filter_map(|path| disk.read(path).ok()).collect();
    all.iter().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

fn file(disk: &MemoryDisk) -> PathBuf {
    disk.list(Path::new("/ledger/side")).unwrap().remove(0)
}

#[test]
fn cm3_a_commitment_is_opened_by_every_later_process() {
    let disk = MemoryDisk::new();
    let first = side(&disk);
    let committed: Vec<_> =
        (1..4).map(|seq| (record(20, seq), first.commit(PRINCIPAL, ALICE, record(20, seq)))).collect();
    let other = first.commit(PRINCIPAL, BOB, record(21, 9));
    first.flush().unwrap();
    let second = side(&disk);
    let again = second.commit(PRINCIPAL, ALICE, record(20, 7));
    second.flush().unwrap();
    for side in [&first, &second, &side(&disk)] {
        for (id, committed) in &committed {
            assert_eq!(value(side.reveal(*id, (PRINCIPAL, *committed), 0)).as_deref(), Some(ALICE));
        }
        assert_eq!(value(side.reveal(record(20, 7), (PRINCIPAL, again), 0)).as_deref(), Some(ALICE));
        assert_eq!(value(side.reveal(record(21, 9), (PRINCIPAL, other), 0)).as_deref(), Some(BOB));
        assert_eq!(side.keys_of(ALICE, 20).len(), 2, "one of each process");
        assert_eq!((side.keys_of(ALICE, 21).len(), side.keys_of("nobody", 20).len()), (0, 0));
        // The commitment of another record is none of this one.
        assert_eq!(side.reveal(record(20, 8), (PRINCIPAL, committed[0].1), 0), Opened::Lost);
    }
    assert!(!stands(&disk, b"liddell") && !stands(&disk, first.key_at_hand(ALICE, 20).unwrap().secret()));
}

#[test]
fn dl8_nothing_of_a_person_who_was_erased_is_left() {
    let disk = MemoryDisk::new();
    let before = side(&disk);
    let old = before.commit(PRINCIPAL, ALICE, record(20, 1));
    before.flush().unwrap();
    let side = side(&disk);
    let hers = side.commit(PRINCIPAL, ALICE, record(21, 1));
    let his = side.commit(PRINCIPAL, BOB, record(21, 2));
    side.flush().unwrap();
    let term = side.seal.term(ALICE);
    assert!(stands(&disk, &term));
    assert_eq!(side.days_of(ALICE), BTreeSet::from([20, 21]));
    // One that no file has yet.
    let fresh = side.commit(PRINCIPAL, ALICE, record(22, 1));
    assert_eq!(side.erase(ALICE).unwrap(), 3);
    side.flush().unwrap();
    for (id, committed) in [(record(20, 1), old), (record(21, 1), hers), (record(22, 1), fresh)] {
        assert_eq!(side.reveal(id, (PRINCIPAL, committed), 0), Opened::Erased, "{id}");
        assert_eq!(side.reveal(id, (PRINCIPAL, committed), day_of(id) + 1), Opened::Expired);
    }
    assert_eq!(value(side.reveal(record(21, 2), (PRINCIPAL, his), 0)).as_deref(), Some(BOB));
    assert!(!stands(&disk, &term) && side.days_of(ALICE).is_empty());
    assert_eq!(side.erase(ALICE).unwrap(), 0);
    // She comes back, as somebody else than before.
    let later = side.commit(PRINCIPAL, ALICE, record(21, 3));
    side.flush().unwrap();
    assert_eq!(value(side.reveal(record(21, 3), (PRINCIPAL, later), 0)).as_deref(), Some(ALICE));
    assert_eq!(side.reveal(record(21, 1), (PRINCIPAL, hers), 0), Opened::Erased);
}

#[test]
fn cm3_days_past_their_time_are_gone_unless_they_are_held() {
    let disk = MemoryDisk::new();
    let side = side(&disk);
    let committed = [20, 21, 22].map(|day| {
        let committed = side.commit(PRINCIPAL, ALICE, record(day, 1));
        side.flush().unwrap();
        (record(day, 1), committed)
    });
    side.retire(22, |day| day == 20).unwrap();
    let opened = committed.map(|(id, committed)| side.reveal(id, (PRINCIPAL, committed), 22));
    assert_eq!(opened.clone().map(|opened| opened.as_str()), ["clear", "expired", "clear"]);
    // What was not past its time when it went is no expiry.
    disk.remove(&disk.list(Path::new("/ledger/side")).unwrap()[1]).unwrap();
    assert_eq!(side.reveal(committed[2].0, (PRINCIPAL, committed[2].1), 22), Opened::Lost);
}

#[test]
fn cm3_damage_is_told_from_erasure() {
    let disk = MemoryDisk::new();
    let side = side(&disk);
    let hers = side.commit(PRINCIPAL, ALICE, record(20, 1));
    side.commit(PRINCIPAL, BOB, record(20, 2));
    side.flush().unwrap();
    side.erase(BOB).unwrap();
    let (path, whole) = (file(&disk), disk.read(&file(&disk)).unwrap());
    for at in 0..whole.len() {
        disk.flip(&path, at, 3);
        let opened = side.reveal(record(20, 1), (PRINCIPAL, hers), 0);
        // Only what is wrong with the last frame, as a crash leaves it, says nothing.
        let is_told = matches!(opened, Opened::Clear(_) | Opened::Lost);
        assert!(is_told || at >= 25, "byte {at}: {opened:?}");
        disk.flip(&path, at, 3);
    }
    assert_eq!(value(side.reveal(record(20, 1), (PRINCIPAL, hers), 0)).as_deref(), Some(ALICE));
}

#[test]
fn cm3_after_a_failure_everybody_is_in_another_file() {
    let disk = MemoryDisk::new();
    let side = side(&disk);
    let hers = side.commit(PRINCIPAL, ALICE, record(20, 1));
    side.flush().unwrap();
    let his = side.commit(PRINCIPAL, BOB, record(20, 2));
    disk.fail_sync(true);
    side.flush().unwrap_err();
    side.flush().unwrap_err();
    disk.fail_sync(false);
    side.flush().unwrap();
    for (id, committed, who) in [(record(20, 1), hers, ALICE), (record(20, 2), his, BOB)] {
        assert_eq!(value(side.reveal(id, (PRINCIPAL, committed), 0)).as_deref(), Some(who));
    }
    assert!(disk.list(Path::new("/ledger/side")).unwrap().len() >= 2);
    assert!(side.erase(ALICE).unwrap() >= 2, "in all of them");
    assert_eq!(side.reveal(record(20, 1), (PRINCIPAL, hers), 0), Opened::Erased);
}

#[test]
fn cm5_an_erasure_that_a_crash_cuts_is_done_by_the_next_and_harms_nobody_else() {
    let mut ended = false;
    for step in 0..60 {
        let disk = MemoryDisk::new();
        let (first, mut committed) = (side(&disk), Vec::new());
        for day in [20, 21] {
            committed.push((record(day, 1), first.commit(PRINCIPAL, ALICE, record(day, 1)), ALICE));
            committed.push((record(day, 2), first.commit(PRINCIPAL, BOB, record(day, 2)), BOB));
        }
        first.flush().unwrap();
        let second = side(&disk);
        committed.push((record(21, 3), second.commit(PRINCIPAL, ALICE, record(21, 3)), ALICE));
        second.flush().unwrap();
        disk.die_after(step);
        ended |= second.erase(ALICE).is_ok();
        disk.lose_power(Survive::Sectors(step));
        let third = side(&disk);
        for (id, committed, who) in &committed {
            let opened = third.reveal(*id, (PRINCIPAL, *committed), 0);
            assert!(*who == ALICE || value(opened.clone()).as_deref() == Some(BOB), "{step}: {opened:?}");
            assert!(matches!(opened, Opened::Clear(_) | Opened::Erased), "{step}: {opened:?}");
        }
        third.erase(ALICE).unwrap();
        for (id, committed, _) in committed.iter().filter(|(.., who)| *who == ALICE) {
            assert_eq!(third.reveal(*id, (PRINCIPAL, *committed), 0), Opened::Erased, "{step}");
        }
    }
    assert!(ended, "the last steps are past its end");
}

#[test]
fn cm3_the_records_of_another_ledger_bring_what_opens_them() {
    let disk = MemoryDisk::new();
    let port: Arc<dyn Disk> = Arc::new(disk.clone());
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let aside = Side::new(Path::new("/aside"), &port, &rng, &[7; 32]);
    let hers = aside.commit(PRINCIPAL, ALICE, record(20, 1));
    aside.flush().unwrap();
    let here = side(&disk);
    here.adopt(Path::new("/aside")).unwrap();
    assert_eq!(value(here.reveal(record(20, 1), (PRINCIPAL, hers), 0)).as_deref(), Some(ALICE));
    here.erase(ALICE).unwrap();
    here.adopt(Path::new("/aside")).unwrap();
    assert_eq!(
        here.reveal(record(20, 1), (PRINCIPAL, hers), 0),
        Opened::Erased,
        "a second try brings nobody back"
    );
}

proptest! {
    #[test]
    fn cm3_files_of_any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let disk = MemoryDisk::new();
        let side = side(&disk);
        let hers = side.commit(PRINCIPAL, ALICE, record(20, 1));
        side.flush().unwrap();
        let other = Path::new("/ledger/side").join(Names::of(20, 1, 0));
        let with_magic = [b"PCSIDE01".as_slice(), &bytes].concat();
        for bytes in [&bytes, &with_magic] {
            disk.write_atomic(&other, bytes, 0o600).unwrap();
            let opened = value(side.reveal(record(20, 1), (PRINCIPAL, hers), 0));
            prop_assert_eq!(opened.as_deref(), Some(ALICE));
        }
    }
}
