//! The one writer of snapshots: reads, compiles, numbers, stores, and only then publishes.
//!
//! Whatever fails on the way, the last good snapshot stays in force and [`PolicyStore::status`] says why.

use crate::{
    PolicyStoreError, Status,
    archive::{Archive, Head},
    content::{Content, Hash},
    feed::{Feed, Published},
    fingerprint::Fingerprint,
    load::{Loaded, Rules, load},
    manifest::Manifest,
    registry,
    retain::Retained,
    watch,
};
use base_ports::{Clock, Tasks};
use base_store::Store;
use parking_lot::Mutex;
use policies_engine::{Diagnostic, EntitySet, Snapshot};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch as channel, time::Instant};

/// Snapshots follow each other at least this far apart (ST7).
const PACE: Duration = Duration::from_millis(100);
/// Retired versions held compiled.
const PINNED: usize = 4;

/// What a policy store works on.
#[derive(Debug)]
pub struct StoreConfig {
    /// The directory of `*.cedar` files; none for the shipped policies alone.
    pub dir: Option<PathBuf>,
    /// Where numbers and versions are kept, under keys that begin with `policies/`.
    pub store: Arc<dyn Store>,
    /// For the times in manifests and status.
    pub clock: Arc<dyn Clock>,
}

/// A directory of policies, numbered and in force.
#[derive(Debug)]
pub struct PolicyStore {
    dir: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    archive: Archive,
    wanted: Mutex<Wanted>,
    writer: tokio::sync::Mutex<Writer>,
    /// What the directory looked like when it was last read.
    seen: Mutex<Option<Fingerprint>>,
    status: Mutex<Status>,
    active: channel::Sender<Option<Arc<Snapshot>>>,
    published: channel::Sender<Option<Arc<Published>>>,
    feed: Arc<Feed>,
    pinned: Mutex<VecDeque<Arc<Snapshot>>>,
}

/// What somebody asked for, and how often somebody did.
#[derive(Debug, Clone)]
struct Wanted {
    entities: Arc<EntitySet>,
    routes: Hash,
    asked: u64,
}

#[derive(Debug)]
struct Writer {
    head: Option<Head>,
    retained: Retained,
    /// The rules in force.
    good: Option<Rules>,
    /// The last request that was answered.
    answered: u64,
    last: Option<Instant>,
}

/// What came of an attempt.
enum Applied {
    New,
    Unchanged,
}

/// Why an attempt changed nothing.
enum Refused {
    /// Something is wrong with rules or entities.
    Content(Vec<Diagnostic>),
    /// The new version could not be stored.
    Store(PolicyStoreError),
}

impl PolicyStore {
    /// Reads the numbers and versions that are stored. Nothing is in force until [`PolicyStore::set_entities`].
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is damaged or newer than this build.
    pub async fn open(config: StoreConfig) -> Result<Arc<PolicyStore>, PolicyStoreError> {
        let archive = Archive::new(config.store);
        let reading = archive.clone();
        let published = channel::Sender::new(None);
        let feed = Feed::new(published.subscribe(), archive.clone(), Arc::clone(&config.clock));
        let (head, retained) = blocking(move || Ok((reading.head()?, reading.retained()?))).await?;
        Ok(Arc::new(PolicyStore {
            dir: config.dir,
            clock: config.clock,
            archive,
            wanted: Mutex::new(Wanted { entities: Arc::default(), routes: Hash([0; 32]), asked: 0 }),
            writer: tokio::sync::Mutex::new(Writer { head, retained, good: None, answered: 0, last: None }),
            seen: Mutex::new(None),
            status: Mutex::default(),
            active: channel::Sender::new(None),
            published,
            feed,
            pinned: Mutex::default(),
        }))
    }

    /// Watches the directory until `tasks` end; reads it first when nobody has yet.
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

