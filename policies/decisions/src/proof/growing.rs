//! The tree of a ledger: it follows, it survives every crash, and it refuses a ledger that is not what was signed.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use base_ports::{Disk, MemoryDisk, Survive, SystemClock};
use policies_engine::Record;
use tokio::sync::broadcast;

use super::{
    grow::Grower,
    open::{TreeSetup, open},
    tile::WIDTH,
    *,
};
use crate::{
    Ledger, LedgerConfig, LedgerError,
    frame::{self, Frames, MAGIC},
    recover::recover,
    shelf::Shelf,
    source::each_leaf,
    testing::{self, allow, config, eventually, open_with, wait},
};

pub(crate) const ORIGIN: &str = "example.org/decisions/main";

pub(super) fn signer() -> Arc<dyn Signer> {
    Arc::new(LogKeys::from_seeds(&[[9; 32]]).unwrap())
}

pub(crate) fn key() -> VerifierKey {
    VerifierKey::new(ORIGIN, signer().public_keys()[0])
}

pub(crate) fn signing() -> LedgerConfig {
    LedgerConfig { signer: Some(signer()), file_size: 60_000, ..config() }
}

pub(crate) fn opened(disk: &MemoryDisk, config: LedgerConfig) -> Result<Ledger, LedgerError> {
    open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock))
}

/// A closed ledger without a tree.
pub(crate) fn without_tree(records: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let ledger = opened(&disk, LedgerConfig { file_size: 60_000, ..config() }).unwrap();
    let mut lane = ledger.lane(0);
    (0..records).for_each(|_| drop(lane.record(allow())));
    ledger.close();
    flatten(&disk);
    disk
}

/// Leaves in a write-ahead file of [`flatten`].
pub(crate) const IN_FILE: usize = 150;

/// Puts all records of a closed ledger into write-ahead files, where a test can change single ones.
pub(super) fn flatten(disk: &MemoryDisk) {
    let all = leaves(disk);
    for dir in ["/ledger/seg", "/ledger/wal"] {
        disk.list(Path::new(dir)).unwrap_or_default().iter().for_each(|path| disk.remove(path).unwrap());
    }
    disk.remove(Path::new("/ledger/state")).unwrap();
    for (at, chunk) in all.chunks(IN_FILE).enumerate() {
        let mut out = MAGIC.to_vec();
        chunk.iter().for_each(|leaf| assert!(frame::append(&mut out, |out| out.extend_from_slice(leaf))));
        let path = crate::shelf::path_of(Path::new("/ledger/wal"), (at * IN_FILE) as u64);
        disk.write_atomic(&path, &out, 0o600).unwrap();
    }
}

fn shelf(disk: &MemoryDisk) -> Result<Arc<Shelf>, LedgerError> {
    let quarantine = Arc::new(testing::quarantine(disk));
    let recovered = recover(Path::new("/ledger"), disk, &quarantine)?;
    Ok(Arc::new(Shelf::new(recovered.segments, recovered.files).beside(quarantine)))
}

pub(crate) fn grower(disk: &MemoryDisk) -> Result<Grower, LedgerError> {
    let (shelf, port): (_, Arc<dyn Disk>) = (shelf(disk)?, Arc::new(disk.clone()));
    let setup = TreeSetup {
        dir: Path::new("/ledger"),
        ledger: ORIGIN,
        disk: &port,
        clock: &(Arc::new(SystemClock) as _),
        signer: signer(),
        shelf: &shelf,
        fresh: broadcast::channel(1).1,
    };
    let mut grower = open(setup).map_err(LedgerError::Tree)?;
    grower.most = 150;
    Ok(grower)
}

/// Signs everything there is; the checkpoints on the way.
pub(crate) fn run(grower: &mut Grower) -> Vec<Checkpoint> {
    let mut seen: Vec<Checkpoint> = Vec::new();
    loop {
        let outcome = grower.turn(true);
        seen.extend(grower.tree.signed().map(|signed| signed.checkpoint.clone()));
        if !matches!(outcome, Ok(true)) {
            return seen;
        }
    }
}

