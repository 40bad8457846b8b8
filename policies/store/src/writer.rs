//! The one writer: brings the directory, the entities and what people ask for into force, one after another.
//!
//! Reads, compiles, numbers, signs, stores, and only then publishes (ST5, ST6). The directory counts when its content
//! is another one than it was when it was considered last; entities recompile the rules in force (ST10).

use crate::{
    Activation, Origin, Outcome, PolicyStore, PolicyStoreError,
    archive::{Archive, Heads},
    content::{Content, Hash},
    load::{Loaded, load},
    manifest::Meta,
    retain::Retained,
    rules::{Rules, Shipped},
    state::Lineage,
    store::Wanted,
};
use base_ports::Mono;
use policies_engine::{Diagnostic, Numbers, Snapshot};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Snapshots follow each other at least this far apart (ST7).
const PACE: Duration = Duration::from_millis(100);

/// What the writer knows. Held by whoever changes something.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) heads: Heads,
    pub(crate) retained: Retained,
    /// The snapshot in force, without what is evaluated beside it.
    pub(crate) live: Option<Arc<Snapshot>>,
    /// The rules in force.
    pub(crate) good: Option<Rules>,
    /// What the directory held when it could be read last.
    pub(crate) directory: Option<Hash>,
    /// What is stored was looked at once since the start.
    is_begun: bool,
    /// The last request that was answered.
    answered: u64,
    /// Old snapshots that records name, and when that was asked.
    pub(crate) named: BTreeMap<u64, Mono>,
    pub(crate) last: Option<Instant>,
}

/// What came of an attempt.
pub(crate) enum Applied {
    New,
    Unchanged,
}

/// Why an attempt changed nothing.
pub(crate) enum Refused {
    /// Something is wrong with rules or entities.
    Content(Vec<Diagnostic>),
    /// The new version could not be stored.
    Store(PolicyStoreError),
}

impl Writer {
    pub(crate) async fn open(archive: &Archive) -> Result<Writer, PolicyStoreError> {
        let reading = archive.clone();
        let (heads, retained) = blocking(move || Ok((reading.heads()?, reading.retained()?))).await?;
        archive.sweep(&retained).await?;
        Ok(Writer {
            heads,
            retained,
            live: None,
            good: None,
            directory: None,
            is_begun: false,
            answered: 0,
            named: BTreeMap::new(),
            last: None,
        })
    }

    /// Number of the version in force.
    pub(crate) fn active(&self) -> Option<u64> {
        self.heads.active.as_ref().map(|active| active.manifest.policies)
    }

    /// The numbers of versions.
    pub(crate) fn lineage(&self) -> Lineage {
        Lineage { newest: self.retained.newest_policies(), active: self.active() }
    }

    /// The numbers of the next snapshot.
    pub(crate) fn next(&self, policies: u64) -> Numbers {
        let newest = self.heads.newest.as_ref().map(|newest| newest.manifest.numbers());
        let before = newest.unwrap_or(Numbers { epoch: 1, ..Numbers::default() });
        Numbers { epoch: before.epoch, snapshot: before.snapshot.saturating_add(1), policies }
    }
}

impl PolicyStore {
    /// Brings what is wanted into force, unless somebody has done so while this request waited.
    pub(crate) async fn answer(&self, asked: u64) {
        let mut writer = self.writer.lock().await;
        if writer.answered >= asked {
            return;
        }
        self.pace(&writer).await;
        let wanted = {
            let mut wanted = self.wanted.lock();
            let now = wanted.clone();
            wanted.looks = false;
            now
        };
        self.bring(&mut writer, &wanted).await;
        writer.answered = wanted.asked;
    }

    pub(crate) async fn pace(&self, writer: &Writer) {
        if let Some(last) = writer.last {
            tokio::time::sleep_until(last + PACE).await;
        }
    }

    async fn bring(&self, writer: &mut Writer, wanted: &Wanted) {
        let is_refused = !self.status.lock().diagnostics.is_empty();
        let looks = wanted.looks || !writer.is_begun || is_refused;
        let saved = match self.dir.clone().filter(|_| looks) {
            Some(dir) => self.save(writer, wanted, dir).await,
            None => Ok(None),
        };
        let first = !std::mem::replace(&mut writer.is_begun, true);
        match saved {
            Ok(Some(applied)) => self.accept(&applied),
            Ok(None) => match self.follow(writer, wanted, first).await {
                Ok(applied) => self.accept(&applied),
                Err(refused) => self.refuse(refused),
            },
            Err(refused) => {
                self.refuse(refused);
                // The rules in force follow the entities, and are in force again after a restart.
                match self.follow(writer, wanted, first).await {
                    Ok(_) => {}
                    Err(Refused::Content(found)) => {
                        let findings = found.len();
                        tracing::debug!(event = "entities_refused", findings, "entities stay as they are");
                    }
                    Err(Refused::Store(cause)) => {
                        tracing::error!(event = "policies_not_stored", %cause, "last good policies stay");
                    }
                }
            }
        }
        self.tell_difference(writer);
    }

    /// Brings other entities into force, or says why not; then they count for nothing.
    pub(crate) async fn retell(&self, writer: &mut Writer, wanted: &Wanted) -> Result<(), Vec<Diagnostic>> {
        let is_refused = !self.status.lock().diagnostics.is_empty();
        let mut is_mended = false;
        if let Some(dir) = self.dir.clone().filter(|_| is_refused) {
            match self.save(writer, wanted, dir).await {
                Ok(Some(applied)) => {
                    self.accept(&applied);
                    self.tell_difference(writer);
                    return Ok(());
                }
                Ok(None) => is_mended = true,
                Err(refused) => self.refuse(refused),
            }
        }
        match self.follow(writer, wanted, false).await {
            Ok(applied) if is_mended => self.accept(&applied),
            Ok(_) => {}
            // Nothing is in force that could refuse them.
            Err(Refused::Content(_)) if writer.live.is_none() && writer.heads.active.is_none() => {}
            Err(refused) => return Err(told(refused)),
        }
        Ok(())
    }

