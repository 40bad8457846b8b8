//! Registration entries, written one transaction at a time: compare-and-set, durable, then visible (EN-04).

use std::collections::HashSet;
use std::sync::Arc;

use base_store::{Compare, Transaction};
use ca_identity::SpiffeId;
use tokio::sync::watch;

use super::Authority;
use crate::entry::{self, EntryFilter, EntryRecord, NewEntry};
use crate::error::AuthorityError;
use crate::ports::IdentityEvent;
use crate::row;

/// What applying a list did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// New entries.
    pub created: usize,
    /// Entries that said something else before.
    pub updated: usize,
    /// Entries of an earlier list that are gone from this one.
    pub deleted: usize,
    /// Entries that said the same already.
    pub unchanged: usize,
}

/// A change that is ready to be committed.
enum Change {
    Put { record: Box<EntryRecord>, before: Option<Arc<EntryRecord>> },
    Delete(Arc<EntryRecord>),
}

impl Authority {
    /// Registers an entry.
    ///
    /// # Errors
    /// When it breaks a rule, exists already, or the store fails.
    pub async fn create_entry(&self, new: NewEntry) -> Result<Arc<EntryRecord>, AuthorityError> {
        let new = self.accepted(new)?;
        let _writing = self.writing.lock().await;
        self.check_unique(&new, None)?;
        let record = Box::new(EntryRecord::of(self.new_id(), new, 0, self.now(), false));
        self.commit_one(Change::Put { record, before: None }).await
    }

    /// Replaces what an entry says. `if_revision` is the revision that the caller read.
    ///
    /// # Errors
    /// When there is no such entry, it changed meanwhile, breaks a rule, or the store fails.
    pub async fn update_entry(
        &self,
        id: &str,
        new: NewEntry,
        if_revision: Option<u64>,
    ) -> Result<Arc<EntryRecord>, AuthorityError> {
        let new = self.accepted(new)?;
        let _writing = self.writing.lock().await;
        let before = self.at_revision(id, if_revision)?;
        self.check_unique(&new, Some(id))?;
        let record = Box::new(EntryRecord::of(id.to_owned(), new, 0, before.created_at, false));
        self.commit_one(Change::Put { record, before: Some(before) }).await
    }

    /// Removes an entry: nothing is issued for it from now on (RV-01).
    ///
    /// # Errors
    /// When there is no such entry, it changed meanwhile, or the store fails.
    pub async fn delete_entry(
        &self,
        id: &str,
        if_revision: Option<u64>,
    ) -> Result<Arc<EntryRecord>, AuthorityError> {
        let _writing = self.writing.lock().await;
        let entry = self.at_revision(id, if_revision)?;
        self.commit_one(Change::Delete(entry)).await
    }

    /// Makes the entries of the configuration file what `list` says, in one transaction. Entries that were registered
    /// by hand are not touched; of the file's own, those that are gone from the list are deleted. Idempotent.
    ///
    /// # Errors
    /// When an entry breaks a rule or the store fails; then nothing was changed.
    pub async fn apply_entries(&self, list: Vec<NewEntry>) -> Result<Applied, AuthorityError> {
        let list = list.into_iter().map(|new| self.accepted(new)).collect::<Result<Vec<_>, _>>()?;
        let _writing = self.writing.lock().await;
        let (changes, applied) = self.plan(list)?;
        if !changes.is_empty() {
            self.commit(changes).await?;
        }
        Ok(applied)
    }

    fn plan(&self, list: Vec<NewEntry>) -> Result<(Vec<Change>, Applied), AuthorityError> {
        let (mut changes, mut applied, mut named) = (Vec::new(), Applied::default(), HashSet::new());
        for new in list {
            let key = entry::name_key(&new);
            if !named.insert(key) {
                continue;
            }
            match self.same_name(&new)? {
                Some(before) if before.to_new() == new || !before.from_configuration => {
                    applied.unchanged += 1
                }
                Some(before) => {
                    applied.updated += 1;
                    let record =
                        Box::new(EntryRecord::of(before.id.clone(), new, 0, before.created_at, true));
                    changes.push(Change::Put { record, before: Some(before) });
                }
                None => {
                    applied.created += 1;
                    let record = Box::new(EntryRecord::of(self.new_id(), new, 0, self.now(), true));
                    changes.push(Change::Put { record, before: None });
                }
            }
        }
        for entry in self.entries.read().iter().filter(|entry| entry.from_configuration) {
            if !named.contains(&entry::name_key(&entry.to_new())) {
                applied.deleted += 1;
                changes.push(Change::Delete(Arc::clone(entry)));
            }
        }
        Ok((changes, applied))
    }

    /// One entry.
    pub fn entry(&self, id: &str) -> Option<Arc<EntryRecord>> {
        self.entries.read().get(id)
    }