    /// Reads the directory again. Returns when what it holds is in force or refused.
    pub async fn reload(&self) {
        let asked = {
            let mut wanted = self.wanted.lock();
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

    /// The entities of configuration and registration, and the digest of the routes they go with.
    pub(crate) fn entities(&self) -> (Arc<EntitySet>, Hash) {
        let wanted = self.wanted.lock();
        (Arc::clone(&wanted.entities), wanted.routes)
    }

    /// What is in force and what was refused.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// The snapshot of that snapshot number, recompiled from what is stored when it is retired: what judged a
    /// recorded decision. Blocks while it compiles.
    ///
    /// # Errors
    /// It is not stored, damaged, or does not compile with this build.
    pub fn version(&self, snapshot: u64) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let is_it = |held: &Arc<Snapshot>| held.versions().numbers.snapshot == snapshot;
        if let Some(active) = self.active.borrow().as_ref().filter(|active| is_it(active)) {
            return Ok(Arc::clone(active));
        }
        if let Some(pinned) = self.pinned.lock().iter().find(|pinned| is_it(pinned)) {
            return Ok(Arc::clone(pinned));
        }
        let manifest = self.archive.manifest(snapshot)?;
        let input = self.archive.content(&manifest)?.input(manifest.numbers());
        // What the version in force shares with the retired one needs no second look.
        let active = self.active.borrow().clone();
        let compiled = Snapshot::compile_after(active.as_ref(), input);
        let compiled = compiled.map(Arc::new).map_err(|found| PolicyStoreError::Refused {
            number: snapshot,
            first: found.first().map(ToString::to_string).unwrap_or_default(),
        })?;
        let mut pinned = self.pinned.lock();
        pinned.push_front(Arc::clone(&compiled));
        pinned.truncate(PINNED);
        Ok(compiled)
    }

    /// The newest snapshot with policies of that number: the number people see, as in `policies v41`.
    ///
    /// # Errors
    /// As [`PolicyStore::version`].
    pub fn policies(&self, number: u64) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let snapshot = self.archive.newest_of(number)?.ok_or(PolicyStoreError::Unknown(number))?;
        self.version(snapshot)
    }

    /// Whether the directory looks other than when it was last read.
    pub(crate) fn is_outdated(&self, dir: &Path) -> bool {
        match (Fingerprint::of(dir), &*self.seen.lock()) {
            (Ok(now), Some(seen)) => now != *seen,
            (Err(_), None) => false,
            (Ok(_), None) | (Err(_), Some(_)) => true,
        }
    }

    /// Brings what is wanted into force, unless somebody has done so while this request waited.
    async fn answer(&self, asked: u64) {
        let mut writer = self.writer.lock().await;
        if writer.answered >= asked {
            return;
        }
        if let Some(last) = writer.last {
            tokio::time::sleep_until(last + PACE).await;
        }
        let wanted = self.wanted.lock().clone();
        self.bring(&mut writer, &wanted).await;
        writer.answered = wanted.asked;
    }

    async fn bring(&self, writer: &mut Writer, wanted: &Wanted) {
        let content =
            |rules| Content { rules, entities: Arc::clone(&wanted.entities), routes: wanted.routes };
        let refused = match self.read().await {
            Ok(rules) => self.apply(writer, content(rules)).await,
            Err(found) => Err(Refused::Content(found)),
        };
        let found = match refused {
            Ok(applied) => return self.accept(&applied),
            Err(Refused::Store(cause)) => return self.refuse(vec![not_stored(&cause)]),
            Err(Refused::Content(found)) => found,
        };
        self.refuse(found);
        // The last good rules follow the entities, and are in force again after a restart.
        let applied = match self.good(writer) {
            Ok(None) => return,
            Ok(Some(rules)) => self.apply(writer, content(rules)).await,
            Err(cause) => Err(Refused::Store(cause)),
        };
        match applied {
            Ok(_) => {}
            Err(Refused::Content(found)) => {
                tracing::debug!(
                    event = "entities_refused",
                    findings = found.len(),
                    "entities stay as they are"
                );
            }
            Err(Refused::Store(cause)) => {
                tracing::error!(event = "policies_not_stored", %cause, "last good policies stay as they are");
            }
        }
    }

    async fn read(&self) -> Result<Rules, Vec<Diagnostic>> {
        let Some(dir) = self.dir.clone() else { return Ok(Rules::shipped()) };
        let loaded = blocking(move || Ok(load(&dir))).await;
        let Loaded { rules, fingerprint, .. } = loaded.map_err(|cause| vec![fault(&cause)])?;
        *self.seen.lock() = fingerprint;
        rules
    }

