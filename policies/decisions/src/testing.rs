//! What the tests of this crate share: records, a ledger on a simulated disk, a disk that can be held.

pub(crate) mod vouch;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base_ports::{Clock, Disk, DiskFile, ManualClock, MemoryDisk, SystemClock, SystemRng, UnixTime};
use parking_lot::{Condvar, Mutex};
use policies_engine::{
    Action, Audit, ConnectionFacts, Credential, CredentialKind, Decision, DecisionId, DecisionRecord, Effect,
    Lane, Numbers, OwnedFacts, OwnedRequest, Principal, Protocol, Reason, Receipt, Resource, Trace, Versions,
};

use crate::{
    IdPattern, Ledger, LedgerConfig, LedgerError, Query, Redaction, StoredRecord, Stream, Visibility,
    leaf::encode::{self, Head},
    quarantine::Quarantine,
    source::each_leaf,
};

/// 2026-11-22T07:00:00.123456789Z, the time of the example in decisions.md.
pub(crate) const NOON: UnixTime = UnixTime::from_nanos(1_795_330_800_123_456_789);

pub(crate) fn config() -> LedgerConfig {
    let config = LedgerConfig::new("/ledger", "example.org", "spiffe://example.org/gateway", "gw-1");
    LedgerConfig { reserve: 0, ..config }
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<Ledger, LedgerError> {
    open_with(config(), Arc::new(disk.clone()), Arc::new(SystemClock))
}

pub(crate) fn open_with(
    config: LedgerConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<Ledger, LedgerError> {
    Ledger::open(config, disk, clock, &SystemRng)
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOON))
}

/// What was set aside on a disk, and where more can be.
pub(crate) fn quarantine(disk: &MemoryDisk) -> Quarantine {
    Quarantine::of(&config(), &(Arc::new(disk.clone()) as _), &(clock() as _))
}

/// The bytes of a small record, the same for the same number.
pub(crate) fn leaf(n: u64) -> Vec<u8> {
    let stream = Stream { enforcer: "e".into(), instance: "i".into(), boot: [1; 8], lane: 0, seq: n + 1 };
    let (mut out, redaction) = (Vec::new(), Redaction::default());
    let id = DecisionId::new(1, 1, n + 1);
    let head = Head { id, stream: &stream, seq: n + 1, lost: 0, redaction: &redaction };
    encode::decision(&mut out, head, &allow());
    out
}

