//! The same records for others: into sled with two indexes here, and as a file that PostgreSQL copies in.

use std::{
    fmt::Write as _,
    fs,
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
    time::Instant,
};

use base_ports::SystemDisk;
use bytes::Bytes;
use policies_decisions::{DirMaterial, Material, StoredRecord};
use policies_engine::Effect;
use serde_json::{Value, json};

use crate::{COMMON, ms, size};

/// The first decisions of a ledger.
fn decisions(from: &Path, most: u64) -> Vec<StoredRecord> {
    let material = DirMaterial::open(from, Arc::new(SystemDisk)).unwrap();
    let mut records = Vec::new();
    let damage = material.leaves(&mut |found| {
        if (records.len() as u64) < most {
            let record = StoredRecord::decode(found.index, Bytes::copy_from_slice(found.leaf)).unwrap();
            records.extend(record.decision().is_some().then_some(record));
        }
    });
    assert!(damage.unwrap().is_none());
    records
}

/// Leaves by index, and two indexes: by id, and by caller and time; flushed every 50 ms and at the end.
pub(crate) fn sled(from: &Path, dir: &Path, most: u64) -> Value {
    let (records, at) = (decisions(from, most), dir.join("sled"));
    let database = sled::Config::new().path(&at).flush_every_ms(Some(50)).open().unwrap();
    let (ids, callers) = (database.open_tree("ids").unwrap(), database.open_tree("callers").unwrap());
    let begun = Instant::now();
    for record in &records {
        let index = record.index.to_be_bytes();
        database.insert(index, record.leaf.as_ref()).unwrap();
        ids.insert(record.id.as_bytes(), &index).unwrap();
        let caller = [record.principal.id.as_bytes(), &[0], &record.time.as_nanos().to_be_bytes(), &index];
        callers.insert(caller.concat(), &[]).unwrap();
    }
    database.flush().unwrap();
    let spent = begun.elapsed();
    let asked = Instant::now();
    let newest = callers.scan_prefix([COMMON.as_bytes(), &[0]].concat()).rev().take(100);
    let rows = newest
        .map(|caller| database.get(&caller.unwrap().0[COMMON.len() + 9..]).unwrap().unwrap())
        .filter(|leaf| !leaf.is_empty())
        .count();
    let asked = asked.elapsed();
    drop((ids, callers, database));
    let report = json!({
        "records": records.len(), "per_s": records.len() as f64 / spent.as_secs_f64(),
        "bytes": size(&at) as f64 / records.len() as f64, "rows": rows, "by_principal_ms": ms(asked),
    });
    fs::remove_dir_all(&at).unwrap();
    report
}

/// What PostgreSQL gets: `records.tsv` for COPY, with the leaf and what is asked by.
pub(crate) fn table(from: &Path, dir: &Path, most: u64) -> Value {
    let path = dir.join("records.tsv");
    let (records, mut out) = (decisions(from, most), BufWriter::new(fs::File::create(&path).unwrap()));
    let mut leaf = String::new();
    for record in &records {
        let decision = record.decision().unwrap();
        leaf.clear();
        record.leaf.iter().for_each(|byte| write!(leaf, "{byte:02x}").unwrap());
        let (id, time, who) = (record.id, record.time, &record.principal.id);
        let (what, is_denied) = (&decision.resource.id, decision.effect == Effect::Deny);
        let (action, reason) = (&decision.action, &decision.reason);
        writeln!(out, "{id}\t{time}\t{who}\t{action}\t{what}\t{is_denied}\t{reason}\t\\\\x{leaf}").unwrap();
    }
    out.flush().unwrap();
    json!({"records": records.len(), "file": path, "principal": COMMON})
}
