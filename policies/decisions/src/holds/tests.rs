//! Holds are on disk before they count, survive a restart, and damage of their file removes nothing.

use base_ports::{MemoryDisk, SystemClock};
use policies_engine::Principal;

use super::*;
use crate::testing::{all, at, config, open, open_with, wait};

const TIMES: (i64, i64) = (0, 60);

fn times() -> HoldRange {
    HoldRange::Times { since: at(TIMES.0), until: at(TIMES.1) }
}

fn jo() -> Principal {
    Principal::workload("spiffe://example.org/jo")
}

fn named(name: &str, range: HoldRange) -> NewHold {
    NewHold { name: name.to_owned(), reason: "inquiry".to_owned(), range, filter: Vec::new() }
}

fn filtered(pairs: &[(&str, &str)]) -> NewHold {
    let filter = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NewHold { filter, ..named("filtered", HoldRange::default()) }
}

#[test]
fn lg5_holds_are_named_kept_over_a_restart_and_on_record() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    let first = ledger.hold(named("case 7", HoldRange::Indexes { first: 5, last: 9 }), &jo()).unwrap();
    ledger.hold(named("inquiry", times()), &jo()).unwrap();
    let second = ledger.hold(filtered(&[("principal", "spiffe://example.org/web")]), &jo()).unwrap();
    assert!(matches!(ledger.hold(named("case 7", times()), &jo()), Err(HoldError::Exists(_))));
    ledger.close();
    let ledger = open_with(config(), Arc::new(disk.copy()), Arc::new(SystemClock)).unwrap();
    assert_eq!(ledger.holds().len(), 3);
    assert_eq!(ledger.holds()[0], first);
    let kim = Principal::workload("spiffe://example.org/kim");
    wait(ledger.release("inquiry", &kim)).unwrap();
    assert!(matches!(wait(ledger.release("inquiry", &kim)), Err(HoldError::Unknown(_))));
    assert_eq!(ledger.holds(), [first, second]);
    let records = all(&ledger);
    let of = |wanted: &str| {
        let mut found = records.iter().filter(|record| {
            matches!(&record.body, crate::Body::Administration { operation, .. } if operation == wanted)
        });
        (found.clone().count(), found.next_back().unwrap().principal.id.clone())
    };
    assert_eq!(of("hold"), (3, "spiffe://example.org/jo".to_owned()));
    assert_eq!(of("release"), (1, "spiffe://example.org/kim".to_owned()));
}

#[test]
fn what_is_no_hold_is_refused_with_the_reason() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let range = HoldRange::Indexes { first: 9, last: 5 };
    assert!(matches!(ledger.hold(named("backwards", range), &jo()), Err(HoldError::Range(_))));
    for name in ["", " ", "two\nlines", &"x".repeat(129)] {
        assert!(matches!(ledger.hold(named(name, times()), &jo()), Err(HoldError::Name(_))));
    }
    for reason in ["", "two\nlines", &"x".repeat(513)] {
        let new = NewHold { reason: reason.to_owned(), ..named("x", times()) };
        assert!(matches!(ledger.hold(new, &jo()), Err(HoldError::Reason)));
    }
    assert_eq!(ledger.holds(), []);
}

#[test]
fn lg5_a_filter_that_could_hold_nothing_is_refused() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    for (pair, hint) in [
        (("princpal", "spiffe://example.org/web"), "did you mean `principal`?"),
        (("path~", "/orders"), "is no filter of a hold"),
        (("principal", "1000"), "for local users hold the time"),
        (("principal", "prefix:ali"), "by the whole id"),
        (("effect", "den"), "did you mean `deny`?"),
    ] {
        let refused = ledger.hold(filtered(&[pair]), &jo()).unwrap_err();
        assert!(matches!(refused, HoldError::Filter(_)) && refused.to_string().contains(hint), "{refused}");
    }
    let both = NewHold { range: HoldRange::Indexes { first: 1, last: 2 }, ..filtered(&[("effect", "deny")]) };
    assert!(matches!(ledger.hold(both, &jo()), Err(HoldError::Filter(_))));
    assert_eq!(ledger.holds(), []);
}

#[test]
fn a_hold_that_is_not_on_disk_does_not_count() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).unwrap();
    disk.fail_sync(true);
    assert!(matches!(ledger.hold(named("case 7", times()), &jo()), Err(HoldError::Ledger(_))));
    assert_eq!(ledger.holds(), []);
    disk.fail_sync(false);
    ledger.hold(named("case 7", times()), &jo()).unwrap();
}

#[test]
fn lg5_a_hold_waits_for_files_that_are_being_removed() {
    let ledger = open(&MemoryDisk::new()).unwrap();
    let steady = ledger.inner().holds.steady();
    let setting = std::thread::spawn({
        let ledger = ledger.clone();
        move || ledger.hold(named("case 7", times()), &jo()).unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_eq!(ledger.holds(), []);
    drop(steady);
    let hold = setting.join().unwrap();
    assert_eq!(ledger.holds(), [hold]);
}

#[test]
fn a_damaged_holds_file_holds_everything_and_is_not_replaced() {
    let disk = MemoryDisk::new();
    let path = std::path::Path::new("/ledger/holds");
    for bytes in [&b"{\"version\":1,\"holds\":[{"[..], b"{\"version\":2,\"holds\":[]}", b""] {
        disk.write_atomic(path, bytes, 0o600).unwrap();
        let holds = Holds::load(path.to_owned(), Arc::new(disk.clone()));
        assert_eq!(holds.touching(0, 1, Span::EMPTY), None);
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
