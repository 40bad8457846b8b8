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
#[cfg(test)]
mod tests;

use crate::{PolicyStoreError, Position, Status, Verifier, content::Hash, generated::messages, registry};
use apply::{Applied, Checked, Own};
use base_ports::{Clock, Disk, Rng, Tasks, UnixTime};
use contact::Contact;
use held::{Held, Offer, received};
use parking_lot::Mutex;
use policies_engine::{EntitySet, Freshness, Snapshot};
use prost::bytes::Bytes;
use refused::Refused;
use shelf::Shelf;
use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch as channel};

pub use contact::Patience;
pub(crate) use file::SnapshotFile;

/// Retired snapshots held compiled.
const PINNED: usize = 4;
/// How often the silence of the publisher is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Whom to follow, and whom to believe.
#[derive(Debug, Clone)]
pub struct FollowConfig {
    /// The publisher's admin socket.
    pub socket: PathBuf,
    /// What this enforcer calls itself, for the publisher's `status`.
    pub name: String,
    /// The keys whose signature is believed; never empty.
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
    shelf: Shelf,
    contact: Contact,
    own: Mutex<Own>,
    writer: tokio::sync::Mutex<Writer>,
    active: channel::Sender<Option<Arc<Snapshot>>>,
    freshness: channel::Sender<Freshness>,
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

#[derive(Debug, Default)]
struct State {
    status: Status,
    running: Option<Position>,
    wanted: Option<Position>,
    is_connected: bool,
    compile: Duration,
    /// Ids of policies that the stock evaluator runs.
    slow: Vec<String>,
    refused: Option<Refused>,
    alarm: Option<String>,
}

/// What a follower says of itself beside [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowStatus {
    /// The publisher's socket.
    pub publisher: PathBuf,
    /// Whether a stream is open.
    pub is_connected: bool,
    /// When the publisher was heard last, in this process or the one before it.
    pub heard: Option<UnixTime>,
    /// What follows from that.
    pub freshness: Freshness,
    /// What the publisher has in force, as far as is known.
    pub wanted: Option<Position>,
    /// What is in force here.
    pub running: Option<Position>,
    /// Code and words of what was refused last, unless something newer is in force.
    pub refusal: Option<(String, String)>,
    /// What is wrong with the snapshot files.
    pub alarm: Option<String>,
}

