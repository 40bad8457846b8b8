//! Leaves by index, wherever they stand: how those who follow the ledger (the tree, the segments) read it.
//!
//! Followers read no further than [`Shelf::synced`], so that nothing they publish can be lost with the power (LG2).

use std::ops::{ControlFlow, Range};

use base_ports::Disk;

use crate::{
    error::LedgerError,
    scan::{leaves, read},
    shelf::Shelf,
};

/// Gives the leaves of a range of indexes in order and returns the index after the last one given. It ends early where a
/// file is damaged or where `each` breaks. One file is in memory at a time.
pub(crate) fn each_leaf(
    shelf: &Shelf,
    disk_port: &dyn Disk,
    range: Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<u64, LedgerError> {
    let mut next = range.start;
    for file in shelf.files() {
        if file.end() <= next || file.first >= range.end {
            continue;
        }
        if file.first > next {
            break;
        }
        let Some(bytes) = read(&file, shelf, disk_port)? else { break };
        for (index, leaf) in (file.first..range.end).zip(leaves(&bytes)) {
            if index < next {
                continue;
            }
            if each(index, leaf).is_break() {
                return Ok(next);
            }
            next = index + 1;
        }
        if next < file.end().min(range.end) {
            break;
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, time::Duration};

    use base_ports::MemoryDisk;

    use super::*;
    use crate::testing::{allow, config, open_with};

    #[test]
    fn followers_see_synced_leaves_once_and_in_order() {
        let disk = MemoryDisk::default();
        let ledger = open_with(
            crate::LedgerConfig { file_size: 2_000, ..config() },
            std::sync::Arc::new(disk.clone()),
            std::sync::Arc::new(base_ports::SystemClock),
        )
        .unwrap();
        let mut lane = ledger.lane(0);
        for _ in 0..100 {
            lane.record(allow());
        }
        let shelf = &ledger.inner().shelf;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while shelf.synced() < 100 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(shelf.synced() >= 100);
        assert!(shelf.files().len() > 3);

        let mut seen = Vec::new();
        let end = each_leaf(shelf, &disk, 7..93, |index, leaf| {
            assert!(!leaf.is_empty());
            seen.push(index);
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap(), 93);
        assert_eq!(seen, (7..93).collect::<Vec<_>>());

        let stopped = each_leaf(shelf, &disk, 7..93, |index, _| {
            if index == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped.unwrap(), 20);
    }
}
