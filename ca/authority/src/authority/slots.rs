//! What becomes of the authority's keys (AU-04): prepared, activated, tainted, revoked, retired. The sweep takes these
//! steps when their time has come, people when they have to; both leave one transaction with the change of the bundle
//! that it causes.
//!
//! Refused is what would break verification: a successor that nobody knows yet, one that is itself at its end, the end of
//! a key that still signs.

use std::sync::Arc;
use std::time::Duration;

use base_store::Transaction;
use ca_identity::{KeyId, RevocationSet, Revoked};
use tokio::sync::watch;

use super::Authority;
use super::open::{bundle_row, load_bundle, write_table};
use crate::error::AuthorityError;
use crate::keys::{KeyInfo, KeyKind, KeyState, KeyTable, SlotError};
use crate::ports::IdentityEvent;
use crate::revocation::{self, Revocation};
use crate::{rotate, row};

/// Who takes the steps of the sweep.
pub(super) const BY_ITSELF: &str = "rotation";
/// How long `rotate_key` waits until the roles of this process have taken a new bundle.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

impl Authority {
    /// Makes a successor, which waits; a root or a key for tokens enters the bundle. `replace` removes one that waits
    /// already.
    ///
    /// # Errors
    /// When one waits already, the key cannot be made or the store fails.
    pub async fn prepare_key(
        &self,
        kind: KeyKind,
        replace: bool,
        by: &str,
    ) -> Result<KeyInfo, AuthorityError> {
        let mut table = self.table.lock().await;
        match table.find(kind, KeyState::Prepared) {
            Some(waiting) if !replace => Err(SlotError::Waits { kind, key_id: waiting.key_id }.into()),
            _ => self.prepare(kind, &mut table, by).await,
        }
    }

    /// Has the prepared key sign from now on. `force` does not wait until verifiers know it (AU-05).
    ///
    /// # Errors
    /// When none is prepared, it is at its end or not yet known, or the store fails.
    pub async fn activate_key(
        &self,
        kind: KeyKind,
        force: bool,
        by: &str,
    ) -> Result<KeyInfo, AuthorityError> {
        let mut table = self.table.lock().await;
        let waiting = table.find(kind, KeyState::Prepared).ok_or(SlotError::NonePrepared { kind })?.clone();
        let KeyInfo { key_id, not_after, .. } = waiting;
        if rotate::is_near_end(&waiting, self.now()) {
            return Err(SlotError::NearEnd { kind, key_id, not_after }.into());
        }
        if !force {
            self.check_known(&waiting)?;
        }
        let by = if force { format!("{by}, by force") } else { by.to_owned() };
        self.activate(kind, key_id, &mut table, &by).await?;
        Ok(KeyInfo { state: KeyState::Active, ..waiting })
    }

    /// Prepares, waits until the roles of this process know the successor, and activates it.
    ///
    /// # Errors
    /// As the two steps; what is prepared stays so.
    pub async fn rotate_key(&self, kind: KeyKind, force: bool, by: &str) -> Result<KeyInfo, AuthorityError> {
        match self.prepare_key(kind, false, by).await {
            Ok(_) | Err(AuthorityError::Slot(SlotError::Waits { .. })) => {}
            Err(fault) => return Err(fault),
        }
        let sequence = self.bundle().sequence;
        let mut taken = self.taken.subscribe();
        let known = taken.wait_for(|taken| taken.values().all(|known| *known >= sequence));
        if tokio::time::timeout(TAKEN_WITHIN, known).await.is_err() {
            tracing::warn!(
                event = "bundle_not_taken",
                sequence,
                "a role of this process has not taken the bundle"
            );
        }
        self.activate_key(kind, force, by).await
    }

    /// Has everything that an old key signed issued anew; it still verifies (S36).
    ///
    /// # Errors
    /// When the key is not old, none or several could be meant, or the store fails.
    pub async fn taint_key(
        &self,
        kind: KeyKind,
        key: Option<KeyId>,
        by: &str,
    ) -> Result<KeyInfo, AuthorityError> {
        let mut table = self.table.lock().await;
        let slot = KeyInfo { tainted: true, ..table.old(kind, key)?.clone() };
        let next = table.with(slot.clone());
        self.commit_table(&mut table, next, Transaction::new()).await?;
        let key_id = slot.key_id;
        self.ports.events.event(IdentityEvent::KeyTainted { kind, key_id, by: by.to_owned() });
        Ok(slot)
    }

