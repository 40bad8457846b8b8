//! The outside of an authority for its tests: memory, a clock that is set by hand, a gate with a switch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base_ports::{Disk, ManualClock, MemoryDisk, Rng, SystemRng, UnixTime};
use base_store::{Committed, Entry, Memory, Revision, Store, StoreError, Transaction, Watch};
use ca_identity::{
    BundleMap, IdentitySnapshot, PrivateKey, Refusal, Selector, SpiffeId, TrustDomain, Usage, csr,
    verify_svid,
};
use parking_lot::Mutex;

use crate::ports::{Events, GateAnswer, IdentityEvent, IssuanceGate, IssueRequest, Ports};
use crate::{Authority, AuthorityError, Config, EntryRecord, Issued, NewEntry};
use crate::{Endpoint, FetchBundle, FetchError, Fetching};

pub(crate) const DOMAIN: &str = "example.org";

/// One data directory and everything around it; `open` may be called again and again.
pub(crate) struct Bench {
    pub(crate) store: Arc<SwitchStore>,
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) gate: Arc<SwitchGate>,
    pub(crate) events: Arc<Recorder>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) config: Config,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        Self {
            store: Arc::new(SwitchStore { inner: Memory::new(), fails: AtomicBool::new(false) }),
            disk: MemoryDisk::new(),
            clock: Arc::new(ManualClock::new(ca_identity::testing::now())),
            rng: Arc::new(SystemRng),
            gate: Arc::default(),
            events: Arc::default(),
            endpoints: Arc::default(),
            config: Config::new(domain, "/data".as_ref()),
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        Ports {
            store: Arc::<SwitchStore>::clone(&self.store),
            disk: Arc::new(self.disk.clone()),
            clock: Arc::<ManualClock>::clone(&self.clock),
            rng: Arc::clone(&self.rng),
            gate: Arc::<SwitchGate>::clone(&self.gate),
            events: Arc::<Recorder>::clone(&self.events),
            fetch: Arc::<Endpoints>::clone(&self.endpoints),
        }
    }

    pub(crate) async fn open(&self) -> Arc<Authority> {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<Authority>, AuthorityError> {
        Authority::open(self.config.clone(), self.ports()).await
    }

    pub(crate) fn now(&self) -> UnixTime {
        base_ports::Clock::now(self.clock.as_ref()).wall
    }

    pub(crate) fn key_files(&self) -> Vec<std::path::PathBuf> {
        let listed = self.disk.list(&self.config.keys_dir).unwrap();
        listed.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "key")).collect()
    }
}

/// A store that can be told to fail its commits.
#[derive(Debug)]
pub(crate) struct SwitchStore {
    inner: Arc<Memory>,
    fails: AtomicBool,
}

impl SwitchStore {
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Every row.
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.inner.range(b"", None, usize::MAX).unwrap()
    }
}

impl Store for SwitchStore {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.inner.range(prefix, after, limit)
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        if self.fails.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(StoreError::Stopped)));
        }
        // Everybody else goes first, so that whoever has read the same is ready to commit too.
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            tokio::task::yield_now().await;
            inner.commit(transaction).await
        })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        self.inner.watch(prefix, from)
    }
}

/// A gate that allows until it is told not to, and numbers its answers.
#[derive(Debug, Default)]
pub(crate) struct SwitchGate {
    closed: AtomicBool,
    asked: AtomicUsize,
}

impl SwitchGate {
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl IssuanceGate for SwitchGate {
    fn decide(&self, _: &IssueRequest<'_>) -> GateAnswer {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        GateAnswer { allow: !self.closed.load(Ordering::SeqCst), decision_id: format!("decision-{n}") }
    }
}

/// Keeps every event.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<IdentityEvent>>);

impl Recorder {
    pub(crate) fn count(&self, is: impl Fn(&IdentityEvent) -> bool) -> usize {
        self.0.lock().iter().filter(|event| is(event)).count()
    }

    pub(crate) fn issued(&self) -> Vec<crate::IssuanceRecord> {
        let events = self.0.lock();
        let issued = events.iter().filter_map(|event| match event {
            IdentityEvent::Issued(record) => Some(record.clone()),
            _ => None,
        });
        issued.collect()
    }
}

impl Events for Recorder {
    fn event(&self, event: IdentityEvent) {
        self.0.lock().push(event);
    }
}

/// Bundle endpoints of others: what each URL answers, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) answers: Mutex<HashMap<String, Result<Vec<u8>, FetchError>>>,
    pub(crate) asked: Mutex<Vec<Endpoint>>,
}

impl Endpoints {
    pub(crate) fn answer(&self, url: &str, answer: Result<&str, FetchError>) {
        self.answers.lock().insert(url.to_owned(), answer.map(|text| text.as_bytes().to_vec()));
    }
}

impl FetchBundle for Endpoints {
    fn fetch(&self, endpoint: Endpoint) -> Fetching {
        let answer = self.answers.lock().get(&endpoint.url).cloned();
        self.asked.lock().push(endpoint);
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

/// What everybody says of a certificate who has the bundle and the deny set of this moment.
pub(crate) fn judge(authority: &Authority, issued: &Issued, bench: &Bench) -> Result<(), Refusal> {
    let trust = IdentitySnapshot {
        bundles: BundleMap::of(authority.bundle()),
        revoked: authority.watch_revoked().borrow().clone(),
        ..IdentitySnapshot::default()
    };
    verify_svid(&issued.chain, &trust, Usage::Client, bench.now()).map(drop)
}

/// A generator that always says the same.
#[derive(Debug)]
pub(crate) struct StuckRng;

impl Rng for StuckRng {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0x5a);
    }
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&TrustDomain::parse(DOMAIN).unwrap(), path).unwrap()
}

pub(crate) fn entry(path: &str) -> NewEntry {
    NewEntry::new(id(path), vec![Selector::parse("unix:uid:1000").unwrap()])
}

pub(crate) fn request() -> (PrivateKey, Vec<u8>) {
    let key = PrivateKey::generate_p256().unwrap();
    let csr = csr::build(&key, &[]).unwrap();
    (key, csr)
}

pub(crate) async fn web(authority: &Authority) -> Arc<EntryRecord> {
    authority.create_entry(entry("/web")).await.unwrap()
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
