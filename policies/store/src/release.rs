//! From content to a version in force: compiled, numbered, signed, stored, and only then published (ST5).
//!
//! Called by the writer for saves and entities, and for everything people do with versions. What fails leaves the last
//! good version as it is; a number that is not on disk is never used.

use crate::{
    Activated, Activation, Outcome, PolicyStore, PolicyStoreError,
    archive::{Turn, Write},
    content::{Content, Hash, Object},
    inspect::{self, Before, Depth, Inspected},
    manifest::{Manifest, Meta, Next, Signed},
    rules::Rules,
    shadow,
    writer::{Applied, Refused, Writer, blocking, shipped},
};
use base_store::Transaction;
use policies_engine::{Diagnostic, Numbers, Snapshot};
use std::sync::Arc;
use tokio::time::Instant;

/// A version that is about to be written.
pub(crate) struct Candidate {
    pub(crate) content: Content,
    pub(crate) objects: Vec<Object>,
    pub(crate) numbers: Numbers,
    pub(crate) meta: Meta,
}

impl PolicyStore {
    /// Puts `content` into force, or says why not; then nothing has changed. It is a new version when the rules are
    /// others than those in force, else a new snapshot of the same version, else nothing at all.
    pub(crate) async fn release(
        &self,
        writer: &mut Writer,
        content: Content,
        meta: Option<Meta>,
        directory: Option<Hash>,
    ) -> Result<Applied, Refused> {
        let objects = content.objects().map_err(internal)?;
        let active = writer.heads.active.clone();
        let active_is = active.as_ref();
        if let Some(active) = active_is.filter(|active| active.manifest.is_all_of(&content, &objects)) {
            return self.resume(writer, active.clone(), content, directory).await;
        }
        let same = active.filter(|active| active.manifest.is_of(&objects)).map(|active| active.manifest);
        let policies = same.as_ref().map_or(writer.lineage().committed().newest, |same| same.policies);
        let numbers = writer.next(policies);
        let (snapshot, meta) = match &same {
            Some(same) => (self.compile(&content, numbers).await?, same.meta()),
            None => {
                let before = self.before(writer).map_err(Refused::Store)?;
                let Inspected { checks, snapshot } =
                    self.inspected(&content, numbers, before, Depth::Save).await?;
                let Some(snapshot) = snapshot.filter(|_| checks.summary.passed) else {
                    return Err(Refused::Content(checks.diagnostics));
                };
                let meta = Meta { checks: checks.summary, ..meta.unwrap_or_else(shipped) };
                // The first version is taken as it is: nothing is in force that could be asked.
                let is_save = directory.is_some() && writer.live.is_some();
                if let Some(found) = is_save.then(|| self.saves.refusal(&meta.author, &meta.checks)).flatten()
                {
                    return Err(Refused::Content(vec![found]));
                }
                (snapshot, meta)
            }
        };
        let by = directory.map(|_| meta.author.clone());
        let turn = match same {
            Some(_) => Turn::Again,
            None => Turn::Activated(Activated { at: self.clock.now().wall, by: meta.author.clone() }),
        };
        let rules = content.rules.clone();
        let candidate = Candidate { content, objects, numbers, meta };
        let is_new = matches!(turn, Turn::Activated(_));
        let also = if is_new { shadow::ended(Transaction::new()) } else { Transaction::new() };
        self.write(writer, candidate, turn, directory, also).await?;
        if is_new {
            self.wish(None, None);
        }
        self.publish(writer, snapshot, rules, Outcome::Activated, by).await;
        Ok(Applied::New)
    }

    /// What is stored as being in force already: only a start has something to do.
    async fn resume(
        &self,
        writer: &mut Writer,
        active: Signed,
        content: Content,
        directory: Option<Hash>,
    ) -> Result<Applied, Refused> {
        if let Some(directory) = directory.filter(|directory| writer.heads.directory != Some(*directory)) {
            writer.heads = self.archive.consider(&writer.heads, directory).await.map_err(Refused::Store)?;
        }
        let numbers = active.manifest.numbers();
        if self.active.borrow().as_ref().is_some_and(|active| active.versions().numbers == numbers) {
            return Ok(Applied::Unchanged);
        }
        let snapshot = self.compile(&content, numbers).await?;
        if active.note.is_none() {
            let note = self.signer.sign(numbers, &active.bytes).into();
            writer.heads = self.archive.renote(&writer.heads, note).await.map_err(Refused::Store)?;
        }
        self.publish(writer, snapshot, content.rules, Outcome::Activated, None).await;
        Ok(Applied::New)
    }

