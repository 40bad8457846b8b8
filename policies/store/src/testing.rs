//! A site for tests: a directory of policies, a store underneath, and the entities of a small shop.

use crate::{
    Activation, Activations, NonePinned, Outcome, PolicyStore, Saves, ShadowEnded, Signer, StoreConfig,
    Unguarded,
};
use base_ports::{Clock, ManualClock, SeededRng, UnixTime};
use base_store::{Committed, Entry, Memory, Revision, Store, StoreError, Transaction, Watch};
use parking_lot::Mutex;
use policies_engine::{
    AccessRequest, Action, Decision, Effect, Engine, EntitySet, MethodEntity, Numbers, OwnedFacts, Principal,
    Resource, ServiceEntity, Snapshot, WorkloadEntity,
};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;

pub(crate) const READ: &str = "@id(\"orders-read\")\npermit (\n  principal == Workload::\"spiffe://example.org/web\",\n  action == Action::\"grpc\",\n  resource == Method::\"shop.Orders/Get\"\n);\n";
pub(crate) const STOP: &str =
    "@id(\"stop\")\n@owner(\"ops\")\nforbid (principal, action == Action::\"grpc\", resource);\n";
/// A line that names an attribute nobody has.
pub(crate) const TYPO: &str = "@id(\"orders-read\")\npermit (\n  principal is Workload,\n  action == Action::\"grpc\",\n  resource is Method\n) when {\n  context.conection.mtls\n};\n";

pub(crate) struct Site {
    home: TempDir,
    pub(crate) disk: Arc<Disk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) saves: Arc<dyn Saves>,
    pub(crate) activations: Arc<Noted>,
}

/// Activations, as they came.
#[derive(Debug, Default)]
pub(crate) struct Noted(Mutex<Vec<Activation>>, Mutex<Vec<ShadowEnded>>);

impl Noted {
    /// Shadows that ended by themselves since the last time.
    pub(crate) fn ended(&self) -> Vec<ShadowEnded> {
        std::mem::take(&mut *self.1.lock())
    }

    /// Outcome, version and by whom, of all since the last time.
    pub(crate) fn take(&self) -> Vec<(Outcome, u64, Option<String>)> {
        let all = std::mem::take(&mut *self.0.lock());
        let policies =
            |note: &Activation| note.versions.as_ref().map_or(0, |versions| versions.numbers.policies);
        all.into_iter().map(|note| (note.outcome, policies(&note), note.by)).collect()
    }
}

impl Activations for Noted {
    fn note(&self, activation: Activation) {
        self.0.lock().push(activation);
    }

    fn shadow_ended(&self, ended: &ShadowEnded) {
        self.1.lock().push(ended.clone());
    }
}

impl Site {
    pub(crate) fn new(files: &[(&str, &str)]) -> Site {
        let site = Site {
            home: tempfile::tempdir().unwrap(),
            disk: Arc::new(Disk::new()),
            clock: Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000))),
            signer: signer(),
            saves: Arc::new(Unguarded),
            activations: Arc::default(),
        };
        fs::create_dir(site.dir()).unwrap();
        site.chmod("", 0o755);
        files.iter().for_each(|(name, text)| site.write(name, text));
        site
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("policies")
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir().join(name), text).unwrap();
        self.chmod(name, 0o644);
    }

    /// Changes the mode of a file; of the directory when `name` is empty.
    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.dir().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn pipe(&self, name: &str) {
        let made = std::process::Command::new("mkfifo").arg(self.dir().join(name)).status().unwrap();
        assert!(made.success());
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.dir().join(name)).unwrap();
    }

    /// A process that starts on this site, for which policies come through changes alone.
    pub(crate) async fn start_without_dir(&self) -> Arc<PolicyStore> {
        let store = PolicyStore::open(StoreConfig { dir: None, ..self.config() }).await.unwrap();
        store.set_entities(shop(), [1; 32]).await;
        store
    }

    /// A process that starts on this site.
    pub(crate) async fn start(&self) -> Arc<PolicyStore> {
        let store = self.open().await;
        store.set_entities(shop(), [1; 32]).await;
        store
    }

    pub(crate) async fn open(&self) -> Arc<PolicyStore> {
        PolicyStore::open(self.config()).await.unwrap()
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            dir: Some(self.dir()),
            store: Arc::clone(&self.disk) as Arc<dyn Store>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            signer: Arc::clone(&self.signer),
            saves: Arc::clone(&self.saves),
            activations: Arc::clone(&self.activations) as Arc<dyn Activations>,
            pinned: Arc::new(NonePinned),
        }
    }
}