    /// Entries in order of their ids, behind `after`.
    pub fn list_entries(
        &self,
        filter: &EntryFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<EntryRecord>> {
        self.entries.read().page(filter, after, limit)
    }

    /// How many entries there are.
    pub fn count_entries(&self) -> usize {
        self.entries.read().len()
    }

    /// What `agent` may have signed: its own entries and those of every agent, without revoked identities.
    pub fn entries_for(&self, agent: &SpiffeId) -> Vec<Arc<EntryRecord>> {
        let revoked = self.revoked.borrow().clone();
        let mut entries = self.entries.read().of_agent(agent);
        entries.retain(|entry| !revoked.has_id(&entry.spiffe_id));
        entries
    }

    /// The revision of the latest change of entries.
    pub fn watch_entries(&self) -> watch::Receiver<u64> {
        self.entries_revision.subscribe()
    }

    fn accepted(&self, new: NewEntry) -> Result<NewEntry, AuthorityError> {
        let new = new.normalized();
        new.check(&self.config.trust_domain)?;
        Ok(new)
    }

    fn at_revision(&self, id: &str, wanted: Option<u64>) -> Result<Arc<EntryRecord>, AuthorityError> {
        let entry = self.entry(id).ok_or_else(|| AuthorityError::UnknownEntry(id.to_owned()))?;
        match wanted {
            Some(revision) if revision != entry.revision => {
                Err(AuthorityError::Stale { id: id.to_owned(), current: entry.revision })
            }
            _ => Ok(entry),
        }
    }

    fn same_name(&self, new: &NewEntry) -> Result<Option<Arc<EntryRecord>>, AuthorityError> {
        let row = self.ports.store.get(&entry::name_key(new))?;
        Ok(row.and_then(|row| self.entry(std::str::from_utf8(&row.value).ok()?)))
    }

    fn check_unique(&self, new: &NewEntry, except: Option<&str>) -> Result<(), AuthorityError> {
        match self.same_name(new)? {
            Some(found) if Some(found.id.as_str()) != except => {
                Err(AuthorityError::AlreadyExists { id: found.id.clone() })
            }
            _ => Ok(()),
        }
    }

    async fn commit_one(&self, change: Change) -> Result<Arc<EntryRecord>, AuthorityError> {
        let mut changed = self.commit(vec![change]).await?;
        changed.pop().ok_or_else(|| row::unreadable(row::ENTRY.as_bytes(), "nothing was changed"))
    }

    /// One transaction for all changes; then memory, then those who wait. Called under the writer's lock.
    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Arc<EntryRecord>>, AuthorityError> {
        let mut transaction = Transaction::new();
        for change in &changes {
            transaction = change.write(transaction)?;
        }
        let revision = self.ports.store.commit(transaction).await?.get();
        let mut changed = Vec::new();
        for change in changes {
            let (entry, event) = self.show(change, revision);
            self.ports.events.event(event);
            changed.push(entry);
        }
        self.entries_revision.send_replace(revision);
        Ok(changed)
    }

    fn show(&self, change: Change, revision: u64) -> (Arc<EntryRecord>, IdentityEvent) {
        let mut entries = self.entries.write();
        match change {
            Change::Put { record, before } => {
                let entry = Arc::new(EntryRecord { revision, ..*record });
                entries.insert(Arc::clone(&entry));
                if before.as_ref().is_some_and(|before| before.parent_id != entry.parent_id) {
                    self.removals.lock().note(revision, &entry.id);
                }
                let event = match before {
                    Some(_) => IdentityEvent::EntryUpdated(Arc::clone(&entry)),
                    None => IdentityEvent::EntryCreated(Arc::clone(&entry)),
                };
                (entry, event)
            }
            Change::Delete(entry) => {
                entries.remove(&entry.id);
                self.removals.lock().note(revision, &entry.id);
                (Arc::clone(&entry), IdentityEvent::EntryDeleted(entry))
            }
        }
    }

    fn new_id(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.ports.rng.fill(&mut bytes);
        row::hex(&bytes)
    }
}

impl Change {
    /// Adds the rows of this change: the entry, and the name that keeps it unique (EN-02).
    fn write(&self, transaction: Transaction) -> Result<Transaction, AuthorityError> {
        match self {
            Self::Put { record, before } => {
                let (key, value) = (entry::row_key(&record.id), entry::to_row(record)?);
                let name = entry::name_key(&record.to_new());
                let id = record.id.clone().into_bytes();
                match before {
                    None => Ok(transaction
                        .require(key.clone(), Compare::Absent)
                        .require(name.clone(), Compare::Absent)
                        .put(key, value)
                        .put(name, id)),
                    Some(before) => {
                        let old_name = entry::name_key(&before.to_new());
                        let transaction = transaction.require(key.clone(), at(before)).put(key, value);
                        if old_name == name {
                            return Ok(transaction);
                        }
                        Ok(transaction.delete(old_name).require(name.clone(), Compare::Absent).put(name, id))
                    }
                }
            }
            Self::Delete(entry) => {
                let key = entry::row_key(&entry.id);
                Ok(transaction
                    .require(key.clone(), at(entry))
                    .delete(key)
                    .delete(entry::name_key(&entry.to_new())))
            }
        }
    }
}

fn at(entry: &EntryRecord) -> Compare {
    Compare::ModifiedAt(entry.revision.into())
}
