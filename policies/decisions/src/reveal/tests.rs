//! Ledgers whose people are committed: found, told and erased, and as provable afterwards as before.

use std::path::Path;

use base_ports::{Disk, MemoryDisk, Survive, SystemRng};
use policies_engine::{
    Audit, ConnectionFacts, DecisionRecord, Effect, Facts, OwnedFacts, Protocol, Receipt, RequestView, Token,
};

use super::*;
use crate::{
    Auditor, Decided, DirMaterial, DropList, HoldRange, LedgerConfig, LedgerError, LogView, NewHold,
    OpeningError, People, Query, Seen, Sight,
    leaf::Shared,
    ledger::assert_complete,
    proof::growing::{key, opened, signing},
    testing::{NOON, Namespaces, all, config, decision, eventually, query, vouch::Auditing, wait},
    verify,
};

const ALICE: &str = "alice.liddell@corp.example";
const BOB: &str = "bob@corp.example";

fn committing(config: LedgerConfig) -> LedgerConfig {
    let redaction =
        Redaction::new(&[7; 32], DropList::default()).with(People::Committed, Arc::new(SystemRng));
    LedgerConfig { redaction: Arc::new(redaction), ..config }
}

fn of(who: &str, audit: Audit) -> DecisionRecord {
    let mut record = decision(Effect::Allow, audit, NOON);
    record.principal = Principal::from_parts("User", who).unwrap();
    record
}

