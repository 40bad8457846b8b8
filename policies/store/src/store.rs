//! The store of policies as the rest of portcullis sees it: opened, told the entities, asked for what is in force.
//!
//! Everything that changes something goes through the one writer of `writer.rs`; whatever fails on the way, the last
//! good snapshot stays in force and [`PolicyStore::status`] says why.

use crate::{
    Activations, Pinned, PolicyStoreError, Saves, Signer, Status, Verifier,
    archive::Archive,
    content::Hash,
    feed::{Feed, Published},
    fingerprint::Fingerprint,
    registry,
    shadow::Shadows,
    watch,
    writer::Writer,
};
use base_ports::{Clock, Tasks};
use base_store::Store;
use parking_lot::Mutex;
use policies_engine::{Diagnostic, EntitySet, Snapshot};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch as channel;

/// Versions that are not in force, held compiled.
const HELD: usize = 4;

/// What a policy store works on.
#[derive(Debug)]
pub struct StoreConfig {
    /// The directory of `*.cedar` files that is watched; none when policies come through changes alone.
    pub dir: Option<PathBuf>,
    /// Where numbers and versions are kept, under keys that begin with `policies/`.
    pub store: Arc<dyn Store>,
    /// For the times in manifests and status.
    pub clock: Arc<dyn Clock>,
    /// Signs versions, in the name of the trust domain.
    pub signer: Arc<Signer>,
    /// Asked before saved files come into force.
    pub saves: Arc<dyn Saves>,
    /// Takes note of every activation.
    pub activations: Arc<dyn Activations>,
    /// Knows which snapshots records name.
    pub pinned: Arc<dyn Pinned>,
}

/// Policies, numbered, signed and in force.
#[derive(Debug)]
pub struct PolicyStore {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) saves: Arc<dyn Saves>,
    pub(crate) activations: Arc<dyn Activations>,
    pub(crate) pinned: Arc<dyn Pinned>,
    pub(crate) archive: Archive,
    pub(crate) wanted: Mutex<Wanted>,
    pub(crate) writer: tokio::sync::Mutex<Writer>,
    /// What the directory looked like when it was last read.
    pub(crate) seen: Mutex<Option<Fingerprint>>,
    pub(crate) status: Mutex<Status>,
    pub(crate) active: channel::Sender<Option<Arc<Snapshot>>>,
    pub(crate) published: channel::Sender<Option<Arc<Published>>>,
    pub(crate) shadows: Shadows,
    feed: Arc<Feed>,
    pub(crate) held: Mutex<VecDeque<Arc<Snapshot>>>,
}

/// What somebody asked for, and how often somebody did.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) entities: Arc<EntitySet>,
    pub(crate) routes: Hash,
    /// Somebody wants the directory to be read.
    pub(crate) looks: bool,
    pub(crate) asked: u64,
}

impl PolicyStore {
    /// Reads the numbers and versions that are stored. Nothing is in force until [`PolicyStore::set_entities`].
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is damaged or newer than this build.
    pub async fn open(config: StoreConfig) -> Result<Arc<PolicyStore>, PolicyStoreError> {
        let archive = Archive::new(Arc::clone(&config.store));
        let published = channel::Sender::new(None);
        let feed = Feed::new(published.subscribe(), archive.clone(), Arc::clone(&config.clock));
        let writer = Writer::open(&archive).await?;
        let shadows = Shadows::open(&config.store)?;
        let (shadow, shadow_ended) = (shadows.now(), shadows.ended());
        let status = Status { shadow, shadow_ended, ..Status::default() };
        Ok(Arc::new(PolicyStore {
            dir: config.dir,
            shadows,
            store: config.store,
            clock: config.clock,
            signer: config.signer,
            saves: config.saves,
            activations: config.activations,
            pinned: config.pinned,
            archive,
            wanted: Mutex::new(Wanted {
                entities: Arc::default(),
                routes: Hash([0; 32]),
                looks: false,
                asked: 0,
            }),
            writer: tokio::sync::Mutex::new(writer),
            seen: Mutex::new(None),
            status: Mutex::new(status),
            active: channel::Sender::new(None),
            published,
            feed,
            held: Mutex::default(),
        }))
    }

