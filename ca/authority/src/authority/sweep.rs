//! The sweep: carries out the rotation plan and removes rows that have outlived their use.
//!
//! `portcullis` calls it on a timer, about once a minute; calling it too often changes nothing (AU-06).

use base_store::{Compare, Transaction};

use super::Authority;
use super::slots::BY_ITSELF;
use crate::attest;
use crate::error::AuthorityError;
use crate::issue::IssuanceRecord;
use crate::keys::{KeyKind, KeyTable};
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
    /// Prepares, activates and retires roots, signing CAs and keys for tokens as time demands, and prunes what has expired.
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
                    // The root itself is at its end: no signing CA fits below it until its successor has its turn.
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
            Step::Prepare => done.prepared.push((kind, self.prepare(kind, table, BY_ITSELF).await?.key_id)),
            Step::Activate(key_id) => {
                self.activate(kind, key_id, table, BY_ITSELF).await?;
                done.activated.push((kind, key_id));
            }
            Step::Retire(key_id) => {
                self.retire(kind, key_id, table).await?;
                done.retired.push((kind, key_id));
            }
        }
        Ok(())
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
