//! A version beside the one in force: evaluated, recorded where it would say something else, never decisive (SH3).
//!
//! The wish is stored, so that it survives a restart. It ends after 24 hours, when it is taken back, and when a version
//! is activated; entities that change do not end it.

use crate::{PolicyStore, PolicyStoreError, Shadowed, versions::over, writer::blocking};
use base_ports::UnixTime;
use base_store::{Store, Transaction};
use parking_lot::Mutex;
use policies_engine::Snapshot;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

const KEY: &[u8] = b"policies/h/shadow";
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often to look whether it is over: the wall clock may step.
const LOOK: Duration = Duration::from_secs(30);

/// What is wished.
#[derive(Debug)]
pub(crate) struct Shadows(Mutex<Option<Shadowed>>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    policies: u64,
    until: i64,
}

impl Shadows {
    pub(crate) fn open(store: &Arc<dyn Store>) -> Result<Shadows, PolicyStoreError> {
        let Some(entry) = store.get(KEY)? else { return Ok(Shadows(Mutex::new(None))) };
        let row: Row = serde_json::from_slice(&entry.value)
            .map_err(|cause| PolicyStoreError::damaged("shadow", cause))?;
        let until = UnixTime::from_nanos(row.until);
        Ok(Shadows(Mutex::new(Some(Shadowed { policies: row.policies, until }))))
    }

    pub(crate) fn now(&self) -> Option<Shadowed> {
        *self.0.lock()
    }
}

/// The end of the wish, as part of what ends it.
pub(crate) fn ended(transaction: Transaction) -> Transaction {
    transaction.delete(KEY.to_vec())
}

impl PolicyStore {
    /// Evaluates a version beside the one in force, for 24 hours or until a version is activated; none ends it.
    ///
    /// # Errors
    /// It is not stored, is in force, is not valid any longer, or the wish cannot be stored.
    pub async fn shadow(&self, policies: Option<u64>) -> Result<(), PolicyStoreError> {
        let writer = self.writer.lock().await;
        let until = self.clock.now().wall + LONGEST;
        let wish = policies.map(|policies| Shadowed { policies, until });
        if let Some(Shadowed { policies, .. }) = wish {
            if !writer.retained.versions().contains_key(&policies) {
                return Err(PolicyStoreError::UnknownVersion(policies));
            }
            if writer.active() == Some(policies) {
                return Err(PolicyStoreError::Input(format!("policies v{policies} is in force")));
            }
        }
        let live = writer.live.clone();
        let candidate = match (policies, &live) {
            (Some(policies), Some(live)) => Some((self.shadow_of(policies, live).await?, policies)),
            _ => None,
        };
        let transaction = match wish {
            None => ended(Transaction::new()),
            Some(Shadowed { policies, until }) => {
                let row = Row { policies, until: until.as_nanos() };
                let row =
                    serde_json::to_vec(&row).map_err(|cause| PolicyStoreError::damaged("shadow", cause))?;
                Transaction::new().put(KEY.to_vec(), row)
            }
        };
        self.store.commit(transaction).await?;
        self.wish(wish);
        let beside = live.map(|live| match candidate {
            Some((candidate, version)) => Arc::new(live.beside(candidate, version)),
            None => live,
        });
        if beside.is_some() {
            self.active.send_replace(beside);
        }
        drop(writer);
        Ok(())
    }

    /// `snapshot`, with what is wished beside it. A version that cannot be evaluated any longer is left out, and told.
    pub(crate) async fn shadowed(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let Some(Shadowed { policies, .. }) = self.shadows.now() else { return snapshot };
        match self.shadow_of(policies, &snapshot).await {
            Ok(candidate) => Arc::new(snapshot.beside(candidate, policies)),
            Err(cause) => {
                tracing::warn!(event = "shadow_left_out", policies, %cause, "a version cannot be evaluated in shadow");
                snapshot
            }
        }
    }

    /// The version over the entities there are now.
    async fn shadow_of(
        &self,
        policies: u64,
        live: &Arc<Snapshot>,
    ) -> Result<Arc<Snapshot>, PolicyStoreError> {
        let (archive, wanted, live) = (self.archive.clone(), self.wanted.lock().clone(), Arc::clone(live));
        blocking(move || over(&archive, &wanted, policies, Some(&live))).await
    }

    /// Notes what is wished, for status.
    pub(crate) fn wish(&self, wish: Option<Shadowed>) {
        *self.shadows.0.lock() = wish;
        self.status.lock().shadow = wish;
    }

    /// Ends shadows in time. Never returns.
    pub(crate) async fn end_shadows(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.end_shadow_if_over().await;
        }
    }

    pub(crate) async fn end_shadow_if_over(&self) {
        let now = self.clock.now().wall;
        if self.shadows.now().is_some_and(|wish| wish.until <= now)
            && let Err(cause) = self.shadow(None).await
        {
            tracing::warn!(event = "shadow_not_ended", %cause, "a version in shadow is over and cannot be ended");
        }
    }
}

#[cfg(test)]
mod tests;
