//! Versions in the store: listed, compared, activated, gone back to; the key that signs them (ST5).

use crate::{
    Activated, Checks, Origin, Outcome, PolicyStore, PolicyStoreError, Standing, VersionInfo,
    archive::{Archive, Turn, Write},
    changes::activated_row,
    content::Content,
    inspect::{Depth, Inspected},
    manifest::{Meta, Signed},
    release::Candidate,
    rules::{Rules, Shipped},
    shadow,
    store::Wanted,
    writer::{blocking, content},
};
use base_store::Transaction;
use policies_engine::{
    Numbers, Snapshot,
    diff::{Difference, diff},
};
use std::sync::Arc;

impl PolicyStore {
    /// Every version that is kept, newest first. Blocks.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn versions(&self) -> Result<Vec<VersionInfo>, PolicyStoreError> {
        let active = self.archive.heads()?.active.map(|active| active.manifest.policies);
        let all = self.archive.versions()?;
        all.into_iter()
            .rev()
            .map(|(_, snapshot)| self.info(&self.archive.signed(snapshot)?, active))
            .collect()
    }

    /// One version. Blocks.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn version_info(&self, policies: u64) -> Result<VersionInfo, PolicyStoreError> {
        let active = self.archive.heads()?.active.map(|active| active.manifest.policies);
        self.info(&self.newest(policies)?, active)
    }

    /// The files of a version as their authors wrote them, by name. Shipped policies are not among them, unless the
    /// version replaces one. Blocks.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn files(&self, policies: u64) -> Result<Vec<(String, Arc<str>)>, PolicyStoreError> {
        let rules = self.rules_of(policies)?;
        Ok(rules.files.iter().map(|(name, text)| (name.to_owned(), Arc::clone(text))).collect())
    }

    /// How two versions judge differently, both over the entities there are now. Blocks.
    ///
    /// # Errors
    /// One of them is not stored, cannot be read, or does not compile any longer.
    pub fn difference(&self, from: u64, to: u64) -> Result<Difference, PolicyStoreError> {
        let wanted = self.wanted.lock().clone();
        let from = over(&self.archive, &wanted, from, None)?;
        let to = over(&self.archive, &wanted, to, Some(&from))?;
        Ok(diff(&from, &to))
    }

    /// What going back to that version would do now: findings, cases, and how it differs from what is in force.
    ///
    /// # Errors
    /// It is not stored, or cannot be read. Findings are no error.
    pub async fn check_version(&self, policies: u64) -> Result<Checks, PolicyStoreError> {
        let (content, numbers, before) = {
            let writer = self.writer.lock().await;
            let content = self.content_of(policies).await?;
            (content, writer.next(writer.lineage().committed().newest), self.before(&writer)?)
        };
        Ok(self.inspected(&content, numbers, before, Depth::Check).await?.checks)
    }

    /// Puts a committed version into force, with the entities there are now. The one in force is left as it is.
    ///
    /// # Errors
    /// It was never committed; a newer one is in force, then [`PolicyStore::rollback`] is the way; it is not valid
    /// any longer; it cannot be stored. Then nothing has changed.
    pub async fn activate(&self, policies: u64, by: &str) -> Result<VersionInfo, PolicyStoreError> {
        let mut writer = self.writer.lock().await;
        writer.lineage().activated(policies)?;
        if writer.active() == Some(policies) {
            return self.version_info(policies);
        }
        self.pace(&writer).await;
        let (archive, wanted) = (self.archive.clone(), self.wanted.lock().clone());
        let (signed, content) = blocking(move || {
            let newest = archive.newest_of(policies)?.ok_or(PolicyStoreError::UnknownVersion(policies))?;
            let signed = archive.signed(newest)?;
            let rules = archive.content(&signed.manifest)?.rules;
            Ok((signed, content(rules, &wanted)))
        })
        .await?;
        let objects = content.objects().map_err(|cause| PolicyStoreError::damaged("entities", cause))?;
        let rules = content.rules.clone();
        let in_force = writer.heads.active.as_ref().map_or(0, |active| active.manifest.snapshot);
        let is_usable = signed.manifest.snapshot > in_force && signed.manifest.is_all_of(&content, &objects);
        let by = by.to_owned();
        let turn = Turn::Activated(Activated { at: self.clock.now().wall, by: by.clone() });
        let also = shadow::ended(activated_row(&self.store, signed.manifest.change)?);
        let snapshot = if is_usable {
            let snapshot = self.compiled(&content, signed.manifest.numbers()).await?;
            let write = Write { signed, objects: Vec::new(), turn, directory: None, also };
            self.store_signed(&mut writer, write).await?;
            snapshot
        } else {
            let numbers = writer.next(policies);
            let snapshot = self.compiled(&content, numbers).await?;
            let candidate = Candidate { content, objects, numbers, meta: signed.manifest.meta() };
            self.write(&mut writer, candidate, turn, None, also).await?;
            snapshot
        };
        self.wish(None, None);
        self.publish(&mut writer, snapshot, rules, Outcome::Activated, Some(by)).await;
        self.version_info(policies)
    }

    /// Puts the files of an older version into force, on top of what this build ships, as a new version that says so.
    /// Cases that fail do not hold it up: they are in [`VersionInfo::checks`].
    ///
    /// # Errors
    /// As [`PolicyStore::activate`]; also when these files are in force already.
    pub async fn rollback(
        &self,
        policies: u64,
        by: &str,
        message: &str,
    ) -> Result<VersionInfo, PolicyStoreError> {
        let mut writer = self.writer.lock().await;
        self.pace(&writer).await;
        let content = self.content_of(policies).await?;
        let objects = content.objects().map_err(|cause| PolicyStoreError::damaged("entities", cause))?;
        if writer.heads.active.as_ref().is_some_and(|active| active.manifest.is_of(&objects)) {
            return Err(PolicyStoreError::Input(format!("the policies of v{policies} are in force already")));
        }
        let numbers = writer.next(writer.lineage().committed().newest);
        let before = self.before(&writer)?;
        let Inspected { checks, snapshot } = self.inspected(&content, numbers, before, Depth::Save).await?;
        let snapshot = snapshot.ok_or(PolicyStoreError::Invalid(checks.diagnostics))?;
        let meta = Meta {
            origin: Origin::Rollback,
            author: by.to_owned(),
            committer: by.to_owned(),
            message: message.to_owned(),
            rollback_of: Some(policies),
            checks: checks.summary,
            ..Meta::default()
        };
        let rules = content.rules.clone();
        let candidate = Candidate { content, objects, numbers, meta };
        let turn = Turn::Activated(Activated { at: self.clock.now().wall, by: by.to_owned() });
        self.write(&mut writer, candidate, turn, None, shadow::ended(Transaction::new())).await?;
        self.wish(None, None);
        self.publish(&mut writer, snapshot, rules, Outcome::RolledBack, Some(by.to_owned())).await;
        self.version_info(numbers.policies)
    }

    /// Makes a new signing key. What is in force is signed by it and by the key before it, and so is every version
    /// until the next rotation.
    ///
    /// # Errors
    /// The key or the signature cannot be stored.
    pub async fn rotate_signing_key(&self) -> Result<(), PolicyStoreError> {
        let mut writer = self.writer.lock().await;
        let signer = Arc::clone(&self.signer);
        blocking(move || signer.rotate()).await?;
        let Some(active) = &writer.heads.active else { return Ok(()) };
        let note = self.signer.sign(active.manifest.numbers(), &active.bytes).into();
        writer.heads = self.archive.renote(&writer.heads, note).await?;
        let published = writer.heads.active.as_ref().map(|active| Arc::new(active.published()));
        self.published.send_replace(published);
        Ok(())
    }

    /// Raises the epoch: after a store was restored from a backup, enforcers that have seen later numbers of it follow
    /// again. The version in force stays; what is published from now on counts more than everything before.
    ///
    /// # Errors
    /// Nothing is in force, or it cannot be stored.
    pub async fn raise_epoch(&self, by: &str) -> Result<VersionInfo, PolicyStoreError> {
        let mut writer = self.writer.lock().await;
        self.pace(&writer).await;
        let (Some(active), Some(rules)) = (writer.heads.active.clone(), self.good(&writer)?) else {
            return Err(PolicyStoreError::Input("no policies are in force".to_owned()));
        };
        let content = content(rules.clone(), &self.wanted.lock().clone());
        let objects = content.objects().map_err(|cause| PolicyStoreError::damaged("entities", cause))?;
        let policies = active.manifest.policies;
        let next = writer.next(policies);
        let numbers = Numbers { epoch: next.epoch.saturating_add(1), ..next };
        let snapshot = self.compiled(&content, numbers).await?;
        let candidate = Candidate { content, objects, numbers, meta: active.manifest.meta() };
        self.write(&mut writer, candidate, Turn::Again, None, Transaction::new()).await?;
        self.publish(&mut writer, snapshot, rules, Outcome::Activated, Some(by.to_owned())).await;
        self.version_info(policies)
    }

    pub(crate) fn newest(&self, policies: u64) -> Result<Signed, PolicyStoreError> {
        let snapshot = self.archive.newest_of(policies)?.ok_or(PolicyStoreError::UnknownVersion(policies))?;
        self.archive.signed(snapshot)
    }

    /// The rules of a version, as it was written.
    pub(crate) fn rules_of(&self, policies: u64) -> Result<Rules, PolicyStoreError> {
        Ok(self.archive.content(&self.newest(policies)?.manifest)?.rules)
    }

    /// The files of a version on top of what this build ships, with the entities there are now.
    async fn content_of(&self, policies: u64) -> Result<Content, PolicyStoreError> {
        let (archive, wanted) = (self.archive.clone(), self.wanted.lock().clone());
        blocking(move || {
            let newest = archive.newest_of(policies)?.ok_or(PolicyStoreError::UnknownVersion(policies))?;
            let old = archive.content(&archive.signed(newest)?.manifest)?.rules;
            let files = old.files.as_ref().clone();
            let rules = Rules::new(files, Shipped::here(), Some(&old.prefix), old.outside);
            Ok(content(rules.map_err(PolicyStoreError::Invalid)?, &wanted))
        })
        .await
    }

    pub(crate) fn info(&self, signed: &Signed, active: Option<u64>) -> Result<VersionInfo, PolicyStoreError> {
        let Signed { manifest, hash, note, .. } = signed;
        let activated = self.archive.activated(manifest.policies)?;
        let standing = match active {
            Some(active) if active == manifest.policies => Standing::Active,
            Some(active) if manifest.policies < active => Standing::Retired,
            _ => Standing::Committed,
        };
        Ok(VersionInfo {
            policies: manifest.policies,
            snapshot: manifest.snapshot,
            epoch: manifest.epoch,
            origin: manifest.origin,
            standing,
            author: manifest.author.clone(),
            approvers: manifest.approvers.clone(),
            message: manifest.message.clone(),
            ticket: manifest.ticket.clone(),
            rollback_of: manifest.rollback_of,
            change: manifest.change,
            checks: manifest.checks.clone(),
            created: manifest.committed().to_owned(),
            activated,
            manifest: hash.to_string(),
            parent: manifest.parent().map(|parent| parent.to_string()),
            note: note.clone(),
        })
    }
}

/// A version over the entities that are wanted. Blocks.
pub(crate) fn over(
    archive: &Archive,
    wanted: &Wanted,
    policies: u64,
    previous: Option<&Arc<Snapshot>>,
) -> Result<Arc<Snapshot>, PolicyStoreError> {
    let newest = archive.newest_of(policies)?.ok_or(PolicyStoreError::UnknownVersion(policies))?;
    let manifest = archive.signed(newest)?.manifest;
    let content = content(archive.content(&manifest)?.rules, wanted);
    let compiled = Snapshot::compile_after(previous, content.input(manifest.numbers()));
    compiled.map(Arc::new).map_err(PolicyStoreError::Invalid)
}

#[cfg(test)]
mod tests;