/// Puts so many calls of each on record.
fn busy(ledger: &Ledger, calls: usize) {
    let mut lane = ledger.lane(0);
    for _ in 0..calls {
        for who in [ALICE, BOB] {
            match lane.record(of(who, Audit::Durable)).1 {
                Receipt::Pending(pending) => wait(pending).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A call with the token of a person.
#[derive(Debug)]
struct Spoken(OwnedFacts, Arc<Token>);

impl Facts for Spoken {
    fn connection(&self) -> &ConnectionFacts {
        self.0.connection()
    }

    fn request(&self) -> Option<RequestView<'_>> {
        self.0.request()
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.0.rpc()
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        self.0.header(name, each);
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.0.param(name)
    }

    fn token(&self) -> Option<&Arc<Token>> {
        Some(&self.1)
    }
}

/// A call that the token of this subject came with.
fn with_token(mut record: DecisionRecord, subject: &str) -> DecisionRecord {
    let facts = OwnedFacts::new(ConnectionFacts {
        mtls: true,
        tls: 13,
        source_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        sni: None,
        listener: "main".into(),
        protocol: Protocol::H1,
    });
    let at = NOON;
    let mut token = Token::new("corp", subject, at, at);
    token.email = Some("alice@mail.example".to_owned());
    record.facts = Some(Arc::new(Spoken(facts, Arc::new(token))));
    record
}

fn people(ledger: &Ledger) -> Vec<StoredRecord> {
    all(ledger).into_iter().filter(|record| record.principal.kind == "User").collect()
}

fn rows(ledger: &Ledger, principal: &str, reveals: Option<&'static [&'static str]>) -> usize {
    let asked: Query = query(&[("principal", principal), ("kind", "decision"), ("since", "2000d")], NOON);
    let asked = match reveals {
        Some(namespaces) => asked.revealing(Sight::new(Namespaces(namespaces))),
        None => asked,
    };
    ledger.query(&asked).unwrap().rows.len()
}

fn erase(ledger: &Ledger, who: &str) -> Result<u64, EraseError> {
    let by = Principal::local_user(1000, None, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ledger.erase(who, "request 12", &by))
}

#[test]
fn cm1_cm2_a_person_is_on_record_by_commitments_that_nobody_can_join() {
    let ledger = opened(&MemoryDisk::new(), committing(config())).unwrap();
    busy(&ledger, 2);
    let records = people(&ledger);
    assert_complete(&all(&ledger));
    let ids: Vec<_> = records.iter().map(|record| record.principal.id.clone()).collect();
    assert_eq!(ids.len(), 4);
    for (at, id) in ids.iter().enumerate() {
        assert!(id.starts_with("committed:") && id.len() == 74, "{id}");
        assert!(!ids[..at].contains(id), "two records have the same");
        assert_eq!(records[at].incomplete().collect::<Vec<_>>(), ["principal.id"]);
    }
    // Sums know that they were people, and not who.
    assert_eq!((rows(&ledger, "committed", None), rows(&ledger, &ids[0], None)), (4, 1));
}

#[test]
fn cm6_a_person_is_found_by_who_may_reveal() {
    for is_archived in [false, true] {
        let mut config = committing(config());
        config.segment.size = 1;
        let ledger = opened(&MemoryDisk::new(), config).unwrap();
        busy(&ledger, if is_archived { 200 } else { 3 });
        if is_archived {
            eventually("blocks are packed", || ledger.inner().shelf.archived() >= 256);
        }
        let calls = people(&ledger).len() / 2;
        assert_eq!(rows(&ledger, ALICE, Some(&[""])), calls.min(100));
        assert_eq!((rows(&ledger, ALICE, None), rows(&ledger, ALICE, Some(&["shop"]))), (0, 0));
        assert_eq!(rows(&ledger, "nobody@corp.example", Some(&[""])), 0);
        erase(&ledger, ALICE).unwrap();
        assert_eq!((rows(&ledger, ALICE, Some(&[""])), rows(&ledger, BOB, Some(&[""]))), (0, calls.min(100)));
    }
}

#[test]
fn cm5_after_an_erasure_every_record_is_proved_and_verified_as_before() {
    let disk = MemoryDisk::new();
    let ledger = opened(&disk, committing(signing())).unwrap();
    busy(&ledger, 20);
    let before = people(&ledger);
    let openings: Vec<_> = before
        .iter()
        .map(|record| match ledger.open_committed(record) {
            Opened::Clear(opening) => opening,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(erase(&ledger, ALICE).unwrap() > 0);
    let tree = Arc::clone(ledger.inner().tree.as_ref().unwrap());
    let last = all(&ledger).last().unwrap().index;
    eventually("a checkpoint covers the erasure", || tree.covered() > last);
    for (record, opening) in before.iter().zip(&openings) {
        let document = tree.prove(record.index, &record.leaf).unwrap().unwrap();
        document.verify(&[key()]).unwrap();
        let proved = StoredRecord::decode(document.index, document.leaf.into()).unwrap();
        // What an auditor was given before keeps its worth.
        opening.check(&proved).unwrap();
        let is_hers = opening.value == ALICE;
        assert_eq!(ledger.open_committed(&proved) == Opened::Erased, is_hers);
        let wrong = [
            Opening { value: "carol".to_owned(), ..opening.clone() },
            Opening { salt: [0; 32], ..opening.clone() },
            openings.iter().find(|other| other.salt != opening.salt).unwrap().clone(),
        ];
        for wrong in wrong {
            assert_eq!(wrong.check(&proved), Err(OpeningError::DoesNotFit("principal.id".to_owned())));
        }
        let elsewhere = Opening { field: "request.path".to_owned(), ..opening.clone() };
        assert!(matches!(elsewhere.check(&proved), Err(OpeningError::NotCommitted(_))));
    }
    let records = all(&ledger);
    let told =
        records.iter().find(|record| matches!(&record.body, crate::Body::Administration { .. })).unwrap();
    let crate::Body::Administration { operation, details } = &told.body else { panic!("{told:?}") };
    assert_eq!(operation, "erase");
    assert!(details.iter().any(|(name, value)| name == "subject" && value.starts_with("hashed:")));
    ledger.close();
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk.clone())).unwrap();
    let auditor =
        Auditor { keys: &[key()], since: None, identities: &Auditing, now: None, sample: (0, &SystemRng) };
    let verified = verify(&material, &auditor).unwrap();
    assert_eq!((verified.faults, verified.gaps.len()), (Vec::new(), 0));
    assert!(!disk_has(&disk, b"liddell"));
}

/// Whether these bytes stand in any file of the ledger.
fn disk_has(disk: &MemoryDisk, bytes: &[u8]) -> bool {
    let dirs = ["/ledger", "/ledger/wal", "/ledger/seg", "/ledger/side", "/ledger/rollup", "/ledger/tile"];
    let files = dirs.iter().flat_map(|dir| disk.list(Path::new(dir)).unwrap_or_default());
    files
        .filter_map(|path| disk.read(&path).ok())
        .any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

#[test]
fn lg5_who_is_held_is_not_erased() {
    let ledger = opened(&MemoryDisk::new(), committing(config())).unwrap();
    busy(&ledger, 1);
    let by = Principal::local_user(1000, None, &[]);
    let hold = |range, filter: Vec<(String, String)>| {
        let (name, reason) = ("case-7".to_owned(), "inquiry".to_owned());
        ledger.hold(NewHold { name, reason, range, filter }, &by)
    };
    // A hold cannot look for a person: it would hold nothing.
    let named = vec![("principal".to_owned(), ALICE.to_owned())];
    assert!(hold(HoldRange::default(), named).unwrap_err().to_string().contains("committed"));
    hold(HoldRange::default(), Vec::new()).unwrap();
    assert!(matches!(erase(&ledger, ALICE), Err(EraseError::Held(name)) if name == "case-7"));
    wait(ledger.release("case-7", &by)).unwrap();
    assert!(erase(&ledger, ALICE).unwrap() > 0);
}

#[test]
fn cm3_a_crash_leaves_no_record_that_should_open_and_does_not() {
    let mut whole = false;
    for step in 0..400 {
        let disk = MemoryDisk::new();
        disk.die_after(step);
        if let Ok(ledger) = opened(&disk, committing(config())) {
            let mut lane = ledger.lane(0);
            for (at, who) in [ALICE, BOB, ALICE, "carol", "dan", ALICE].into_iter().enumerate() {
                let audit = if at % 2 == 0 { Audit::Durable } else { Audit::Required };
                if let Receipt::Pending(pending) = lane.record(of(who, audit)).1 {
                    whole = wait(pending).is_ok() && at == 5;
                }
            }
            drop(lane);
            ledger.close();
        }
        // What was written and not synced is gone, or all there.
        disk.lose_power(if step % 2 == 0 { Survive::Nothing } else { Survive::Everything });
        let ledger = opened(&disk, committing(config())).unwrap();
        assert_complete(&all(&ledger));
        for record in people(&ledger) {
            let opened = ledger.open_committed(&record);
            assert!(matches!(opened, Opened::Clear(_)), "step {step}, record {}: {opened:?}", record.index);
        }
        ledger.close();
        if whole {
            return;
        }
    }
    panic!("no run came to its end");
}

#[test]
fn cm3_a_disk_that_takes_no_keys_takes_no_records_that_need_them() {
    let disk = MemoryDisk::new();
    let ledger = opened(&disk, committing(config())).unwrap();
    let mut lane = ledger.lane(0);
    disk.fail_sync(true);
    match lane.record(of(ALICE, Audit::Required)).1 {
        Receipt::Pending(pending) => assert!(wait(pending).is_err()),
        other => panic!("{other:?}"),
    }
    disk.fail_sync(false);
    busy(&ledger, 1);
    assert_complete(&all(&ledger));
    let people = people(&ledger);
    assert_eq!(people.len(), 2);
    assert!(people.iter().all(|record| matches!(ledger.open_committed(record), Opened::Clear(_))));
}

#[test]
fn cm2_a_ledger_of_hashed_people_goes_on_with_commitments() -> Result<(), LedgerError> {
    let disk = MemoryDisk::new();
    let redaction = Arc::new(Redaction::new(&[7; 32], DropList::default()));
    let hashing = LedgerConfig { redaction, ..signing() };
    let ledger = opened(&disk, hashing)?;
    busy(&ledger, 1);
    ledger.close();
    let ledger = opened(&disk, committing(signing()))?;
    busy(&ledger, 2);
    assert_eq!((rows(&ledger, ALICE, None), rows(&ledger, ALICE, Some(&[""]))), (1, 3));
    let first = people(&ledger).remove(0);
    assert_eq!(ledger.open_committed(&first), Opened::Nothing);
    assert_eq!(Sight::new(Namespaces(&[""])).of(&first), Seen::Whole);
    ledger.close();
    let material = DirMaterial::open(Path::new("/ledger"), Arc::new(disk)).unwrap();
    let auditor =
        Auditor { keys: &[key()], since: None, identities: &Auditing, now: None, sample: (0, &SystemRng) };
    assert_eq!(verify(&material, &auditor).unwrap().faults, []);
    Ok(())
}

#[test]
fn cm1_a_person_on_whose_behalf_a_workload_calls_is_on_record_by_a_commitment() {
    let disk = MemoryDisk::new();
    let ledger = opened(&disk, committing(config())).unwrap();
    let mut lane = ledger.lane(0);
    let workload = decision(Effect::Allow, Audit::Durable, NOON);
    let himself = of("corp/4711", Audit::Durable);
    for record in [workload.clone(), with_token(workload, "4711"), with_token(himself, "4711")] {
        match lane.record(record).1 {
            Receipt::Pending(pending) => wait(pending).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    let records: Vec<_> = all(&ledger).into_iter().filter(|record| record.decision().is_some()).collect();
    let shown: Vec<_> = records.iter().map(|record| record.to_json(&LogView::named("log"))).collect();
    assert_eq!(shown[0].get("jwt"), None);
    let person = shown[1]["jwt"]["id"].as_str().unwrap();
    assert!(person.starts_with("committed:"), "{person}");
    assert_eq!(shown[2]["jwt"], serde_json::json!({"issuer": "corp"}), "who calls himself is named once");
    for (record, field) in [(1, "jwt.id"), (2, "principal.id")] {
        let Opened::Clear(opening) = ledger.open_committed(&records[record]) else { panic!("{field}") };
        assert_eq!((opening.field.as_str(), opening.value.as_str()), (field, "corp/4711"));
        opening.check(&records[record]).unwrap();
        let elsewhere = Opening { field: "principal.id".to_owned(), ..opening.clone() };
        assert!(elsewhere.check(&records[1]).is_err());
    }
    assert_eq!(ledger.open_committed(&records[0]), Opened::Nothing);
    // What the policies read of the token is not on record, and whoever judges again is told.
    assert_eq!(records[1].incomplete().collect::<Vec<_>>(), ["jwt"]);
    let mut shared = Shared::default();
    let decided = Decided::of(&records[1].leaf, &mut shared).unwrap().unwrap();
    assert_eq!(decided.cut, ["jwt"]);
    for path in disk.list(Path::new("/ledger/wal")).unwrap() {
        let bytes = disk.read(&path).unwrap();
        for word in ["4711", "alice@mail"] {
            assert!(!bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{word} is in the log");
        }
    }
    assert!(erase(&ledger, "corp/4711").unwrap() > 0);
    assert_eq!(ledger.open_committed(&records[1]), Opened::Erased);
}
