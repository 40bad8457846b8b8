//! Forgets versions that are neither recent nor in force nor named by a retained record (ST3). Off the way of everything
//! else: who tells entities or activates a version never waits for a search through records.

use crate::{Old, PolicyStore, PolicyStoreError, writer::blocking};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How often.
const PACE: Duration = Duration::from_secs(60);
/// How long an answer of the records holds that a snapshot must stay.
const HOLDS: Duration = Duration::from_secs(60 * 60);

impl PolicyStore {
    /// Forgets from time to time. Never returns.
    pub(crate) async fn keep_tidy(&self) {
        loop {
            tokio::time::sleep(PACE).await;
            if let Err(cause) = self.tidy().await {
                tracing::warn!(event = "versions_not_forgotten", %cause, "old versions stay");
            }
        }
    }

    pub(crate) async fn tidy(&self) -> Result<(), PolicyStoreError> {
        let now = self.clock.mono();
        let (asked, known): (Vec<Old>, BTreeSet<u64>) = {
            let mut writer = self.writer.lock().await;
            writer.named.retain(|_, since| now.saturating_since(*since) < HOLDS);
            let old = writer.retained.old(active(&writer));
            let known: BTreeSet<u64> = writer.named.keys().copied().collect();
            (old.into_iter().filter(|old| !known.contains(&old.snapshot)).collect(), known)
        };
        if asked.is_empty() {
            return Ok(());
        }
        let (pinned, asking) = (Arc::clone(&self.pinned), asked.clone());
        let named = blocking(move || Ok(pinned.named(&asking))).await?;
        let mut writer = self.writer.lock().await;
        writer.named.extend(named.iter().map(|snapshot| (*snapshot, now)));
        let free: BTreeSet<u64> =
            asked.iter().map(|old| old.snapshot).filter(|old| !named.contains(old)).collect();
        // What became old meanwhile was not asked about.
        let old = writer.retained.old(active(&writer)).into_iter().map(|old| old.snapshot);
        let stay: BTreeSet<u64> = old.filter(|old| !free.contains(old)).chain(known).collect();
        let forgotten = writer.retained.would_forget(active(&writer), &stay);
        writer.heads = self.archive.forget(&writer.heads, &forgotten).await?;
        writer.retained.forget(&forgotten);
        Ok(())
    }
}

fn active(writer: &crate::writer::Writer) -> Option<u64> {
    writer.heads.active.as_ref().map(|active| active.manifest.snapshot)
}

#[cfg(test)]
mod tests;