pub(crate) fn signer() -> Arc<Signer> {
    Arc::new(Signer::ephemeral("example.org", Arc::new(SeededRng::new(7))).unwrap())
}

pub(crate) fn shop() -> EntitySet {
    let method = |name: &str| MethodEntity {
        id: format!("shop.Orders/{name}"),
        service: "orders".to_owned(),
        ..MethodEntity::default()
    };
    EntitySet {
        trust_domain: Some("example.org".to_owned()),
        services: vec![ServiceEntity { name: "orders".to_owned(), ..ServiceEntity::default() }],
        methods: vec![method("Get"), method("Refund")],
        ..EntitySet::default()
    }
}

/// The shop, with `web` in a group.
pub(crate) fn shop_with_group(group: &str) -> EntitySet {
    let web = WorkloadEntity {
        id: "spiffe://example.org/web".to_owned(),
        groups: vec![group.to_owned()],
        ..WorkloadEntity::default()
    };
    EntitySet { workloads: vec![web], ..shop() }
}

/// What a snapshot says when `web` calls `Get`.
pub(crate) fn web_gets(snapshot: &Snapshot) -> Effect {
    decide(|request| snapshot.decide(request)).effect
}

/// What an engine says then, and what the version in shadow would say: effect and number.
pub(crate) fn web_would(snapshot: &Arc<Snapshot>) -> (Effect, Option<(Effect, Option<u64>)>) {
    let mut engine = Engine::new(Arc::clone(snapshot));
    let decision = decide(|request| engine.decide(request));
    (decision.effect, decision.would.map(|would| (would.effect, would.version)))
}

fn decide(ask: impl FnOnce(&AccessRequest<'_>) -> Decision) -> Decision {
    let resource = Resource::method("shop.Orders/Get");
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let request = AccessRequest {
        principal: &Principal::workload("spiffe://example.org/web"),
        action: Action::Grpc,
        resource: &resource,
        facts: &facts,
        now: UnixTime::from_secs(1_764_000_000),
        extra: None,
    };
    ask(&request)
}

pub(crate) fn in_force(store: &PolicyStore) -> Arc<Snapshot> {
    store.subscribe().borrow().clone().expect("a snapshot is in force")
}

pub(crate) fn numbers(store: &PolicyStore) -> (u64, u64) {
    let Numbers { snapshot, policies, .. } = store.status().numbers.expect("a snapshot is in force");
    assert_eq!(in_force(store).versions().numbers.snapshot, snapshot, "status tells what is in force");
    (snapshot, policies)
}

/// A store that can be made to refuse commits, and counts those it took.
#[derive(Debug)]
pub(crate) struct Disk {
    memory: Arc<Memory>,
    pub(crate) is_full: AtomicBool,
    /// Commits that are still taken.
    room: AtomicUsize,
    pub(crate) commits: AtomicUsize,
}

impl Disk {
    fn new() -> Disk {
        Disk {
            memory: Memory::new(),
            is_full: AtomicBool::new(false),
            room: AtomicUsize::new(usize::MAX),
            commits: AtomicUsize::new(0),
        }
    }

    /// Takes that many commits more, and no other.
    pub(crate) fn fail_after(&self, commits: usize) {
        self.room.store(commits, Ordering::Relaxed);
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.memory.get(key)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.memory.range(prefix, after, limit)
    }

    fn revision(&self) -> Revision {
        self.memory.revision()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let room = self.room.load(Ordering::Relaxed);
        self.room.store(room.saturating_sub(1), Ordering::Relaxed);
        if room == 0 || self.is_full.load(Ordering::Relaxed) {
            let cause = io::Error::from(io::ErrorKind::StorageFull);
            return Box::pin(async move { Err(StoreError::Write(Arc::new(cause))) });
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.memory.commit(transaction)
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        self.memory.watch(prefix, from)
    }
}