pub(crate) fn leaves(disk: &MemoryDisk) -> Vec<Vec<u8>> {
    let shelf = shelf(disk).unwrap();
    let mut all = Vec::new();
    each_leaf(&shelf, disk, 0..u64::MAX, |_, leaf| {
        all.push(leaf.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

fn root(leaves: &[Vec<u8>]) -> TreeHash {
    let mut frontier = frontier::Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(TreeHash::of_leaf(leaf), |_, _| ()));
    frontier.root()
}

fn assert_true(checkpoint: &Checkpoint, leaves: &[Vec<u8>]) {
    assert_eq!(checkpoint.root, root(&leaves[..checkpoint.size as usize]), "size {}", checkpoint.size);
}

#[test]
fn vf2_vf3_every_record_is_signed_and_provable() {
    let disk = MemoryDisk::new();
    let ledger = opened(&disk, signing()).unwrap();
    let mut lane = ledger.lane(0);
    (0..600).for_each(|_| drop(lane.record(allow())));
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    eventually("a checkpoint covers the records", || tree.covered() >= 600);

    let first = tree.signed().unwrap();
    for record in testing::all(&ledger).iter().take(600) {
        let document = tree.prove(record.index, &record.leaf).unwrap().unwrap();
        let checkpoint = document.verify(&[key()]).unwrap();
        assert!(checkpoint.size >= 600);
        assert!(tree.prove(record.index, b"another leaf").is_err());
    }
    drop(ledger.append(Record::Administration(policies_engine::AdministrationRecord {
        operation: "test".to_owned(),
        principal: None,
        details: Vec::new(),
        time: base_ports::Clock::now(&SystemClock),
    })));
    ledger.close();
    let last = tree.signed().unwrap();
    assert!(last.checkpoint.size > first.checkpoint.size);
    let path = tree.consistency(first.checkpoint.size).unwrap().unwrap().path;
    let pair = |signed: &Signed| (signed.checkpoint.size, signed.checkpoint.root);
    assert!(extends(pair(&first), pair(&last), &path));
    assert_eq!(last.checkpoint.size as usize, leaves(&disk).len());
    assert_true(&last.checkpoint, &leaves(&disk));
    // A full tile has no partial ones beside it any more.
    assert!(disk.list(Path::new("/ledger/tile/0/000.p")).unwrap_or_default().is_empty());
    assert_eq!(disk.read(Path::new("/ledger/tile/0/000")).unwrap().len(), 32 * WIDTH);

    let again = opened(&disk, signing()).unwrap();
    let next = again.inner().tree.as_ref().unwrap().signed().unwrap();
    assert!(next.checkpoint.size >= last.checkpoint.size);
}

#[test]
fn re6_a_record_says_where_it_stands_and_whether_a_checkpoint_covers_it() {
    let disk = with_tree(50);
    let ledger = opened(&disk, signing()).unwrap();
    let log = ledger.log();
    eventually("a checkpoint covers everything", || log.covers(ledger.stats().next_index - 1));
    let shown = testing::all(&ledger)[7].to_json(&log);
    assert_eq!(shown["log"], serde_json::json!({ "origin": ORIGIN, "index": "7", "provable": true }));
    assert!(!log.covers(ledger.stats().next_index));
    assert!(!LogView::named(ORIGIN).covers(7));
}

#[test]
fn lg2_no_crash_leaves_a_checkpoint_over_what_is_not_there_or_two_of_one_size() {
    let (made, mut seen) = (without_tree(600), 0);
    let all = leaves(&made);
    for step in 0.. {
        let disk = made.copy();
        disk.die_after(step);
        let before = match grower(&disk) {
            Ok(mut grower) => run(&mut grower),
            Err(error) => {
                assert!(!matches!(&error, LedgerError::Tree(error) if error.is_loss()), "{step}: {error}");
                Vec::new()
            }
        };
        let is_done = disk.steps() <= step;
        seen += before.len();
        disk.lose_power(match step % 3 {
            0 => Survive::Nothing,
            1 => Survive::Everything,
            _ => Survive::Sectors(step),
        });
        let mut grower = grower(&disk).unwrap_or_else(|error| panic!("step {step}: {error}"));
        let kept = grower.tree.signed().map_or(0, |signed| signed.checkpoint.size);
        assert!(
            before.iter().all(|checkpoint| checkpoint.size <= kept),
            "step {step}: a published checkpoint is gone"
        );
        let after = run(&mut grower);
        before.iter().chain(&after).for_each(|checkpoint| assert_true(checkpoint, &all));
        assert_eq!(after.last().unwrap().size as usize, all.len());
        for at in [0, 1, 255, 256, all.len() - 1] {
            assert!(grower.tree.prove(at as u64, &all[at]).unwrap().unwrap().verify(&[key()]).is_ok());
        }
        if is_done {
            break;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn lg3_a_ledger_made_before_there_were_trees_gets_one() {
    let disk = without_tree(300);
    let ledger = opened(&disk, signing()).unwrap();
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    eventually("a checkpoint covers the old records", || tree.covered() >= 300);
    ledger.close();
    assert_true(&tree.signed().unwrap().checkpoint, &leaves(&disk));
}

/// A ledger of that many records with its whole tree.
pub(super) fn with_tree(records: u64) -> MemoryDisk {
    let disk = without_tree(records);
    run(&mut grower(&disk).unwrap());
    disk
}

#[test]
fn lg3_tiles_that_are_gone_or_damaged_are_computed_again() {
    let made = with_tree(600);
    let size = leaves(&made).len() as u64;
    let partial = size as usize % WIDTH;
    for path in [
        "tile/0/000".to_owned(),
        "tile/0/001".to_owned(),
        format!("tile/0/002.p/{partial}"),
        format!("tile/1/000.p/{}", size / 256),
    ] {
        for is_gone in [true, false] {
            let (disk, path) = (made.copy(), Path::new("/ledger").join(&path));
            if is_gone {
                disk.remove(&path).unwrap()
            } else {
                disk.flip(&path, 33, 2)
            }
            let grower = grower(&disk).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for (at, leaf) in leaves(&disk).iter().enumerate().step_by(50) {
                let document = grower.tree.prove(at as u64, leaf).unwrap().unwrap();
                assert!(document.verify(&[key()]).is_ok(), "{}: {at}", path.display());
            }
        }
    }
}

/// The write-ahead files, oldest first.
pub(crate) fn wal(disk: &MemoryDisk) -> Vec<std::path::PathBuf> {
    disk.list(Path::new("/ledger/wal")).unwrap()
}

#[test]
fn lg3_dl2_a_ledger_shorter_than_its_checkpoint_does_not_open_and_nothing_changes() {
    let disk = with_tree(600);
    let last = wal(&disk).pop().unwrap();
    let len = disk.len(&last).unwrap() as usize;
    let size = leaves(&disk).len() as u64;
    disk.cut(&last, len - 3);
    let before = disk.read(Path::new("/ledger/checkpoint")).unwrap();
    for _ in 0..3 {
        match opened(&disk, signing()).map(drop) {
            Err(LedgerError::Tree(TreeError::Shorter { next, size: signed })) => {
                assert_eq!((next, signed), (size - 1, size));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(disk.read(Path::new("/ledger/checkpoint")).unwrap(), before);
}

/// Replaces the leaf at an index by another whose frame is whole.
pub(super) fn forge(disk: &MemoryDisk, index: u64) {
    for path in wal(disk) {
        let first = crate::shelf::index_in(&path, crate::shelf::WAL).unwrap();
        let bytes = disk.read(&path).unwrap();
        let all: Vec<_> = Frames::of_file(&bytes).map(|leaf| leaf.unwrap().to_vec()).collect();
        if (first..first + all.len() as u64).contains(&index) {
            let mut out = MAGIC.to_vec();
            for (at, mut leaf) in (first..).zip(all) {
                if at == index {
                    let text = leaf.windows(6).position(|part| part == b"orders").unwrap();
                    leaf[text] = b'0';
                }
                frame::append(&mut out, |out| out.extend_from_slice(&leaf));
            }
            disk.write_atomic(&path, &out, 0o600).unwrap();
        }
    }
}

#[test]
fn lg3_dl2_a_forged_record_stops_the_ledger_and_is_named() {
    for index in [3, 300, 590] {
        let disk = with_tree(600);
        forge(&disk, index);
        match opened(&disk, signing()).map(drop) {
            Err(LedgerError::Tree(TreeError::Different { index: named })) => assert_eq!(named, index),
            other => panic!("{index}: {other:?}"),
        }
    }
}

#[test]
fn lg3_an_accepted_loss_begins_another_log_is_on_record_and_keeps_the_old_tree() {
    let disk = with_tree(600);
    let (port, clock): (Arc<dyn Disk>, Arc<dyn base_ports::Clock>) =
        (Arc::new(disk.clone()), Arc::new(SystemClock));
    let accept = |by: u32| {
        let by = policies_engine::Principal::local_user(by, None, &[policies_engine::Role::Operator]);
        wait(accept_loss(&signing(), &port, &clock, &base_ports::SystemRng, by)).unwrap()
    };
    assert_eq!(accept(0), Accepted::NothingLost);
    let old = disk.read(Path::new("/ledger/checkpoint")).unwrap();
    let last = wal(&disk).pop().unwrap();
    disk.cut(&last, disk.len(&last).unwrap() as usize / 2);
    let Accepted::Begun { new, .. } = accept(1_000) else { panic!("nothing was lost") };
    assert_eq!(new, format!("{ORIGIN}/2"));

    let ledger = opened(&disk, signing()).unwrap();
    assert_eq!(ledger.origin(), new);
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    eventually("the new log covers the records", || tree.covered() >= 300);
    let recorded = testing::all(&ledger).into_iter().any(|record| {
        matches!(&record.body, crate::Body::Administration { operation, details }
            if operation == "decisions.accept_loss"
                && details.contains(&("new_log".to_owned(), new.clone()))
                && record.principal.id.contains("1000"))
    });
    assert!(recorded);
    ledger.close();
    let key = VerifierKey::new(&new, signer().public_keys()[0]);
    assert!(Checkpoint::open(tree.signed().unwrap().note.as_bytes(), &[key]).is_ok());
    assert_eq!(disk.read(Path::new("/ledger/checkpoint")).unwrap(), old);
    assert!(disk.exists(Path::new("/ledger/tile/0/000")));
}

#[test]
fn lg3_dl2_a_checkpoint_that_is_gone_or_not_ours_stops_the_ledger() {
    let disk = with_tree(100);
    let path = Path::new("/ledger/checkpoint");
    let note = disk.read(path).unwrap();
    disk.remove(path).unwrap();
    let gone = opened(&disk, signing()).map(drop);
    assert!(matches!(gone, Err(LedgerError::Tree(TreeError::NoCheckpoint { .. }))), "{gone:?}");
    for bit in (0..note.len() * 8).step_by(3) {
        let mut note = note.clone();
        note[bit / 8] ^= 1 << (bit % 8);
        disk.write_atomic(path, &note, 0o600).unwrap();
        let other = grower(&disk).map(drop);
        assert!(matches!(other, Err(LedgerError::Tree(TreeError::Checkpoint { .. }))), "{bit}: {other:?}");
    }
}