    /// Watches the directory until `tasks` end, reads it first when nobody has yet, ends shadows in time and
    /// forgets old versions.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let store = Arc::clone(self);
        tasks.spawn("policies", async move {
            if store.wanted.lock().asked == 0 {
                store.reload().await;
            }
            if let Some(dir) = store.dir.clone() {
                watch::run(store, dir).await;
            }
        });
        let store = Arc::clone(self);
        tasks.spawn("shadow", async move { store.end_shadows().await });
        let store = Arc::clone(self);
        tasks.spawn("retention", async move { store.keep_tidy().await });
    }

    /// The entities of configuration and registration, and the digest of the routes they go with. Returns when they
    /// are in force or refused; calls that overlap are answered by one snapshot.
    pub async fn set_entities(&self, mut entities: EntitySet, routes_digest: [u8; 32]) {
        registry::sort(&mut entities);
        let asked = {
            let mut wanted = self.wanted.lock();
            wanted.entities = Arc::new(entities);
            wanted.routes = Hash(routes_digest);
            wanted.asked += 1;
            wanted.asked
        };
        self.answer(asked).await;
    }

    /// The same, all or nothing: entities that are refused leave those before them wanted, and the reasons are the answer
    /// instead of a finding in the status. Files that were refused are tried once more, as they may have waited for these.
    ///
    /// # Errors
    /// Why the policies in force cannot be compiled with these entities, or why the snapshot cannot be stored.
    pub async fn change_entities(
        &self,
        mut entities: EntitySet,
        routes_digest: [u8; 32],
    ) -> Result<(), Vec<Diagnostic>> {
        registry::sort(&mut entities);
        let mut writer = self.writer.lock().await;
        self.pace(&writer).await;
        let (before, wanted) = {
            let mut wanted = self.wanted.lock();
            let before = wanted.clone();
            (wanted.entities, wanted.routes) = (Arc::new(entities), Hash(routes_digest));
            (before, wanted.clone())
        };
        let changed = self.retell(&mut writer, &wanted).await;
        if changed.is_err() {
            let mut wanted = self.wanted.lock();
            (wanted.entities, wanted.routes) = (before.entities, before.routes);
        }
        changed
    }

    /// Reads the directory again. Returns when what it holds is in force or refused.
    pub async fn reload(&self) {
        let asked = {
            let mut wanted = self.wanted.lock();
            wanted.looks = true;
            wanted.asked += 1;
            wanted.asked
        };
        self.answer(asked).await;
    }

    /// The snapshot in force, now and whenever it changes.
    #[must_use]
    pub fn subscribe(&self) -> channel::Receiver<Option<Arc<Snapshot>>> {
        self.active.subscribe()
    }

    /// What enforcers in other processes follow.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What is in force and what was refused.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// The public keys that sign versions, the newest first.
    #[must_use]
    pub fn verifiers(&self) -> Vec<Verifier> {
        self.signer.verifiers()
    }

    /// The snapshot of that snapshot number, recompiled from what is stored when it is retired: what judged a
    /// recorded decision. Blocks while it compiles.
    ///
    /// # Errors
    /// It is not stored, damaged, or does not compile with this build.
    pub fn version(&self, snapshot: u64) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let is_it = |held: &Arc<Snapshot>| held.versions().numbers.snapshot == snapshot;
        let active = self.active.borrow().clone();
        if let Some(active) = active.iter().find(|active| is_it(active)) {
            return Ok(Arc::clone(active));
        }
        if let Some(held) = self.held.lock().iter().find(|held| is_it(held)) {
            return Ok(Arc::clone(held));
        }
        let manifest = self.archive.signed(snapshot)?.manifest;
        let input = self.archive.content(&manifest)?.input(manifest.numbers());
        let compiled = Snapshot::compile_after(active.as_ref(), input).map(Arc::new);
        let compiled = compiled.map_err(|found| PolicyStoreError::Refused {
            number: snapshot,
            first: found.first().map(ToString::to_string).unwrap_or_default(),
        })?;
        self.hold(Arc::clone(&compiled));
        Ok(compiled)
    }

    /// The newest snapshot with policies of that number: the number people see, as in `policies v41`.
    ///
    /// # Errors
    /// As [`PolicyStore::version`].
    pub fn policies(&self, number: u64) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let snapshot = self.archive.newest_of(number)?.ok_or(PolicyStoreError::UnknownVersion(number))?;
        self.version(snapshot)
    }

    /// Keeps a compiled snapshot that is not in force for a while.
    pub(crate) fn hold(&self, snapshot: Arc<Snapshot>) {
        let mut held = self.held.lock();
        held.push_front(snapshot);
        held.truncate(HELD);
    }

    /// Whether the directory looks other than when it was last read.
    pub(crate) fn is_outdated(&self, dir: &Path) -> bool {
        match (Fingerprint::of(dir), &*self.seen.lock()) {
            (Ok(now), Some(seen)) => now != *seen,
            (Err(_), None) => false,
            (Ok(_), None) | (Err(_), Some(_)) => true,
        }
    }
}

#[cfg(test)]
mod tests;