    /// What revoking an old key would take with it, without doing it: the key, and its live certificates.
    ///
    /// # Errors
    /// When the revocation would be refused.
    pub async fn plan_key_revocation(
        &self,
        kind: KeyKind,
        key: Option<KeyId>,
        skip_taint: bool,
    ) -> Result<(KeyInfo, usize), AuthorityError> {
        let slot = self.table.lock().await.revocable(kind, key, skip_taint)?.clone();
        let live = self.live_svids(&Revoked::Issuer(slot.key_id)).await?;
        Ok((slot, live))
    }

    /// Ends an old key for good: it leaves the bundle, nothing under it is taken any more, and its file is destroyed.
    ///
    /// # Errors
    /// When the key is not old, not tainted without `skip_taint`, none or several could be meant, or the store fails.
    pub async fn revoke_key(
        &self,
        kind: KeyKind,
        key: Option<KeyId>,
        skip_taint: bool,
        (by, reason): (&str, &str),
    ) -> Result<KeyInfo, AuthorityError> {
        revocation::check_reason(reason)?;
        let mut table = self.table.lock().await;
        let slot = KeyInfo { state: KeyState::Revoked, ..table.revocable(kind, key, skip_taint)?.clone() };
        let _revoking = self.revoking.lock().await;
        let what = self.name_of_key(&slot);
        let is_new = !self.revoked.borrow().contains(&what);
        let revocation = Revocation {
            what,
            reason: reason.to_owned(),
            author: by.to_owned(),
            at: self.now(),
            until: Some(slot.not_after),
        };
        let with = Transaction::new();
        let with = if is_new { revocation.write(with)? } else { with };
        let next = table.with(slot.clone());
        self.commit_table(&mut table, next, with).await?;
        *self.revoked_at.lock() = Some(self.ports.clock.now().mono);
        self.revoked.send_modify(|set| set.deny(&revocation.what));
        let (key_id, by, reason) = (slot.key_id, revocation.author, revocation.reason);
        self.ports.events.event(IdentityEvent::KeyRevoked { kind, key_id, by, reason });
        self.vault.remove(kind, key_id)?;
        Ok(slot)
    }

    /// What tainted keys signed: to be issued anew, and good until then.
    pub fn tainted(&self) -> RevocationSet {
        let mut set = RevocationSet::default();
        let keys = Arc::clone(&self.keys.borrow());
        for slot in keys.iter().filter(|slot| slot.tainted && slot.state == KeyState::Old) {
            set.deny(&self.name_of_key(slot));
        }
        set
    }

    /// The keys, and their changes.
    pub fn watch_keys(&self) -> watch::Receiver<Arc<[KeyInfo]>> {
        self.keys.subscribe()
    }

    /// A role of this process, or an agent, has put the bundle of that sequence in force (AU-05).
    pub fn acknowledge(&self, role: &str, sequence: u64) {
        self.taken.send_if_modified(|taken| taken.insert(role.to_owned(), sequence) != Some(sequence));
    }

    fn name_of_key(&self, slot: &KeyInfo) -> Revoked {
        match slot.kind {
            KeyKind::Jwt => Revoked::JwtKey(self.config.trust_domain.clone(), slot.key_id.to_string()),
            KeyKind::Root | KeyKind::Signing => Revoked::Issuer(slot.key_id),
        }
    }

    /// AU-05: whoever verifies knows the key before it signs. A signing CA is known by its root.
    fn check_known(&self, waiting: &KeyInfo) -> Result<(), AuthorityError> {
        let (kind, sequence) = (waiting.kind, self.bundle().sequence);
        if kind == KeyKind::Signing {
            return Ok(());
        }
        // Agents have a time of their own below: one that says nothing holds nobody up for long.
        let is_behind =
            |(role, taken): &(&String, &u64)| **taken < sequence && !role.starts_with("spiffe://");
        let behind = self.taken.borrow().iter().find(is_behind).map(|(role, _)| role.clone());
        if let Some(role) = behind {
            return Err(SlotError::NotTaken { kind, role, sequence }.into());
        }
        // An agent whose stream is not open learns of a root when it comes back, while its own SVID holds.
        let until = match kind {
            KeyKind::Root if !self.agents_know(sequence)? => {
                let known = self.config.agent_ttl.max(self.published_before());
                waiting.not_before + self.config.backdate + known
            }
            KeyKind::Root if self.config.outside_hint.is_some() => {
                waiting.not_before + self.config.backdate + self.published_before()
            }
            KeyKind::Root | KeyKind::Signing => return Ok(()),
            KeyKind::Jwt => waiting.not_before + self.published_before(),
        };
        if self.now() < until {
            return Err(SlotError::NotKnown { kind, key_id: waiting.key_id, until }.into());
        }
        Ok(())
    }