    /// The rules in force, or those of the newest stored version.
    fn good(&self, writer: &Writer) -> Result<Option<Rules>, PolicyStoreError> {
        match (&writer.good, &writer.head) {
            (Some(rules), _) => Ok(Some(rules.clone())),
            (None, Some(head)) => Ok(Some(self.archive.content(&head.manifest)?.rules)),
            (None, None) => Ok(None),
        }
    }

    /// Compiles, stores and publishes `content`, or says why not; then nothing has changed.
    async fn apply(&self, writer: &mut Writer, content: Content) -> Result<Applied, Refused> {
        let now = self.clock.now().wall;
        let head = writer.head.as_ref().map(|head| &head.manifest);
        let objects = content.objects().map_err(internal)?;
        let manifest = Manifest::after(head, &content, &objects, now).map_err(internal)?;
        let is_stored = head == Some(&manifest);
        let is_active = |snapshot: &Arc<Snapshot>| snapshot.versions().numbers == manifest.numbers();
        if is_stored && self.active.borrow().as_ref().is_some_and(is_active) {
            return Ok(Applied::Unchanged);
        }
        let input = content.input(manifest.numbers());
        let previous = self.active.borrow().clone();
        let compiled = blocking(move || Ok(Snapshot::compile_after(previous.as_ref(), input)));
        let compiled = compiled.await.map_err(internal)?;
        let outside = &content.rules.outside;
        let snapshot = Arc::new(compiled.map_err(|found| Refused::Content(outside.conceal(found)))?);
        let warnings = outside.conceal(snapshot.warnings().to_vec());
        if !is_stored {
            let known = writer.retained.objects();
            let new = objects.into_iter().filter(|object| !known.contains(&object.reference.sha256));
            let forgotten = writer.retained.would_forget(&manifest);
            let head = match self.archive.write(manifest, new, &forgotten, writer.head.as_ref()).await {
                Ok(head) => head,
                Err(cause) => {
                    self.reread(writer);
                    return Err(Refused::Store(cause));
                }
            };
            writer.retained.forget(&forgotten);
            writer.retained.insert(&head.manifest);
            writer.head = Some(head);
        }
        writer.good = Some(content.rules);
        writer.last = Some(Instant::now());
        {
            let mut status = self.status.lock();
            status.numbers = Some(snapshot.versions().numbers);
            status.policies = snapshot.policy_count();
            status.since = Some(now);
            status.warnings = warnings;
        }
        let published = writer.head.as_ref().map(Head::published).transpose().map_err(internal)?;
        self.active.send_replace(Some(snapshot));
        self.published.send_replace(published.map(Arc::new));
        Ok(Applied::New)
    }

    /// After a failed write nobody knows whether it was done, and somebody else may have moved the head.
    fn reread(&self, writer: &mut Writer) {
        match self.archive.head().and_then(|head| Ok((head, self.archive.retained()?))) {
            Ok((head, retained)) => (writer.head, writer.retained) = (head, retained),
            Err(cause) => {
                tracing::error!(event = "policies_unreadable", %cause, "stored versions cannot be read")
            }
        }
    }

    fn accept(&self, applied: &Applied) {
        let mut status = self.status.lock();
        status.diagnostics.clear();
        match applied {
            Applied::New => status.reloads.applied += 1,
            Applied::Unchanged => status.reloads.unchanged += 1,
        }
    }

    fn refuse(&self, found: Vec<Diagnostic>) {
        let mut status = self.status.lock();
        status.reloads.refused += 1;
        if status.diagnostics != found {
            for finding in &found {
                tracing::warn!(event = "policies_refused", code = finding.code, "{finding}");
            }
        }
        status.diagnostics = found;
    }
}

/// Files, compiling and recovery block; the runtime must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PolicyStoreError> + Send + 'static,
) -> Result<T, PolicyStoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(cause) => Err(PolicyStoreError::damaged("work", cause)),
    }
}

fn internal(cause: impl std::fmt::Display) -> Refused {
    Refused::Content(vec![fault(&cause)])
}

fn fault(cause: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::about("PC2011", &Arc::from("policies"), cause.to_string())
}

/// A number that is not on disk could be given twice, so what cannot be stored is not put into force (ST5).
fn not_stored(cause: &PolicyStoreError) -> Diagnostic {
    Diagnostic::about("PC2020", &Arc::from("policies"), format!("the new version cannot be stored: {cause}"))
        .help("the last good version stays in force; make room in the data directory and save a policy file again")
}

#[cfg(test)]
mod tests;
