//! A version beside the one in force: evaluated, recorded where it would say something else, never decisive (SH3).
//!
//! The wish is stored, so that it survives a restart. It ends when it is taken back, when a version is activated, and by
//! itself after 24 hours or when it costs more than it may; then why is stored too. Entities that change do not end it.

use crate::{PolicyStore, PolicyStoreError, ShadowEnded, Shadowed, versions::over, writer::blocking};
use base_ports::UnixTime;
use base_store::{Store, Transaction};
use parking_lot::Mutex;
use policies_engine::{Costly, Snapshot};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

const KEY: &[u8] = b"policies/h/shadow";
const ENDED: &[u8] = b"policies/h/shadow-ended";
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often to look whether it is over: the wall clock may step.
const LOOK: Duration = Duration::from_secs(30);

/// What is wished, and how the last one ended.
#[derive(Debug)]
pub(crate) struct Shadows(Mutex<State>);

#[derive(Debug, Clone, Default)]
struct State {
    wish: Option<Shadowed>,
    ended: Option<ShadowEnded>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    policies: u64,
    until: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedRow {
    policies: u64,
    at: i64,
    why: String,
}

impl Shadows {
    pub(crate) fn open(store: &Arc<dyn Store>) -> Result<Shadows, PolicyStoreError> {
        let damaged = |cause| PolicyStoreError::damaged("shadow", cause);
        let mut state = State::default();
        if let Some(entry) = store.get(KEY)? {
            let row: Row = serde_json::from_slice(&entry.value).map_err(damaged)?;
            state.wish = Some(Shadowed { policies: row.policies, until: UnixTime::from_nanos(row.until) });
        }
        if let Some(entry) = store.get(ENDED)? {
            let EndedRow { policies, at, why } = serde_json::from_slice(&entry.value).map_err(damaged)?;
            state.ended = Some(ShadowEnded { policies, at: UnixTime::from_nanos(at), why });
        }
        Ok(Shadows(Mutex::new(state)))
    }

    pub(crate) fn now(&self) -> Option<Shadowed> {
        self.0.lock().wish
    }

    /// How the last one ended, when that was by itself.
    pub(crate) fn ended(&self) -> Option<ShadowEnded> {
        self.0.lock().ended.clone()
    }
}

/// The end of the wish, as part of what ends it.
pub(crate) fn ended(transaction: Transaction) -> Transaction {
    transaction.delete(KEY.to_vec()).delete(ENDED.to_vec())
}

impl PolicyStore {
    /// Evaluates a version beside the one in force, for 24 hours or until a version is activated; none ends it.
    ///
    /// # Errors
    /// It is not stored, is in force, is not valid any longer, or the wish cannot be stored.
    pub async fn shadow(&self, policies: Option<u64>) -> Result<(), PolicyStoreError> {
        let writer = self.writer.lock().await;
        let live = writer.live.clone();
        let Some(policies) = policies else {
            self.store.commit(ended(Transaction::new())).await?;
            self.wish(None, None);
            self.show(live);
            return Ok(());
        };
        if !writer.retained.versions().contains_key(&policies) {
            return Err(PolicyStoreError::UnknownVersion(policies));
        }
        if writer.active() == Some(policies) {
            return Err(PolicyStoreError::Input(format!("policies v{policies} is in force")));
        }
        let candidate = match &live {
            Some(live) => Some(self.shadow_of(policies, live).await?),
            None => None,
        };
        let until = self.clock.now().wall + LONGEST;
        let row = stored(&Row { policies, until: until.as_nanos() })?;
        self.store.commit(ended(Transaction::new()).put(KEY.to_vec(), row)).await?;
        self.wish(Some(Shadowed { policies, until }), None);
        let beside = |(live, candidate): (Arc<Snapshot>, _)| Arc::new(live.beside(candidate, policies));
        self.show(live.zip(candidate).map(beside));
        drop(writer);
        Ok(())
    }

    /// Ends it for that reason, if it is still that one.
    async fn end_shadow(&self, wish: Shadowed, why: String) -> Result<(), PolicyStoreError> {
        let writer = self.writer.lock().await;
        if self.shadows.now() != Some(wish) {
            return Ok(());
        }
        let over = ShadowEnded { policies: wish.policies, at: self.clock.now().wall, why };
        let row = EndedRow { policies: over.policies, at: over.at.as_nanos(), why: over.why.clone() };
        let transaction = Transaction::new().delete(KEY.to_vec()).put(ENDED.to_vec(), stored(&row)?);
        self.store.commit(transaction).await?;
        tracing::warn!(
            event = "shadow_ended",
            policies = over.policies,
            why = over.why,
            "a shadow ended by itself"
        );
        self.activations.shadow_ended(&over);
        self.wish(None, Some(over));
        self.show(writer.live.clone());
        drop(writer);
        Ok(())
    }

    fn show(&self, snapshot: Option<Arc<Snapshot>>) {
        if snapshot.is_some() {
            self.active.send_replace(snapshot);
        }
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

    /// Notes what is wished, and how the last one ended, for status.
    pub(crate) fn wish(&self, wish: Option<Shadowed>, ended: Option<ShadowEnded>) {
        *self.shadows.0.lock() = State { wish, ended: ended.clone() };
        let mut status = self.status.lock();
        (status.shadow, status.shadow_ended) = (wish, ended);
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
        if let Some(wish) = self.shadows.now().filter(|wish| wish.until <= now) {
            let hours = LONGEST.as_secs() / 3_600;
            told(self.end_shadow(wish, format!("its {hours} hours are over")).await);
        }
    }

    /// Ends a shadow whose evaluation takes too long (SH3), unless it has ended since.
    pub async fn end_costly_shadow(&self, costly: Costly) {
        if let Some(wish) = self.shadows.now().filter(|wish| wish.policies == costly.policies) {
            told(self.end_shadow(wish, costly.to_string()).await);
        }
    }
}

fn told(end: Result<(), PolicyStoreError>) {
    if let Err(cause) = end {
        tracing::warn!(event = "shadow_not_ended", %cause, "a version in shadow is over and cannot be ended");
    }
}

fn stored(row: &impl Serialize) -> Result<Vec<u8>, PolicyStoreError> {
    serde_json::to_vec(row).map_err(|cause| PolicyStoreError::damaged("shadow", cause))
}

#[cfg(test)]
mod tests;