    /// Five times what others wait between two looks (AU-05).
    fn published_before(&self) -> Duration {
        self.config.outside_hint.map_or(rotate::PUBLISHED_BEFORE, |hint| hint.saturating_mul(5))
    }

    pub(super) async fn prepare(
        &self,
        kind: KeyKind,
        table: &mut KeyTable,
        by: &str,
    ) -> Result<KeyInfo, AuthorityError> {
        let slot = self.make(kind, table)?;
        let mut next = table.clone();
        let replaced = next.take_prepared(kind);
        next.slots.push(slot.clone());
        self.commit_table(table, next, Transaction::new()).await?;
        self.forget(kind, replaced)?;
        let KeyInfo { key_id, not_after, .. } = slot;
        let by = by.to_owned();
        self.ports.events.event(IdentityEvent::KeyPrepared { kind, key_id, not_after, by });
        Ok(slot)
    }

    /// A root signs nothing but signing CAs, so a new one comes with its first.
    pub(super) async fn activate(
        &self,
        kind: KeyKind,
        key_id: KeyId,
        table: &mut KeyTable,
        by: &str,
    ) -> Result<(), AuthorityError> {
        let mut next = table.clone();
        next.activate(key_id);
        let (mut now_active, mut dropped) = (vec![(kind, key_id)], Vec::new());
        if kind == KeyKind::Root {
            let root = next.find(KeyKind::Root, KeyState::Active).ok_or(AuthorityError::NoSigningKey)?;
            let signing = Self::make_signing(&self.config, &self.ports, &self.vault, root, self.now())?;
            let id = signing.key_id;
            dropped = next.take_prepared(KeyKind::Signing);
            next.slots.push(signing);
            next.activate(id);
            now_active.push((KeyKind::Signing, id));
        }
        self.commit_table(table, next, Transaction::new()).await?;
        self.forget(KeyKind::Signing, dropped)?;
        for (kind, key_id) in now_active {
            self.ports.events.event(IdentityEvent::KeyActivated { kind, key_id, by: by.to_owned() });
        }
        Ok(())
    }

    pub(super) async fn retire(
        &self,
        kind: KeyKind,
        key_id: KeyId,
        table: &mut KeyTable,
    ) -> Result<(), AuthorityError> {
        let mut next = table.clone();
        next.slots.retain(|slot| slot.key_id != key_id);
        self.commit_table(table, next, Transaction::new()).await?;
        self.forget(kind, vec![key_id])
    }

    /// Destroys keys that no record names any more.
    fn forget(&self, kind: KeyKind, keys: Vec<KeyId>) -> Result<(), AuthorityError> {
        for key_id in keys {
            self.vault.remove(kind, key_id)?;
            self.ports.events.event(IdentityEvent::KeyRetired { kind, key_id });
        }
        Ok(())
    }

    fn make(&self, kind: KeyKind, table: &KeyTable) -> Result<KeyInfo, AuthorityError> {
        let now = self.now();
        match kind {
            KeyKind::Jwt => self.make_jwt(now),
            KeyKind::Root => {
                let root = Self::make_root(&self.config, &self.ports, &self.vault, now)?;
                Ok(KeyInfo { state: KeyState::Prepared, ..root })
            }
            KeyKind::Signing => {
                let root = table.find(KeyKind::Root, KeyState::Active).ok_or(AuthorityError::NoSigningKey)?;
                Self::make_signing(&self.config, &self.ports, &self.vault, root, now)
            }
        }
    }

    /// One transition is one transaction, with the change of the bundle that it causes (AU-04); then it is what this
    /// process does. The bundle never becomes empty (AU-08).
    pub(super) async fn commit_table(
        &self,
        table: &mut KeyTable,
        mut next: KeyTable,
        with: Transaction,
    ) -> Result<(), AuthorityError> {
        if next.roots().next().is_none() {
            return Err(SlotError::LastRoot.into());
        }
        let mut transaction = write_table(with, &next, &self.config)?;
        let content = bundle_row(&next)?;
        let is_new = content != bundle_row(table)?;
        if is_new {
            transaction = transaction.put(row::BUNDLE.to_vec(), content);
        }
        next.revision = Some(self.ports.store.commit(transaction).await?);
        *table = next;
        if is_new {
            self.bundle.send_replace(load_bundle(&self.config, &self.ports, table)?);
        }
        self.publish_table(table)
    }
}
