//! Holds are on disk before they count, survive a restart, and damage of their file removes nothing.

use base_ports::{MemoryDisk, SystemClock};

use super::*;
use crate::testing::{all, at, config, eventually, open, open_with};

const TIMES: (i64, i64) = (0, 60);

fn times() -> HoldRange {
    HoldRange::Times { since: at(TIMES.0), until: at(TIMES.1) }
}

#[test]
fn lg5_holds_are_named_kept_over_a_restart_and_on_record() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let first =
        ledger.hold("case 7", HoldRange::Indexes { first: 5, last: 9 }, "spiffe://example.org/jo").unwrap();
    ledger.hold("inquiry", times(), "jo").unwrap();
    assert!(matches!(ledger.hold("case 7", times(), "jo"), Err(HoldError::Exists(_))));
    ledger.close();
    let ledger = open_with(config(), Arc::new(disk.copy()), Arc::new(SystemClock)).unwrap();
    assert_eq!(ledger.holds().len(), 2);
    assert_eq!(ledger.holds()[0], first);
    ledger.release("inquiry", "kim").unwrap();
    assert!(matches!(ledger.release("inquiry", "kim"), Err(HoldError::Unknown(_))));
    assert_eq!(ledger.holds(), [first]);
    eventually("on record", || {
        all(&ledger).iter().any(|record| {
            matches!(&record.body, crate::Body::Administration { operation, details }
                if operation == "release" && details.iter().any(|(name, value)| name == "by" && value == "kim"))
        })
    });
}

#[test]
fn what_is_no_hold_is_refused_with_the_reason() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let range = HoldRange::Indexes { first: 9, last: 5 };
    assert!(matches!(ledger.hold("backwards", range, "jo"), Err(HoldError::Range(_))));
    for name in ["", "two\nlines", &"x".repeat(129)] {
        assert!(matches!(ledger.hold(name, times(), "jo"), Err(HoldError::Name(_))));
    }
    assert_eq!(ledger.holds(), []);
}

#[test]
fn a_hold_that_is_not_on_disk_does_not_count() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    disk.fail_sync(true);
    assert!(matches!(ledger.hold("case 7", times(), "jo"), Err(HoldError::Ledger(_))));
    assert_eq!(ledger.holds(), []);
    disk.fail_sync(false);
    ledger.hold("case 7", times(), "jo").unwrap();
}

#[test]
fn a_damaged_holds_file_holds_everything_and_is_not_replaced() {
    let disk = MemoryDisk::new();
    let path = std::path::Path::new("/ledger/holds");
    for bytes in [&b"{\"version\":1,\"holds\":[{"[..], b"{\"version\":2,\"holds\":[]}", b""] {
        disk.write_atomic(path, bytes, 0o600).unwrap();
        let holds = Holds::load(path.to_owned(), Arc::new(disk.clone()));
        assert!(holds.holds(0, 1, Span::EMPTY));
        let refused = holds.change(|_| Ok(()));
        assert!(matches!(refused, Err(HoldError::Unreadable(_))), "{refused:?}");
        assert_eq!(disk.read(path).unwrap(), bytes);
    }
}

#[test]
fn a_hold_covers_what_touches_it() {
    let indexes = HoldRange::Indexes { first: 10, last: 20 };
    let touches = |first, end| indexes.touches(first, end, Span::ALL);
    assert_eq!(
        [touches(0, 10), touches(0, 11), touches(12, 13), touches(20, 30), touches(21, 30)],
        [false, true, true, true, false]
    );
    let span = |from: i64, to: i64| Span { from: at(from).as_nanos(), to: at(to).as_nanos() };
    let touches = |from, to| times().touches(0, 1, span(from, to));
    assert_eq!(
        [touches(-9, -1), touches(-9, 0), touches(60, 99), touches(61, 99)],
        [false, true, true, false]
    );
}
