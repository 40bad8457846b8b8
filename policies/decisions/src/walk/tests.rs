//! A walk gives every decision of a range once, in order, and tells what it could not read.

use base_ports::{Disk, MemoryDisk};
use policies_engine::{Audit, Effect, Record};

use super::*;
use crate::testing::{at, decision, open, query, wait};

fn filled(disk: &MemoryDisk, count: i64) -> Ledger {
    let ledger = open(disk).unwrap();
    for second in 0..count {
        let effect = if second % 3 == 0 { Effect::Deny } else { Effect::Allow };
        let (_, stored) =
            ledger.append(Record::Decision(Box::new(decision(effect, Audit::Durable, at(second))))).unwrap();
        wait(stored).unwrap();
    }
    ledger
}

fn times(ledger: &Ledger, query: &Query) -> (Vec<i64>, Walked) {
    let mut times = Vec::new();
    let walked = ledger.walk(query, |decided| {
        times.push(decided.time.as_secs() - at(0).as_secs());
        ControlFlow::Continue(())
    });
    (times, walked.unwrap())
}

#[test]
fn a_walk_gives_what_range_and_filters_ask_for() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, 12);
    let since = at(2).to_string();
    let until = at(8).to_string();
    let (all, walked) = times(&ledger, &query(&[("since", &since), ("until", &until)], at(20)));
    assert_eq!(all, [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((walked.decisions, walked.latest, walked.is_stopped), (7, Some(at(8)), false));
    assert_eq!(walked.damaged, []);
    let (denied, _) = times(&ledger, &query(&[("since", &since), ("effect", "deny")], at(20)));
    assert_eq!(denied, [3, 6, 9]);
    let (none, _) = times(&ledger, &query(&[("since", &since), ("principal", "nobody")], at(20)));
    assert_eq!(none, [0; 0]);
    ledger.close();
}

#[test]
fn a_walker_may_stop() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, 9);
    let mut left = 4;
    let walked = ledger.walk(&query(&[("since", "1d")], at(20)), |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let walked = walked.unwrap();
    assert_eq!((walked.decisions, walked.latest, walked.is_stopped), (3, Some(at(2)), true));
    ledger.close();
}

#[test]
fn a_walk_tells_what_it_could_not_read() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, 6);
    let file = ledger.inner().shelf.files().first().unwrap().path.clone();
    let mut bytes = disk.read(Path::new(&file)).unwrap();
    let end = bytes.len() - 20;
    bytes[end] ^= 1;
    disk.write_atomic(&file, &bytes, 0o600).unwrap();
    let (times, walked) = times(&ledger, &query(&[("since", "1d")], at(20)));
    assert!(times.len() < 6 && !walked.damaged.is_empty(), "{times:?} {walked:?}");
    ledger.close();
}
