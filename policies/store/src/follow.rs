//! A follower of a policy store in another process: takes its signed snapshots, checks everything, compiles, swaps.
//!
//! `portcullis` opens a [`Follower`] in place of a [`crate::PolicyStore`] when `[policies] follow` is set, tells it the
//! entities of its own configuration and subscribes to its snapshots. Whatever is wrong with what comes, the last good
//! snapshot stays in force, also across a restart without publisher, and the publisher is told why (ST8, ST9).

mod apply;
mod contact;
mod file;
mod held;
mod link;
mod merge;
mod refused;
mod shelf;
mod status;
mod take;
#[cfg(test)]
mod tests;
mod unwritten;
mod way;

use crate::{PolicyStoreError, Verifier, content::Hash, registry, writer::blocking};
use apply::{Checked, Own};
use base_ports::{Clock, Disk, Rng, Tasks};
use contact::Contact;
use held::Held;
use parking_lot::Mutex;
use policies_engine::{Diagnostic, EntitySet, Freshness, Patience, Snapshot};
use shelf::Shelf;
use status::State;
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::{Notify, watch as channel};
use unwritten::Unwritten;

pub(crate) use file::SnapshotFile;
pub use status::FollowStatus;
pub use way::{AdminSocket, Connection, Way};

/// Retired snapshots held compiled.
const PINNED: usize = 4;
/// How often the silence of the publisher is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Whom to follow, and whom to believe.
#[derive(Debug, Clone)]
pub struct FollowConfig {
    /// The way to the publisher.
    pub way: Arc<dyn Way>,
    /// What this enforcer calls itself, for the publisher's `status`.
    pub name: String,
    /// The keys whose signature is believed at first; nothing is taken while there is none.
    pub signers: Vec<Verifier>,
    /// Where snapshot files are kept.
    pub dir: PathBuf,
    /// A signed snapshot file to begin with.
    pub bootstrap: Option<PathBuf>,
    /// How long the publisher may be silent.
    pub patience: Patience,
    /// For snapshot files.
    pub disk: Arc<dyn Disk>,
    /// For the silence of the publisher, and times in status.
    pub clock: Arc<dyn Clock>,
    /// For the waits between connections.
    pub rng: Arc<dyn Rng>,
    /// Decisions that stock Cedar judged differently, for reports.
    pub mismatches: Arc<AtomicU64>,
}

/// The policies of another process, in force here.
#[derive(Debug)]
pub struct Follower {
    config: FollowConfig,
    /// Whose signature is believed.
    keys: Mutex<Arc<[Verifier]>>,
    shelf: Shelf,
    unwritten: Unwritten,
    contact: Contact,
    own: Mutex<Own>,
    writer: tokio::sync::Mutex<Writer>,
    active: channel::Sender<Option<Arc<Snapshot>>>,
    freshness: channel::Sender<Freshness>,
    silence: channel::Sender<Duration>,
    state: Mutex<State>,
    pinned: Mutex<VecDeque<Arc<Snapshot>>>,
    /// What was refused may be good now, so it is asked for again.
    again: Notify,
}

#[derive(Debug, Default)]
struct Writer {
    /// The last snapshot that was good; in force unless it does not fit what this process serves.
    held: Option<Arc<Held>>,
    /// Digest of the manifest that was refused last, although a pinned key signed it.
    refused: Option<[u8; 32]>,
    /// What need not be checked again.
    checked: Checked,
}

impl Follower {
    /// Reads the last good snapshot. Nothing is in force until [`Follower::set_entities`].
    ///
    /// # Errors
    /// The directory of snapshot files cannot be made. Files that cannot be used are no error: `status` tells of them.
    pub async fn open(config: FollowConfig) -> Result<Arc<Follower>, PolicyStoreError> {
        let shelf = Shelf::open(config.dir.clone(), Arc::clone(&config.disk))
            .map_err(|cause| PolicyStoreError::damaged(config.dir.display().to_string(), cause))?;
        let contact =
            Contact::open(&config.dir, config.patience, Arc::clone(&config.clock), Arc::clone(&config.disk));
        let (reading, keys, bootstrap) = (shelf.clone(), config.signers.clone(), config.bootstrap.clone());
        let (held, told) = blocking(move || begin(&reading, &keys, bootstrap.as_deref())).await?;
        for told in &told {
            tracing::error!(event = "snapshot_file_unusable", code = "PC2027", "snapshot file {told}");
        }
        let state = State { alarm: told.into_iter().next(), ..State::default() };
        let writer = Writer { held: held.map(Arc::new), ..Writer::default() };
        Ok(Arc::new(Follower {
            freshness: channel::Sender::new(contact.freshness()),
            silence: channel::Sender::new(contact.silence()),
            keys: Mutex::new(config.signers.clone().into()),
            config,
            shelf,
            unwritten: Unwritten::default(),
            contact,
            own: Mutex::default(),
            writer: tokio::sync::Mutex::new(writer),
            active: channel::Sender::new(None),
            state: Mutex::new(state),
            pinned: Mutex::default(),
            again: Notify::new(),
        }))
    }