    /// Makes what the directory holds a version in force, unless it is what was considered last.
    async fn save(
        &self,
        writer: &mut Writer,
        wanted: &Wanted,
        dir: PathBuf,
    ) -> Result<Option<Applied>, Refused> {
        let message = format!("saved in {}", dir.display());
        let loaded = blocking(move || Ok(load(&dir))).await;
        let Loaded { rules, fingerprint } = loaded.map_err(Refused::Store)?;
        *self.seen.lock() = fingerprint;
        let rules = rules.map_err(Refused::Content)?;
        let hash = rules.files.hash();
        writer.directory = Some(hash);
        if writer.heads.active.is_some() && writer.heads.directory == Some(hash) {
            return Ok(None);
        }
        // What is in force decides whether a save may be; after a restart it is brought into force first.
        if writer.heads.active.is_some()
            && writer.live.is_none()
            && let Err(refused) = self.follow(writer, wanted, true).await
        {
            tracing::warn!(
                event = "stored_policies_refused",
                findings = told(refused).len(),
                "they are left behind"
            );
        }
        let author = format!("Portcullis::LocalUser::\"{}\"", rustix::process::geteuid().as_raw());
        let meta = Meta { committer: author.clone(), author, message, ..Meta::default() };
        let content = content(rules, wanted);
        self.release(writer, content, Some(meta), Some(hash)).await.map(Some)
    }

    /// Brings the entities into force, under the rules in force; at the first time also what this build ships.
    async fn follow(&self, writer: &mut Writer, wanted: &Wanted, first: bool) -> Result<Applied, Refused> {
        let Some(rules) = self.good(writer).map_err(Refused::Store)? else {
            // Without a directory the shipped policies are the first version.
            return match self.dir {
                Some(_) => Err(Refused::Content(Vec::new())),
                None => self.release(writer, content(Rules::shipped(), wanted), Some(shipped()), None).await,
            };
        };
        let here = Shipped::here();
        if first && rules.shipped != here {
            let next = Rules { shipped: here, ..rules.clone() };
            let released = self.release(writer, content(next, wanted), Some(shipped()), None).await;
            match released {
                Ok(applied) => return Ok(applied),
                Err(refused) => self.refuse(refused),
            }
        }
        self.release(writer, content(rules, wanted), None, None).await
    }

    /// The rules in force, or those of the newest stored version in force.
    pub(crate) fn good(&self, writer: &Writer) -> Result<Option<Rules>, PolicyStoreError> {
        match (&writer.good, &writer.heads.active) {
            (Some(rules), _) => Ok(Some(rules.clone())),
            (None, Some(active)) => Ok(Some(self.archive.content(&active.manifest)?.rules)),
            (None, None) => Ok(None),
        }
    }

    /// Says in the status whether the directory holds what is in force.
    pub(crate) fn tell_difference(&self, writer: &Writer) {
        let in_force = writer.good.as_ref().map(|rules| rules.files.hash());
        let differs = writer.directory.is_some() && in_force.is_some() && writer.directory != in_force;
        let mut status = self.status.lock();
        status.differs = differs && status.diagnostics.is_empty();
    }

    fn accept(&self, applied: &Applied) {
        let mut status = self.status.lock();
        status.diagnostics.clear();
        match applied {
            Applied::New => status.reloads.applied += 1,
            Applied::Unchanged => status.reloads.unchanged += 1,
        }
    }

    fn refuse(&self, refused: Refused) {
        let found = told(refused);
        let mut status = self.status.lock();
        status.reloads.refused += 1;
        if status.diagnostics != found {
            for finding in &found {
                tracing::warn!(event = "policies_refused", code = finding.code, "{finding}");
            }
            let versions = self.active.borrow().as_ref().map(|active| Arc::clone(active.versions()));
            let detail = found.first().map(|first| format!("{} {}", first.code, first.message));
            let (outcome, time) = (Outcome::Refused, self.clock.now());
            self.activations.note(Activation { versions, outcome, by: None, detail, time });
        }
        status.diagnostics = found;
    }
}

/// Rules with the entities and routes that are wanted.
pub(crate) fn content(rules: Rules, wanted: &Wanted) -> Content {
    Content { rules, entities: Arc::clone(&wanted.entities), routes: wanted.routes }
}

/// Another build brings other policies.
pub(crate) fn shipped() -> Meta {
    let message = format!("shipped with portcullis {}", env!("CARGO_PKG_VERSION"));
    let author = "portcullis".to_owned();
    Meta { origin: Origin::Shipped, committer: author.clone(), author, message, ..Meta::default() }
}

/// Files, compiling and recovery block; the runtime must not.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PolicyStoreError> + Send + 'static,
) -> Result<T, PolicyStoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(cause) => Err(PolicyStoreError::damaged("work", cause)),
    }
}

/// As findings. A number that is not on disk could be given twice, so what cannot be stored is not put into force (ST5).
fn told(refused: Refused) -> Vec<Diagnostic> {
    match refused {
        Refused::Content(found) => found,
        Refused::Store(cause) => {
            let message = format!("the new version cannot be stored: {cause}");
            let help = "the last good version stays in force; make room in the data directory and save a policy file again";
            vec![Diagnostic::about("PC2020", &Arc::from("policies"), message).help(help)]
        }
    }
}
