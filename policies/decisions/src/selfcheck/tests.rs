//! DL2: what changes in a closed segment is found by the ledger itself.

use std::path::Path;

use base_ports::MemoryDisk;

use super::*;
use crate::{
    LedgerConfig, SegmentLimits,
    proof::growing::{opened, signing},
    testing::{allow, eventually},
};

#[test]
fn dl2_a_closed_segment_that_is_not_what_it_was_is_an_alarm_until_it_is_again() {
    let disk = MemoryDisk::new();
    let segment = SegmentLimits { size: 1, ..SegmentLimits::default() };
    let ledger = opened(&disk, LedgerConfig { segment, ..signing() }).unwrap();
    let mut lane = ledger.lane(0);
    (0..700).for_each(|_| drop(lane.record(allow())));
    let inner = ledger.inner();
    let closed = || {
        let segments = inner.shelf.segments();
        segments.iter().filter(|segment| matches!(segment.body, Body::Closed(_))).count()
    };
    eventually("two segments are closed", || closed() >= 2 && inner.tree.as_ref().unwrap().covered() >= 512);
    let mut check = SelfCheck {
        desk: Arc::default(),
        shelf: Arc::clone(&inner.shelf),
        disk: Arc::clone(&inner.disk),
        clock: Arc::clone(&inner.clock),
        tree: inner.tree.clone(),
        last: Mono::from_nanos(0),
        next: 0,
    };
    let round = |check: &mut SelfCheck| (0..closed()).for_each(|_| check.look());
    round(&mut check);
    assert_eq!((check.desk.failure(), check.desk.checked()), (None, closed() as u64));

    let file = disk.list(Path::new("/ledger/seg")).unwrap().remove(0);
    let len = disk.len(&file).unwrap() as usize;
    for at in [80, len / 2, len - 40] {
        disk.flip(&file, at, 3);
        round(&mut check);
        let found = check.desk.failure();
        assert!(
            found.as_ref().is_some_and(|found| found.contains("00000000000000000000")),
            "{at}: {found:?}"
        );
        disk.flip(&file, at, 3);
        round(&mut check);
        assert_eq!(check.desk.failure(), None, "it is good again");
    }
    // A record that is whole and not the one that was signed.
    let tile = Path::new("/ledger/tile/0/000");
    disk.flip(tile, 5, 1);
    round(&mut check);
    let found = check.desk.failure().unwrap();
    assert!(found.contains("index 0: the record is not the one that was signed"), "{found}");
    ledger.close();
}