/// A record that is synced when this returns.
pub(crate) fn durable(lane: &mut Box<dyn Lane>) {
    match lane.record(decision(Effect::Allow, Audit::Durable, NOON)).1 {
        Receipt::Pending(pending) => wait(pending).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A plain decision at that time.
pub(crate) fn decision(effect: Effect, audit: Audit, time: UnixTime) -> DecisionRecord {
    let reason = if effect == Effect::Allow { Reason::Permit } else { Reason::NoPermit };
    let mut record = DecisionRecord::new(
        Decision::refusal(reason),
        Principal::workload("spiffe://example.org/web"),
        Action::HttpGet,
        Resource::route("orders"),
        ManualClock::new(time).now(),
    );
    record.effect = effect;
    record.audit = audit;
    record
}

pub(crate) fn allow() -> DecisionRecord {
    decision(Effect::Allow, Audit::BestEffort, NOON)
}

pub(crate) fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(NOON.as_secs() + secs)
}

pub(crate) fn versions() -> Versions {
    Versions {
        numbers: Numbers { epoch: 1, snapshot: 1207, policies: 41 },
        manifest: [0x51; 32],
        schema: [0x77; 32],
        entities: [0x0b; 32],
        routes: [0xe3; 32],
        engine: "portcullis 0.1.0 cedar 4.14.1".into(),
        declared: Arc::default(),
        homes: Arc::default(),
        tickets: Arc::default(),
    }
}

/// The decision of the example in decisions.md 2.
pub(crate) fn example() -> DecisionRecord {
    let connection = ConnectionFacts {
        mtls: true,
        tls: 13,
        source_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        sni: Some("orders".into()),
        listener: "public".into(),
        protocol: Protocol::Grpc,
    };
    let request = OwnedRequest {
        method: "POST".to_owned(),
        host: "orders".to_owned(),
        path: "/shop.Orders/Refund".to_owned(),
        media_type: Some("application/grpc".to_owned()),
        ..OwnedRequest::default()
    };
    let facts = OwnedFacts::new(connection).with_request(request).with_rpc("shop.Orders", "Refund");
    let mut record = DecisionRecord::new(
        Decision::refusal(Reason::NoPermit),
        Principal::workload("spiffe://example.org/web"),
        Action::Grpc,
        Resource::method("shop.Orders/Refund").within("orders", Some("shop")),
        base_ports::Now { wall: NOON, mono: base_ports::Mono::from_nanos(88_123_456_789) },
    );
    record.credential = Some(Arc::new(Credential {
        kind: CredentialKind::X509,
        serial: Some("5b0c".to_owned()),
        fingerprint: Some([0xc1; 32]),
        issuer: Some("a9f0".to_owned()),
        not_after: Some(UnixTime::from_secs(1_795_333_270)),
    }));
    record.versions = Some(Arc::new(versions()));
    record.decide_ns = 61;
    record.facts = Some(facts.into());
    record.trace = Some(Trace { trace_id: [0x4b; 16], span_id: [0x7a; 8] });
    record
}

/// The same decision where the caller has a namespace, `front`, and the policy `carts-write` a ticket.
pub(crate) fn placed() -> DecisionRecord {
    let mut record = example();
    record.versions = Some(Arc::new(Versions {
        homes: Arc::new([("spiffe://example.org/web", "front")].into_iter().collect()),
        tickets: Arc::new([("carts-write".into(), "SEC-12".into())].into()),
        ..versions()
    }));
    record
}

/// Every record of a ledger, read from its files.
pub(crate) fn all(ledger: &Ledger) -> Vec<StoredRecord> {
    let inner = ledger.inner();
    let mut records = Vec::new();
    let range = inner.shelf.first_index()..u64::MAX;
    each_leaf(&inner.shelf, inner.disk.as_ref(), range, |index, leaf| {
        records.push(StoredRecord::decode(index, leaf.to_vec().into()).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    records
}

pub(crate) fn query(pairs: &[(&str, &str)], now: UnixTime) -> Query {
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Query::parse(&pairs, now).unwrap()
}

pub(crate) fn pattern(text: &str) -> IdPattern {
    text.parse().unwrap()
}

/// Waits for something that another thread does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("not within 10 s: {what}");
}

/// Runs a future to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A disk whose appends to write-ahead files can be held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    disk: MemoryDisk,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Held {
    pub(crate) fn hold(&self) {
        *self.gate.0.lock() = true;
    }

    pub(crate) fn release(&self) {
        *self.gate.0.lock() = false;
        self.gate.1.notify_all();
    }
}

#[derive(Debug)]
struct HeldFile {
    file: Box<dyn DiskFile>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Disk for Held {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(path, offset, len)
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HeldFile { file: self.disk.open_append(path)?, gate: Arc::clone(&self.gate) }))
    }
    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.disk.write_atomic(path, bytes, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.disk.len(path)
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free(dir)
    }
    fn allocate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.disk.allocate(path, len)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
}

impl DiskFile for HeldFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut is_held = self.gate.0.lock();
        while *is_held {
            self.gate.1.wait(&mut is_held);
        }
        drop(is_held);
        self.file.append(bytes)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// Whoever may read those namespaces; the empty one stands for the trust domain.
#[derive(Debug)]
pub(crate) struct Namespaces(pub(crate) &'static [&'static str]);

impl Visibility for Namespaces {
    fn may_read(&self, namespace: Option<&str>) -> bool {
        self.0.contains(&namespace.unwrap_or_default())
    }
}