/// What came of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    InForce,
    /// It was seen before: in force already, or refused already.
    Known,
    Refused(Refused),
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
            config,
            shelf,
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

    /// What is in force and what was refused, as a [`crate::PolicyStore`] says it.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.state.lock();
        let diagnostics = state.refused.as_ref().map(Refused::diagnostics).unwrap_or_default();
        Status { diagnostics, ..state.status.clone() }
    }

    /// How it stands with the publisher.
    #[must_use]
    pub fn follow_status(&self) -> FollowStatus {
        let state = self.state.lock();
        FollowStatus {
            publisher: self.config.socket.clone(),
            is_connected: state.is_connected,
            heard: self.contact.heard(),
            freshness: self.contact.freshness(),
            wanted: state.wanted,
            running: state.running,
            refusal: state.refused.as_ref().map(|refused| (refused.code.to_owned(), refused.detail.clone())),
            alarm: state.alarm.clone(),
        }
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
        let held = match self.shelf.get(snapshot, &self.config.signers) {
            None => return Err(PolicyStoreError::Unknown(snapshot)),
            Some(Err(cause)) => {
                return Err(PolicyStoreError::damaged(format!("snapshot {snapshot}"), cause));
            }
            Some(Ok(held)) => held,
        };
        let own = self.own.lock().clone();
        let compiled = apply::compile(&held, &own, None, Checked::default())
            .map_err(|refused| PolicyStoreError::Refused { number: snapshot, first: refused.detail })?;
        let mut pinned = self.pinned.lock();
        pinned.push_front(Arc::clone(&compiled.snapshot));
        pinned.truncate(PINNED);
        Ok(compiled.snapshot)
    }

    /// The snapshot file of what was taken last.
    pub async fn snapshot_file(&self) -> Option<Vec<u8>> {
        let writer = self.writer.lock().await;
        writer.held.as_ref().map(|held| held.to_file())
    }

    /// Checks a frame and puts it into force, or says why not. `fetch` gets objects that the frame lacks.
    pub(crate) async fn take(
        &self,
        frame: messages::Snapshot,
        fetch: impl AsyncFnOnce(Vec<Hash>) -> Result<HashMap<Hash, Bytes>, Refused>,
    ) -> Taken {
        let mut writer = self.writer.lock().await;
        let digest = Hash::of(&frame.manifest).0;
        let is_held = writer.held.as_ref().is_some_and(|held| held.offer.position.digest == digest);
        if is_held || writer.refused == Some(digest) {
            return Taken::Known;
        }
        let taken = match self.complete(&writer, frame, fetch).await {
            Ok(held) => self.apply(&mut writer, &Arc::new(held)).await,
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(()) => {
                writer.refused = None;
                self.state.lock().refused = None;
                Taken::InForce
            }
            Err(refused) => {
                // Only what the publisher signed stays refused; what somebody changed on the way says nothing about it.
                if refused.offered.is_some() {
                    writer.refused = Some(digest);
                }
                self.refuse(refused.clone());
                Taken::Refused(refused)
            }
        }
    }

    async fn complete(
        &self,
        writer: &Writer,
        frame: messages::Snapshot,
        fetch: impl AsyncFnOnce(Vec<Hash>) -> Result<HashMap<Hash, Bytes>, Refused>,
    ) -> Result<Held, Refused> {
        let messages::Snapshot { manifest, note, objects } = frame;
        let offer = Offer::verified(manifest, note, &self.config.signers)?;
        let held = writer.held.clone();
        offer.follows(held.as_ref().map(|held| &held.offer))?;
        let mut came = received(objects)?;
        let missing = offer.missing(&came, held.as_deref());
        if !missing.is_empty() {
            came.extend(fetch(missing).await?);
        }
        let work = move || Ok(offer.complete(came, held.as_deref()));
        blocking(work).await.unwrap_or_else(|cause| Err(Refused::new("PC2023", cause.to_string())))
    }

    /// Compiles and swaps; then writes the file. A file that cannot be written is an alarm, not a refusal.
    async fn apply(&self, writer: &mut Writer, held: &Arc<Held>) -> Result<(), Refused> {
        let position = held.offer.position;
        let (own, checked) = (self.own.lock().clone(), writer.checked.clone());
        let previous = self.active.borrow().clone();
        let (compiling, before) = (Arc::clone(held), self.config.clock.now());
        let work = move || Ok(apply::compile(&compiling, &own, previous.as_ref(), checked));
        let applied =
            blocking(work).await.map_err(|cause| Refused::new("PC2025", cause.to_string()).of(position))?;
        let Applied { snapshot, checked } = applied.map_err(|refused| refused.of(position))?;
        writer.checked = checked;
        let now = self.config.clock.now();
        {
            let mut state = self.state.lock();
            state.compile = now.mono.saturating_since(before.mono);
            state.running = Some(position);
            state.slow = snapshot.slow_policies().map(|(policy, _)| policy.id.to_string()).collect();
            state.status.numbers = Some(snapshot.versions().numbers);
            state.status.policies = snapshot.policy_count();
            state.status.since = Some(now.wall);
            state.status.warnings = snapshot.warnings().to_vec();
            state.status.reloads.applied += 1;
        }
        self.active.send_replace(Some(snapshot));
        let is_written = writer.held.as_ref().is_some_and(|known| known.offer.position == position);
        writer.held = Some(Arc::clone(held));
        if !is_written {
            self.write(held).await;
        }
        Ok(())
    }

    async fn write(&self, held: &Arc<Held>) {
        let (shelf, held) = (self.shelf.clone(), Arc::clone(held));
        let written = blocking(move || Ok(shelf.put(&held)))
            .await
            .unwrap_or_else(|cause| Err(std::io::Error::other(cause.to_string())));
        let alarm = written.err().map(|cause| format!("the snapshot file cannot be written: {cause}"));
        if let Some(alarm) = &alarm {
            tracing::error!(
                event = "snapshot_file_unwritten",
                code = "PC2028",
                "{alarm}; enforced from memory"
            );
        }
        self.state.lock().alarm = alarm;
    }

    fn refuse(&self, refused: Refused) {
        let mut state = self.state.lock();
        state.status.reloads.refused += 1;
        if state.refused.as_ref() != Some(&refused) {
            for finding in refused.diagnostics() {
                tracing::warn!(event = "snapshot_refused", code = finding.code, "{finding}");
            }
        }
        state.refused = Some(refused);
    }

    /// Publishes how long the publisher has been silent, when that means something else than before.
    fn look(&self) {
        let now = self.contact.freshness();
        let is_new = self.freshness.send_if_modified(|told| std::mem::replace(told, now) != now);
        if is_new {
            tracing::warn!(
                event = "policy_freshness",
                freshness = now.as_str(),
                "how current the policies are"
            );
        }
    }

    /// The publisher says what it has in force.
    async fn hear(&self, newest: Option<Position>) {
        let write = self.contact.hear();
        self.look();
        if newest.is_some() {
            self.state.lock().wanted = newest;
        }
        if let Some(write) = write {
            drop(tokio::task::spawn_blocking(write).await);
        }
    }

    fn running(&self) -> Option<Position> {
        self.state.lock().running
    }

    /// What the publisher is told.
    fn report(&self) -> messages::ReportRequest {
        let state = self.state.lock();
        let refusal = state.refused.as_ref().map(|refused| messages::Refusal {
            offered: refused.offered.map(Position::to_message),
            code: refused.code.to_owned(),
            detail: refused.detail.clone(),
        });
        messages::ReportRequest {
            active: state.running.map(Position::to_message),
            policies: u64::try_from(state.status.policies).unwrap_or(u64::MAX),
            compile_micros: u64::try_from(state.compile.as_micros()).unwrap_or(u64::MAX),
            slow_policies: state.slow.clone(),
            mismatches: self.config.mismatches.load(Ordering::Relaxed),
            refusal,
            enforcer: self.config.name.clone(),
        }
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

/// Hashing, compiling and files block; the runtime must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PolicyStoreError> + Send + 'static,
) -> Result<T, PolicyStoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(cause) => Err(PolicyStoreError::damaged("work", cause)),
    }
}
