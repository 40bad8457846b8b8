//! SQ4, SQ5: what an enforcer signed can be neither invented, altered nor left out, whoever signs the tree.

use base_ports::{ManualClock, Now};

use super::*;
use crate::{
    Body, Heartbeat, Kind, Ledger, LedgerConfig, StoredRecord, Stream,
    leaf::{encode, encode::Head},
    testing::{
        all, allow, clock, open_with,
        vouch::{GATEWAY, Lender, signed},
    },
    writer::OWN_LANE,
};

fn of(n: &str) -> String {
    format!("{GATEWAY}#{n}")
}

fn vouched(disk: &MemoryDisk, lender: &Arc<Lender>, clock: &Arc<ManualClock>) -> Ledger {
    let config = LedgerConfig { voucher: Some(Arc::clone(lender) as _), ..crate::testing::config() };
    open_with(config, Arc::new(disk.clone()), Arc::clone(clock) as _).unwrap()
}

fn heartbeats(ledger: &Ledger) -> usize {
    all(ledger).iter().filter(|record| record.kind == Kind::HEARTBEAT).count()
}

/// Lets the enforcer say what it has to say.
fn beat(ledger: &Ledger, clock: &ManualClock) {
    let before = heartbeats(ledger);
    clock.advance(std::time::Duration::from_secs(10));
    eventually("the heartbeat is written", || heartbeats(ledger) > before);
}

/// A ledger of one boot with forty records, two signed heartbeats and a signed end, in files that a test can change.
fn told() -> MemoryDisk {
    let (disk, lender, clock) = (MemoryDisk::new(), Arc::new(Lender::default()), clock());
    lender.holds(Some(&of("1")));
    let ledger = vouched(&disk, &lender, &clock);
    let mut lane = ledger.lane(0);
    for written in [20, 40] {
        (0..20).for_each(|_| drop(lane.record(allow())));
        let is_decision = |record: &&StoredRecord| record.decision().is_some();
        eventually("they are written", || all(&ledger).iter().filter(is_decision).count() == written);
        beat(&ledger, &clock);
    }
    ledger.close();
    flatten(&disk);
    disk
}

fn again(record: &StoredRecord, seq: u64, body: &Body) -> Vec<u8> {
    let (mut out, stream) = (Vec::new(), &record.stream);
    let now = Now { wall: record.time, mono: base_ports::Mono::from_nanos(record.mono) };
    let redaction = &crate::Redaction::default();
    encode::own(&mut out, Head { id: record.id, stream, seq, lost: 0, redaction }, now, body);
    out
}

