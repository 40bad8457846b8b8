//! From a frame to a snapshot in force: checked, completed, compiled, swapped, told; or refused, with the
//! reason.

use super::{
    Follower, Writer,
    apply::{self, Applied},
    blocking,
    held::{Held, Offer, received},
    refused::Refused,
};
use crate::{content::Hash, generated::messages};
use prost::bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

/// What came of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    InForce,
    /// It was seen before: in force already, or refused already.
    Known,
    Refused(Refused),
}

impl Follower {
    /// Checks a frame and puts it into force, or says why not. `fetch` gets objects that the frame lacks; `tell` runs
    /// when it is known what came of the frame.
    pub(crate) async fn take(
        &self,
        frame: messages::Snapshot,
        fetch: impl AsyncFnOnce(Vec<Hash>) -> Result<HashMap<Hash, Bytes>, Refused>,
        tell: impl AsyncFnOnce(),
    ) -> Taken {
        let mut writer = self.writer.lock().await;
        let digest = Hash::of(&frame.manifest).0;
        let is_held = writer.held.as_ref().is_some_and(|held| held.offer.position.digest == digest);
        if is_held || writer.refused == Some(digest) {
            drop(writer);
            tell().await;
            return Taken::Known;
        }
        let taken = match self.complete(&writer, frame, fetch).await.map(Arc::new) {
            Ok(held) => self.apply(&mut writer, &held).await.map(|()| held),
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(held) => {
                writer.refused = None;
                self.state.lock().refused = None;
                self.write_soon(held).await;
                drop(writer);
                tell().await;
                Taken::InForce
            }
            Err(refused) => {
                // Only what the publisher signed stays refused; what somebody changed on the way says nothing about it.
                if refused.offered.is_some() {
                    writer.refused = Some(digest);
                }
                self.refuse(refused.clone());
                drop(writer);
                tell().await;
                Taken::Refused(refused)
            }
        }
    }

    pub(super) async fn complete(
        &self,
        writer: &Writer,
        frame: messages::Snapshot,
        fetch: impl AsyncFnOnce(Vec<Hash>) -> Result<HashMap<Hash, Bytes>, Refused>,
    ) -> Result<Held, Refused> {
        let messages::Snapshot { manifest, note, objects } = frame;
        let offer = Offer::verified(manifest, note, &self.keys())?;
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

    /// Compiles and swaps.
    pub(super) async fn apply(&self, writer: &mut Writer, held: &Arc<Held>) -> Result<(), Refused> {
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
        writer.held = Some(Arc::clone(held));
        Ok(())
    }

    pub(super) fn refuse(&self, refused: Refused) {
        let mut state = self.state.lock();
        state.status.reloads.refused += 1;
        if state.refused.as_ref() != Some(&refused) {
            for finding in refused.diagnostics() {
                tracing::warn!(event = "snapshot_refused", code = finding.code, "{finding}");
            }
        }
        state.refused = Some(refused);
    }
}
