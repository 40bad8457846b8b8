//! The sweep: carries out the rotation plan and removes rows that have outlived their use.
//!
//! `portcullis` calls it on a timer, about once a minute; calling it too often changes nothing (AU-06).

use base_store::{Compare, Transaction};

use super::Authority;
use super::open::{bundle_row, load_bundle, write_table};
use crate::attest;
use crate::error::AuthorityError;
use crate::issue::IssuanceRecord;
use crate::keys::{KeyInfo, KeyKind, KeyState, KeyTable};
use crate::ports::IdentityEvent;
use crate::rotate::{self, Rotation, Step};
use crate::row;
use crate::token::TokenRecord;

/// Rows looked at per sweep: it never holds anything up.
const PRUNE_LIMIT: usize = 2000;
/// Pages of ended tokens that leave per sweep: a thousand tokens a second for a minute, with room to spare.
const TOKEN_PAGES: usize = 50;
/// A plan needs at most retire, prepare, activate, and a few retirements.
const STEP_LIMIT: usize = 16;

impl Authority {
    /// Prepares, activates and retires signing CAs and keys for tokens as time demands, and prunes what has expired.
    ///
    /// # Errors
    /// When a key cannot be made or the store fails; the next sweep resumes.
    pub async fn sweep_rotation(&self) -> Result<Rotation, AuthorityError> {
        let mut done = Rotation::default();
        let mut table = self.table.lock().await;
        for kind in rotate::KINDS {
            for _ in 0..STEP_LIMIT {
                let Some(step) = rotate::next(kind, &table.slots, self.now()) else { break };
                match self.take(kind, step, &mut table, &mut done).await {
                    // The root itself is at its end. What can still be served is served; a person has to act.
                    Err(fault @ AuthorityError::NoLifetime) => {
                        let detail = fault.to_string();
                        self.ports.events.event(IdentityEvent::Alarm { code: "root_expired", detail });
                        break;
                    }
                    taken => taken?,
                }
            }
        }
        for slot in rotate::alarming(&table.slots, self.now()) {
            let detail = format!("the {} key {} ends at {}", slot.kind.as_str(), slot.key_id, slot.not_after);
            self.ports.events.event(IdentityEvent::Alarm { code: "key_expires", detail });
        }
        drop(table);
        done.pruned = self.prune().await?.saturating_add(self.prune_tokens().await?);
        while self.prune_revocations(PRUNE_LIMIT).await? == PRUNE_LIMIT {}
        Ok(done)
    }

    async fn take(
        &self,
        kind: KeyKind,
        step: Step,
        table: &mut KeyTable,
        done: &mut Rotation,
    ) -> Result<(), AuthorityError> {
        match step {
            Step::Prepare => {
                let slot = self.make(kind, table)?;
                let KeyInfo { key_id, not_after, .. } = slot;
                let mut next = table.clone();
                next.slots.push(slot);
                self.commit_table(table, next).await?;
                done.prepared.push((kind, key_id));
                self.ports.events.event(IdentityEvent::KeyPrepared { kind, key_id, not_after });
            }
            Step::Activate(key_id) => {
                let mut next = table.clone();
                next.activate(key_id);
                self.commit_table(table, next).await?;
                done.activated.push((kind, key_id));
                self.ports.events.event(IdentityEvent::KeyActivated { kind, key_id });
            }
            Step::Retire(key_id) => {
                let mut next = table.clone();
                next.slots.retain(|slot| slot.key_id != key_id);
                self.commit_table(table, next).await?;
                self.vault.remove(kind, key_id)?;
                done.retired.push((kind, key_id));
                self.ports.events.event(IdentityEvent::KeyRetired { kind, key_id });
            }
        }
        Ok(())
    }

    fn make(&self, kind: KeyKind, table: &KeyTable) -> Result<KeyInfo, AuthorityError> {
        let now = self.now();
        if kind == KeyKind::Jwt {
            return self.make_jwt(now);
        }
        let root = table.find(KeyKind::Root, KeyState::Active).ok_or(AuthorityError::NoSigningKey)?;
        Self::make_signing(&self.config, &self.ports, &self.vault, root, now)
    }

    /// One transition is one transaction, with the change of the bundle that it causes (AU-04); then it is what this
    /// process does.
    pub(super) async fn commit_table(
        &self,
        table: &mut KeyTable,
        mut next: KeyTable,
    ) -> Result<(), AuthorityError> {
        let mut transaction = write_table(&next, &self.config)?;
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

    /// Removes issuance records whose certificate has expired, and expired tokens. History stays in the ledger (S17).
    async fn prune(&self) -> Result<usize, AuthorityError> {
        let (store, now) = (self.ports.store.as_ref(), self.now());
        let mut gone = attest::expired_tokens(store, now, PRUNE_LIMIT)?;
        // Serial numbers are random, so each sweep goes on where the last one stopped.
        let mut resume = self.pruned_to.lock().await;
        let page = store.range(row::ISSUED.as_bytes(), resume.as_deref(), PRUNE_LIMIT)?;
        *resume = page.last().filter(|_| page.len() == PRUNE_LIMIT).map(|last| last.key.clone());
        drop(resume);
        for stored in page {
            if now > IssuanceRecord::from_row(&stored.key, &stored.value)?.not_after {
                gone.push(stored.key);
            }
        }
        if gone.is_empty() {
            return Ok(0);
        }
        let count = gone.len();
        let transaction = gone.into_iter().fold(Transaction::new(), |transaction, key| {
            transaction.require(key.clone(), Compare::Present).delete(key)
        });
        match store.commit(transaction).await {
            Ok(_) => Ok(count),
            // A token was redeemed in between: the next sweep looks again.
            Err(base_store::StoreError::Conflict { .. }) => Ok(0),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Records of tokens stand in the order of their ends: those that have ended come first.
    async fn prune_tokens(&self) -> Result<usize, AuthorityError> {
        let (store, now) = (self.ports.store.as_ref(), self.now());
        let mut count: usize = 0;
        for _ in 0..TOKEN_PAGES {
            let mut ended = Vec::new();
            for stored in store.range(row::ISSUED_JWT.as_bytes(), None, PRUNE_LIMIT)? {
                if now <= TokenRecord::from_row(&stored.key, &stored.value)?.expires {
                    break;
                }
                ended.push(stored.key);
            }
            let (found, is_last) = (ended.len(), ended.len() < PRUNE_LIMIT);
            if found > 0 {
                let deletion = ended.into_iter().fold(Transaction::new(), Transaction::delete);
                store.commit(deletion).await?;
            }
            count = count.saturating_add(found);
            if is_last {
                break;
            }
        }
        Ok(count)
    }
}