    /// Follows the publisher until `tasks` end.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let follower = Arc::clone(self);
        tasks.spawn("policy feed", link::run(follower));
        tasks.spawn("policy files", Arc::clone(self).keep_files());
        let follower = Arc::clone(self);
        tasks.spawn("policy freshness", async move {
            loop {
                follower.look();
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    /// Services, methods, routes and workloads of this process, and the digest of its routes. They are merged with what
    /// the publisher sends; returns when the result is in force or refused.
    pub async fn set_entities(&self, mut entities: EntitySet, routes_digest: [u8; 32]) {
        registry::sort(&mut entities);
        *self.own.lock() = Own { entities: Arc::new(entities), routes: Hash(routes_digest) };
        let mut writer = self.writer.lock().await;
        if writer.refused.take().is_some() {
            self.again.notify_one();
        }
        let Some(held) = writer.held.clone() else { return };
        match self.apply(&mut writer, &held).await {
            Ok(()) => self.state.lock().refused = None,
            Err(refused) => self.refuse(refused),
        }
    }

    /// The same, all or nothing: what is refused leaves the entities before as they were, and is the answer. Without a
    /// snapshot there is nothing to refuse them.
    ///
    /// # Errors
    /// Why the policies that are followed cannot be compiled with these entities.
    pub async fn change_entities(
        &self,
        mut entities: EntitySet,
        routes_digest: [u8; 32],
    ) -> Result<(), Vec<Diagnostic>> {
        registry::sort(&mut entities);
        let mut writer = self.writer.lock().await;
        let next = Own { entities: Arc::new(entities), routes: Hash(routes_digest) };
        let before = std::mem::replace(&mut *self.own.lock(), next);
        if let Some(held) = writer.held.clone()
            && let Err(refused) = self.apply(&mut writer, &held).await
        {
            *self.own.lock() = before;
            return Err(refused.diagnostics());
        }
        // What was refused may have waited for these.
        if writer.refused.take().is_some() {
            self.again.notify_one();
        }
        Ok(())
    }

    /// The snapshot in force, now and whenever it changes.
    #[must_use]
    pub fn subscribe(&self) -> channel::Receiver<Option<Arc<Snapshot>>> {
        self.active.subscribe()
    }

    /// Whether the publisher was heard lately, now and whenever that changes.
    #[must_use]
    pub fn freshness(&self) -> channel::Receiver<Freshness> {
        self.freshness.subscribe()
    }

    /// How long the publisher has been silent, told again and again.
    #[must_use]
    pub fn silence(&self) -> channel::Receiver<Duration> {
        self.silence.subscribe()
    }

    /// The snapshot of that number, recompiled from its file when it is retired, with the entities of now. Blocks.
    ///
    /// # Errors
    /// It is not kept, damaged, or does not compile with this build.
    pub fn version(&self, snapshot: u64) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let is_it = |held: &Arc<Snapshot>| held.versions().numbers.snapshot == snapshot;
        if let Some(active) = self.active.borrow().as_ref().filter(|active| is_it(active)) {
            return Ok(Arc::clone(active));
        }
        if let Some(pinned) = self.pinned.lock().iter().find(|pinned| is_it(pinned)) {
            return Ok(Arc::clone(pinned));
        }
        let held = match self.unwritten.get(snapshot) {
            Some(held) => held,
            None => match self.shelf.get(snapshot, &self.keys()) {
                None => return Err(PolicyStoreError::Unknown(snapshot)),
                Some(Err(cause)) => {
                    return Err(PolicyStoreError::damaged(format!("snapshot {snapshot}"), cause));
                }
                Some(Ok(held)) => Arc::new(held),
            },
        };
        let own = self.own.lock().clone();
        let compiled = apply::compile(&held, &own, None, Checked::default())
            .map_err(|refused| PolicyStoreError::Refused { number: snapshot, first: refused.detail })?;
        let mut pinned = self.pinned.lock();
        pinned.push_front(Arc::clone(&compiled.snapshot));
        pinned.truncate(PINNED);
        Ok(compiled.snapshot)
    }

    /// From now on the signatures of these keys are believed, and no others. What was refused is asked for again.
    pub async fn believe(&self, keys: Vec<Verifier>) {
        *self.keys.lock() = keys.into();
        self.writer.lock().await.refused = None;
        self.again.notify_one();
    }

    /// Ends the connection, and asks again over a new one: such as when this process shows another identity from now on.
    pub fn reconnect(&self) {
        self.again.notify_one();
    }

    /// The keys whose signature is believed.
    pub(crate) fn keys(&self) -> Arc<[Verifier]> {
        Arc::clone(&self.keys.lock())
    }

    /// The snapshot file of what was taken last.
    pub async fn snapshot_file(&self) -> Option<Vec<u8>> {
        let writer = self.writer.lock().await;
        writer.held.as_ref().map(|held| held.to_file())
    }
}

/// The newest good file, or the file to begin with when that is newer; and what is wrong with others.
fn begin(
    shelf: &Shelf,
    keys: &[Verifier],
    bootstrap: Option<&std::path::Path>,
) -> Result<(Option<Held>, Vec<String>), PolicyStoreError> {
    let (newest, mut told) = shelf.newest(keys);
    let first = match bootstrap.map(|path| (path, shelf.read(path, keys))) {
        Some((_, Ok(held))) => Some(held),
        Some((path, Err(cause))) => {
            told.push(format!("`{}`: {cause}", path.display()));
            None
        }
        None => None,
    };
    let number = |held: &Held| held.offer.position.number();
    Ok((newest.into_iter().chain(first).max_by_key(number), told))
}