    /// Signs and stores a version.
    pub(crate) async fn write(
        &self,
        writer: &mut Writer,
        candidate: Candidate,
        turn: Turn,
        directory: Option<Hash>,
        also: Transaction,
    ) -> Result<(), PolicyStoreError> {
        let Candidate { content, objects, numbers, meta } = candidate;
        let now = self.clock.now().wall;
        let trust_domain = self.signer.trust_domain();
        let next = Next { trust_domain, numbers, meta, content: &content, objects: &objects, now };
        let manifest = Manifest::after(writer.heads.newest.as_ref(), next);
        let bytes = manifest.to_json().map_err(|cause| PolicyStoreError::damaged("manifest", cause))?;
        let note = Some(self.signer.sign(manifest.numbers(), &bytes).into());
        let signed = Signed { hash: Hash::of(&bytes), bytes: bytes.into(), manifest, note };
        let known = writer.retained.objects();
        let objects =
            objects.into_iter().filter(|object| !known.contains(&object.reference.sha256)).collect();
        self.store_signed(writer, Write { signed, objects, turn, directory, also }).await
    }

    /// Stores a snapshot, or puts a stored one into force.
    pub(crate) async fn store_signed(
        &self,
        writer: &mut Writer,
        write: Write,
    ) -> Result<(), PolicyStoreError> {
        let manifest = write.signed.manifest.clone();
        match self.archive.write(&writer.heads, write).await {
            Ok(heads) => {
                writer.heads = heads;
                writer.retained.insert(&manifest);
                Ok(())
            }
            Err(cause) => {
                self.reread(writer);
                Err(cause)
            }
        }
    }

    /// Puts into force what is stored as being in force.
    pub(crate) async fn publish(
        &self,
        writer: &mut Writer,
        snapshot: Arc<Snapshot>,
        rules: Rules,
        outcome: Outcome,
        by: Option<String>,
    ) {
        let now = self.clock.now();
        let versions = Some(Arc::clone(snapshot.versions()));
        self.activations.note(Activation { versions, outcome, by, detail: None, time: now });
        {
            let mut status = self.status.lock();
            status.numbers = Some(snapshot.versions().numbers);
            status.policies = snapshot.policy_count();
            status.since = Some(now.wall);
            status.warnings = rules.outside.conceal(snapshot.warnings().to_vec());
        }
        writer.good = Some(rules);
        writer.last = Some(Instant::now());
        let published = writer.heads.active.as_ref().map(|active| Arc::new(active.published()));
        writer.live = Some(Arc::clone(&snapshot));
        self.active.send_replace(Some(self.shadowed(snapshot).await));
        self.published.send_replace(published);
        self.tell_difference(writer);
    }

    /// After a failed write nobody knows whether it was done, and somebody else may have moved the heads.
    fn reread(&self, writer: &mut Writer) {
        match self.archive.heads().and_then(|heads| Ok((heads, self.archive.retained()?))) {
            Ok((heads, retained)) => (writer.heads, writer.retained, writer.good) = (heads, retained, None),
            Err(cause) => {
                tracing::error!(event = "policies_unreadable", %cause, "stored versions cannot be read")
            }
        }
    }

    async fn compile(&self, content: &Content, numbers: Numbers) -> Result<Arc<Snapshot>, Refused> {
        self.compiled(content, numbers).await.map_err(Refused::from)
    }

    /// Compiles `content`, unless a snapshot of these numbers is held.
    pub(crate) async fn compiled(
        &self,
        content: &Content,
        numbers: Numbers,
    ) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let is_it = |held: &&Arc<Snapshot>| held.versions().numbers == numbers;
        if let Some(held) = self.held.lock().iter().find(is_it) {
            return Ok(Arc::clone(held));
        }
        let (content, previous, now) = (content.clone(), self.active.borrow().clone(), self.clock.now().wall);
        let compiled =
            blocking(move || Ok(inspect::compile(&content, numbers, previous.as_ref(), now))).await?;
        compiled.map(Arc::new).map_err(PolicyStoreError::Invalid)
    }

    pub(crate) fn before(&self, writer: &Writer) -> Result<Before, PolicyStoreError> {
        Ok(Before { snapshot: writer.live.clone(), rules: self.good(writer)? })
    }

    pub(crate) async fn inspected(
        &self,
        content: &Content,
        numbers: Numbers,
        before: Before,
        depth: Depth,
    ) -> Result<Inspected, PolicyStoreError> {
        let (content, now) = (content.clone(), self.clock.now().wall);
        blocking(move || Ok(inspect::inspect(&content, numbers, &before, (depth, now)))).await
    }
}

impl From<PolicyStoreError> for Refused {
    fn from(cause: PolicyStoreError) -> Refused {
        match cause {
            PolicyStoreError::Invalid(found) => Refused::Content(found),
            cause => Refused::Store(cause),
        }
    }
}

fn internal(cause: impl std::fmt::Display) -> Refused {
    Refused::Content(vec![Diagnostic::about("PC2011", &Arc::from("policies"), cause.to_string())])
}
