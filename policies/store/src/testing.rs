//! A site for tests: a directory of policies, a store underneath, and the entities of a small shop.

use crate::{PolicyStore, StoreConfig};
use base_ports::{ManualClock, UnixTime};
use base_store::{Committed, Entry, Memory, Revision, Store, StoreError, Transaction, Watch};
use policies_engine::{
    AccessRequest, Action, Effect, EntitySet, MethodEntity, Numbers, OwnedFacts, Principal, Resource,
    ServiceEntity, Snapshot, WorkloadEntity,
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
}

impl Site {
    pub(crate) fn new(files: &[(&str, &str)]) -> Site {
        let site = Site { home: tempfile::tempdir().unwrap(), disk: Arc::new(Disk::new()) };
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

    /// A process that starts on this site.
    pub(crate) async fn start(&self) -> Arc<PolicyStore> {
        let store = self.open().await;
        store.set_entities(shop(), [1; 32]).await;
        store
    }

    pub(crate) async fn open(&self) -> Arc<PolicyStore> {
        PolicyStore::open(StoreConfig {
            dir: Some(self.dir()),
            store: Arc::clone(&self.disk) as Arc<dyn Store>,
            clock: Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000))),
        })
        .await
        .unwrap()
    }
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
    snapshot.decide(&request).effect
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
    pub(crate) commits: AtomicUsize,
}

impl Disk {
    fn new() -> Disk {
        Disk { memory: Memory::new(), is_full: AtomicBool::new(false), commits: AtomicUsize::new(0) }
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
        if self.is_full.load(Ordering::Relaxed) {
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
