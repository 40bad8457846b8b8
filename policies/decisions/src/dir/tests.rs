//! A ledger that is only read gives what the open one gives, and is the same afterwards.

use base_ports::MemoryDisk;
use policies_engine::{Audit, Effect, Record};

use super::*;
use crate::testing::{at, decision, open, query, wait};

/// A ledger of so many decisions, one a second.
fn filled(disk: &MemoryDisk, count: i64) -> crate::Ledger {
    let ledger = open(disk).unwrap();
    for second in 0..count {
        let record = Record::Decision(Box::new(decision(Effect::Allow, Audit::Durable, at(second))));
        wait(ledger.append(record).unwrap().1).unwrap();
    }
    ledger
}

fn home(ledger: &crate::Ledger) -> PathBuf {
    let file = ledger.inner().shelf.files().first().unwrap().path.clone();
    file.ancestors().nth(2).unwrap().to_owned()
}

fn times(ledger: &LedgerDir, query: &Query) -> (Vec<i64>, Walked) {
    let mut times = Vec::new();
    let walked = ledger.walk(query, |decided| {
        times.push(decided.time.as_secs() - at(0).as_secs());
        ControlFlow::Continue(())
    });
    (times, walked.unwrap())
}

fn read(disk: &MemoryDisk, home: &Path) -> LedgerDir {
    LedgerDir::open(home, Arc::new(disk.clone())).unwrap()
}

#[test]
fn im2_a_ledger_is_walked_while_it_is_open_and_after() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, 6);
    let home = home(&ledger);
    let asked = query(&[("since", &at(1).to_string()), ("until", &at(4).to_string())], at(20));
    let whole = ledger.walk(&asked, |_| ControlFlow::Continue(())).unwrap();
    let (seen, walked) = times(&read(&disk, &home), &asked);
    assert_eq!((seen.as_slice(), &walked), (&[1, 2, 3, 4][..], &whole));
    ledger.close();
    assert_eq!(times(&read(&disk, &home), &asked), (seen, walked));
    // The next start finds it as it was left.
    let again = filled(&disk, 0);
    assert_eq!(times(&read(&disk, &home), &asked).1, whole);
    again.close();
}

#[test]
fn a_frame_that_is_being_written_is_no_damage_and_a_bad_one_before_others_is() {
    let disk = MemoryDisk::new();
    let ledger = filled(&disk, 6);
    let (home, file) = (home(&ledger), ledger.inner().shelf.files().first().unwrap().path.clone());
    let whole = disk.read(&file).unwrap();
    let all = query(&[("since", "1d")], at(20));

    disk.write_atomic(&file, &whole[..whole.len() - 5], 0o600).unwrap();
    let (seen, walked) = times(&read(&disk, &home), &all);
    assert_eq!((seen.len(), walked.damaged.len()), (5, 0));
    assert_eq!(disk.read(&file).unwrap().len(), whole.len() - 5, "the tail was cut off");

    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    disk.write_atomic(&file, &bad, 0o600).unwrap();
    let (seen, walked) = times(&read(&disk, &home), &all);
    assert!(seen.len() < 6 && walked.damaged.len() == 1, "{seen:?} {walked:?}");

    disk.write_atomic(&file, b"PCWAL999", 0o600).unwrap();
    let refused = read(&disk, &home).walk(&all, |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(LedgerError::Newer { .. })), "{refused:?}");
    disk.write_atomic(&file, b"something else", 0o600).unwrap();
    let refused = read(&disk, &home).walk(&all, |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(LedgerError::Foreign { .. })), "{refused:?}");
    ledger.close();
}
