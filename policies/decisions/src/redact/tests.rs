//! No id of a person and nothing that the site leaves out reaches a file, and both are still found and told.

use std::{path::Path, sync::Arc};

use base_ports::{Disk, MemoryDisk, SystemClock};
use policies_engine::{AdministrationRecord, Principal, ReadRecord, Record};

use super::*;
use crate::{
    Ledger, LedgerConfig, Query,
    testing::{NOON, all, config, example, open_with, query, wait},
};

const ALICE: &str = "corp/alice.liddell";

fn ledger(disk: &MemoryDisk, dropped: &[&str]) -> Ledger {
    let dropped = DropList::read(dropped.iter().copied()).unwrap();
    let config = LedgerConfig { redaction: Arc::new(Redaction::new(&[7; 32], dropped)), ..config() };
    open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap()
}

fn alice() -> Principal {
    Principal::from_parts("User", ALICE).unwrap()
}

/// Puts a call of a person, her administrative write and a read about her on record.
fn busy(ledger: &Ledger) {
    let mut record = example();
    record.principal = alice();
    let time = record.time;
    let asked = format!("principal={}", ledger.told("principal", ALICE));
    let administration = AdministrationRecord {
        operation: "hold".to_owned(),
        principal: Some(alice()),
        details: Vec::new(),
        time,
    };
    for record in [
        Record::Decision(Box::new(record)),
        Record::Administration(administration),
        Record::Read(ReadRecord::new(alice(), "list", asked, time)),
    ] {
        wait(ledger.append(record).unwrap().1).unwrap();
    }
}

/// Whether that text stands in any file of the ledger.
fn stands(disk: &MemoryDisk, text: &str) -> bool {
    let read = |dir: &str| disk.list(Path::new(dir)).unwrap_or_default();
    let files = read("/ledger").into_iter().chain(read("/ledger/wal")).chain(read("/ledger/seg"));
    files
        .filter_map(|file| disk.read(&file).ok())
        .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

fn rows(ledger: &Ledger, principal: &str) -> usize {
    let asked: Query = query(&[("principal", principal), ("kind", "decision"), ("since", "2000d")], NOON);
    ledger.query(&asked).unwrap().rows.len()
}

#[test]
fn cm2_ids_of_people_are_hashed_and_found_by_the_clear_id() {
    let disk = MemoryDisk::new();
    let ledger = ledger(&disk, &[]);
    busy(&ledger);
    let stored: Vec<_> = all(&ledger).into_iter().filter(|record| record.principal.kind == "User").collect();
    let hash = stored[0].principal.id.clone();
    assert_eq!(stored.len(), 3);
    assert!(hash.starts_with("hashed:") && hash.len() == 39, "{hash}");
    assert!(stored.iter().all(|record| record.principal.id == hash));
    assert_eq!(stored[0].incomplete().collect::<Vec<_>>(), ["principal.id"]);
    assert_eq!((rows(&ledger, ALICE), rows(&ledger, &hash), rows(&ledger, "corp/bob")), (1, 1, 0));
    assert_eq!(rows(&ledger, "spiffe://example.org/gateway"), 0);
    ledger.close();
    assert!(!stands(&disk, "liddell"));
    assert!(stands(&disk, "hashed:"));
}

#[test]
fn cm2_other_callers_and_empty_ids_stand_as_they_are() {
    let redaction = Redaction::new(&[7; 32], DropList::default());
    for (kind, id) in [
        ("Workload", "spiffe://example.org/web"),
        ("Portcullis::LocalUser", "1000"),
        ("Anonymous", "anonymous"),
        ("User", ""),
    ] {
        assert_eq!(redaction.id_of(&Principal::from_parts(kind, id).unwrap()), id);
    }
    let other = Redaction::new(&[8; 32], DropList::default());
    assert_ne!(redaction.id_of(&alice()), other.id_of(&alice()));
}

#[test]
fn cm2_a_question_for_a_person_does_not_name_her_on_record() {
    let redaction = Redaction::new(&[7; 32], DropList::default());
    let hash = redaction.hashed(ALICE).unwrap();
    for (name, value, told) in [
        ("principal", ALICE, hash.as_str()),
        ("principal", "spiffe://example.org/web", "spiffe://example.org/web"),
        ("principal", "prefix:spiffe://example.org/", "prefix:spiffe://example.org/"),
        ("principal", hash.as_str(), hash.as_str()),
        ("service", ALICE, ALICE),
        ("princpal", ALICE, "?"),
    ] {
        assert_eq!(redaction.told(name, value), told, "{name}={value}");
    }
    assert!(!redaction.told("principal", &format!("prefix:{ALICE}")).contains("alice"));
}

#[test]
fn cm2_names_that_are_no_field_are_refused_with_the_nearest() {
    for (name, suggestion) in [
        ("request.querry", Some("request.query")),
        ("request.header.x-token", Some("request.headers.x-token")),
        ("connection.source-ip", Some("connection.source_ip")),
        ("principal", None),
        ("resource", None),
        ("request.query.", Some("request.query")),
        ("", None),
    ] {
        let error = DropList::read([name]).unwrap_err();
        assert_eq!(error.suggestion.as_deref(), suggestion, "{name}");
        assert!(error.to_string().contains(name));
    }
    let list = DropList::read(["request.headers.X-Token", "trace"]).unwrap();
    assert!(list.has(Field::In("request.headers", "x-token")) && list.has(Field::Of("trace")));
    assert!(!list.has(Field::Of("request.headers")) && !list.has(Field::In("request.headers", "x")));
    assert!(DropList::fields().all(|field| DropList::read([field]).is_ok()));
}
