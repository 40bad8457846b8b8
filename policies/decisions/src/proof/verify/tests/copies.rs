//! DL2: files that are whole and signed, and not where or when they belong.

use super::*;
use crate::{Ledger, LedgerConfig, SegmentLimits, shelf::index_in, testing::allow};

/// A ledger that puts `blocks` away, at least, in segments of one block each.
fn in_segments(disk: &MemoryDisk, limits: SegmentLimits, blocks: u64) -> Ledger {
    let config = LedgerConfig { segment: limits, file_size: 20_000, ..signing() };
    let ledger = opened(disk, config).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..blocks * 256 + 100 {
        lane.record(allow());
        if n % 50 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    eventually("the blocks are put away, and nowhere else", || {
        let files = ledger.inner().shelf.files();
        ledger.stats().archived_index >= blocks * 256 && files[0].first >= (blocks - 1) * 256
    });
    ledger
}

fn segments(disk: &MemoryDisk) -> Vec<std::path::PathBuf> {
    disk.list(Path::new("/ledger/seg")).unwrap()
}

#[test]
fn dl2_two_segments_that_changed_places_are_named() {
    let disk = MemoryDisk::new();
    in_segments(&disk, SegmentLimits { size: 1, ..SegmentLimits::default() }, 3).close();
    assert_eq!(verified(&disk, None).unwrap().faults, []);
    let files = segments(&disk);
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        let swapped = disk.copy();
        let contents = [disk.read(&files[one]).unwrap(), disk.read(&files[other]).unwrap()];
        swapped.write_atomic(&files[one], &contents[1], 0o600).unwrap();
        swapped.write_atomic(&files[other], &contents[0], 0o600).unwrap();
        let fault = fault(&swapped, None);
        assert_eq!(fault.index, index_in(&files[one], ".seg"), "{fault}");
        assert_eq!(fault.file.as_deref(), files[one].to_str(), "{fault}");
    }
    // One that stands twice.
    let twice = disk.copy();
    twice.write_atomic(&files[1], &disk.read(&files[0]).unwrap(), 0o600).unwrap();
    let fault = fault(&twice, None);
    assert_eq!((fault.index, fault.file.as_deref()), (Some(256), files[1].to_str()), "{fault}");
}

#[test]
fn dl2_an_older_copy_of_a_segment_is_named_where_its_records_end() {
    let disk = MemoryDisk::new();
    // One segment that grows.
    let ledger = in_segments(&disk, SegmentLimits::default(), 1);
    let file = segments(&disk).remove(0);
    let old = disk.read(&file).unwrap();
    let mut lane = ledger.lane(1);
    (0..700).for_each(|_| drop(lane.record(allow())));
    eventually("it has grown", || ledger.stats().archived_index >= 768);
    ledger.close();
    assert_eq!(verified(&disk, None).unwrap().faults, []);
    disk.write_atomic(&file, &old, 0o600).unwrap();
    let fault = fault(&disk, None);
    assert!(fault.index.is_some_and(|index| (256..768).contains(&index)), "{fault}");
}

#[test]
fn dl2_dl7_the_tiles_and_the_checkpoint_of_a_fork_are_not_those_of_these_records() {
    let disk = with_tree(500);
    let forked = rewritten(&disk, 40);
    // Everything that is signed comes from the fork, by the right key.
    let mixed = disk.copy();
    let mut signed = vec![Path::new("/ledger/checkpoint").to_owned()];
    for dir in ["tile/0", "tile/0/001.p", "tile/1/000.p"] {
        signed.extend(forked.list(&Path::new("/ledger").join(dir)).unwrap());
    }
    for path in &signed {
        mixed.write_atomic(path, &forked.read(path).unwrap(), 0o600).unwrap();
    }
    let named = fault(&mixed, None);
    assert_eq!(named.index, Some(40), "{named}");
    assert!(named.what.contains("its tile says"), "{named}");
    // Of the fork the checkpoint alone: the tiles are not those that it signs.
    let half = disk.copy();
    half.write_atomic(&signed[0], &forked.read(&signed[0]).unwrap(), 0o600).unwrap();
    assert!(!verified(&half, None).unwrap().is_intact());
}