/// Changes the records, signs the tree anew and looks what an auditor finds.
fn changed(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Verified {
    let disk = told();
    let path = wal(&disk).remove(0);
    rewrite(&disk, &path, change);
    sign_again(&disk);
    verified(&disk, None).unwrap()
}

fn decoded(leaf: &[u8]) -> StoredRecord {
    StoredRecord::decode(0, leaf.to_vec().into()).unwrap()
}

fn position(leaves: &[Vec<u8>], kind: Kind, nth: usize) -> usize {
    let at = leaves.iter().enumerate().filter(|(_, leaf)| decoded(leaf).kind == kind);
    at.map(|(at, _)| at).nth(nth).unwrap()
}

/// Replaces a heartbeat.
fn alter(leaves: &mut [Vec<u8>], nth: usize, change: impl FnOnce(&StoredRecord, &mut Heartbeat)) {
    let at = position(leaves, Kind::HEARTBEAT, nth);
    let record = decoded(&leaves[at]);
    let Body::Heartbeat(mut heartbeat) = record.body.clone() else { panic!("no heartbeat") };
    change(&record, &mut heartbeat);
    leaves[at] = again(&record, record.stream.seq, &Body::Heartbeat(heartbeat));
}

#[track_caller]
fn assert_wrong(verified: &Verified, what: &str) {
    let first = verified.faults.first().expect("the change is found");
    assert!(first.what.contains(what), "{first}");
}

#[test]
fn sq5_heartbeats_follow_the_svid_as_it_comes_turns_goes_and_ends() {
    let (disk, lender, clock) = (MemoryDisk::new(), Arc::new(Lender::default()), clock());
    let config = LedgerConfig { voucher: Some(Arc::clone(&lender) as _), ..signing() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::clone(&clock) as _).unwrap();
    let mut lane = ledger.lane(0);
    for held in [None, Some("1"), Some("1"), Some("2"), None, Some("2")] {
        lender.holds(held.map(of).as_deref());
        drop(lane.record(allow()));
        beat(&ledger, &clock);
    }
    ledger.close();
    let records = all(&ledger);
    let chains = records.iter().filter_map(|record| match &record.body {
        Body::StreamOpen { chain, .. } => Some(chain.len()),
        _ => None,
    });
    assert_eq!(chains.collect::<Vec<_>>(), [0, 1, 1, 0, 1], "once for each change");
    let last = records.iter().rev().nth(1).unwrap();
    let Body::Heartbeat(heartbeat) = &last.body else { panic!("{last:?}") };
    assert!(
        heartbeat.is_last && heartbeat.lanes[&0] == 6 && heartbeat.lanes[&OWN_LANE] == last.stream.seq - 1
    );

    let found = verified(&disk, None).unwrap();
    assert_eq!(found.faults, []);
    let told = &found.heartbeats;
    assert_eq!((told.signed, told.unsigned, told.unchecked, told.svids), (5, 2, 0, 2));
    assert!(told.is_anchored && told.unvouched.is_empty() && told.running.is_empty());
    assert!(found.is_complete());
}

#[test]
fn sq5_an_enforcer_that_never_held_an_svid_is_named_and_is_no_fault() {
    let disk = with_tree(5);
    let found = verified(&disk, None).unwrap();
    assert!(found.is_intact() && !found.is_complete());
    assert_eq!((found.heartbeats.unsigned, found.heartbeats.unvouched.len()), (1, 1));
    assert_eq!(found.heartbeats.unvouched[0].enforcer, GATEWAY);
}

#[test]
fn sq5_dl6_dl7_a_heartbeat_that_its_enforcer_did_not_sign_is_named() {
    assert_eq!(changed(|_| ()).faults, [], "unchanged, it is good");
    let wrong = "the heartbeat is not its enforcer's: ";
    // Altered: fewer records than there were.
    let found = changed(|leaves| alter(leaves, 1, |_, told| told.lanes.extend([(0, 30)])));
    assert_wrong(&found, &format!("{wrong}the signature is wrong"));
    // The signature alone.
    let found = changed(|leaves| alter(leaves, 0, |_, told| told.signature = Some(vec![1; 32].into())));
    assert_wrong(&found, &format!("{wrong}the signature is wrong"));
    let found = changed(|leaves| alter(leaves, 0, |_, told| told.signature = None));
    assert_wrong(&found, &format!("{wrong}it carries no signature"));
    // Forged with another valid SVID, which is put in the tree as well.
    let found = changed(|leaves| {
        let at = position(leaves, Kind::STREAM_OPEN, 1);
        let (record, other) = (decoded(&leaves[at]), "spiffe://example.org/other#1");
        let opened = Body::StreamOpen { build: String::new(), chain: vec![other.into()] };
        leaves[at] = again(&record, record.stream.seq, &opened);
        alter(leaves, 0, |record, told| {
            let text = told.text(&record.stream, record.time, record.mono);
            told.signature = Some(signed(other, text.as_bytes()).into());
        });
    });
    assert_wrong(&found, &format!("{wrong}spiffe://example.org/other signed it"));
    // Nobody named that SVID.
    let found = changed(|leaves| {
        let at = position(leaves, Kind::STREAM_OPEN, 1);
        let record = decoded(&leaves[at]);
        let opened = Body::StreamOpen { build: String::new(), chain: Vec::new() };
        leaves[at] = again(&record, record.stream.seq, &opened);
    });
    assert_wrong(&found, &format!("{wrong}it is signed by an SVID that no record before it names"));
    // Told for another enforcer's boot.
    let found = changed(|leaves| {
        let at = position(leaves, Kind::HEARTBEAT, 0);
        let mut record = decoded(&leaves[at]);
        record.stream.enforcer = "spiffe://example.org/other".to_owned();
        leaves[at] = again(&record, record.stream.seq, &record.body);
    });
    assert_wrong(
        &found,
        "the boot is one of spiffe://example.org/gateway, not of spiffe://example.org/other",
    );
}

#[test]
fn sq4_dl7_a_heartbeat_that_is_missing_is_named_also_where_the_others_are_renumbered() {
    let found = changed(|leaves| drop(leaves.remove(position(leaves, Kind::HEARTBEAT, 0))));
    assert_wrong(&found, "neither records nor in a gap");
    let found = changed(|leaves| {
        leaves.remove(position(leaves, Kind::HEARTBEAT, 0));
        for leaf in leaves.iter_mut() {
            let record = decoded(leaf);
            let Stream { lane, seq, .. } = record.stream;
            if lane == OWN_LANE && seq > 3 {
                *leaf = again(&record, seq - 1, &record.body);
            }
        }
    });
    assert_wrong(&found, "the signature is wrong");
}

#[test]
fn sq4_dl7_nobody_but_the_enforcer_ends_a_stream() {
    // Everything behind the first heartbeat goes, and a close is made up.
    let found = changed(|leaves| {
        let close = decoded(&leaves[position(leaves, Kind::STREAM_CLOSE, 0)]);
        let at = position(leaves, Kind::HEARTBEAT, 0);
        let before = decoded(&leaves[at]);
        let Body::Heartbeat(heartbeat) = before.body else { panic!("no heartbeat") };
        let seq = before.stream.seq + 1;
        let lanes =
            heartbeat.lanes.into_iter().map(|(lane, last)| (lane, if lane == OWN_LANE { seq } else { last }));
        leaves.truncate(at + 1);
        leaves.push(again(&close, seq, &Body::StreamClose { lanes: lanes.collect() }));
    });
    assert_wrong(&found, "the stream is closed, and its last heartbeat does not say so");
}

#[test]
fn sq4_an_end_that_nobody_told_is_open_from_the_last_heartbeat_on() {
    let disk = told();
    let path = wal(&disk).remove(0);
    rewrite(&disk, &path, |leaves| leaves.truncate(position(leaves, Kind::HEARTBEAT, 1) + 1));
    sign_again(&disk);
    let found = verified(&disk, None).unwrap();
    assert_eq!((found.faults.len(), found.heartbeats.running.len()), (0, 1), "a log that is written to");
    let heard = found.heartbeats.running[0].1;
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk)).unwrap();
    let later = heard + std::time::Duration::from_secs(31);
    let auditor = Auditor {
        keys: &[key()],
        since: None,
        identities: &Auditing,
        now: Some(later),
        sample: (0, &SystemRng),
    };
    let found = verify(&material, &auditor).unwrap();
    assert_eq!(found.heartbeats.open_ended.iter().map(|(_, heard)| *heard).collect::<Vec<_>>(), [heard]);
    assert!(found.is_intact() && !found.is_complete());
}

#[test]
fn sq4_times_without_a_heartbeat_are_named() {
    let (disk, lender, clock) = (MemoryDisk::new(), Arc::new(Lender::default()), clock());
    let config = LedgerConfig { voucher: Some(Arc::clone(&lender) as _), ..signing() };
    let ledger = open_with(config, Arc::new(disk.clone()), Arc::clone(&clock) as _).unwrap();
    beat(&ledger, &clock);
    clock.advance(std::time::Duration::from_secs(25));
    beat(&ledger, &clock);
    ledger.close();
    let silences = verified(&disk, None).unwrap().heartbeats.silences;
    assert_eq!(silences.len(), 1, "{silences:?}");
    assert_eq!(silences[0].2.saturating_since(silences[0].1).as_secs(), 35);
}
