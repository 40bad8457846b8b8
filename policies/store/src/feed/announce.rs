//! Snapshots as they come into force, told to whoever only looks: manifest and note, no objects.

use super::published::Published;
use crate::position::Position;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use prost::bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// A reader hears something this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One thing told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// This snapshot is in force.
    Snapshot {
        /// Which.
        position: Position,
        /// The manifest as it was signed, byte for byte.
        manifest: Bytes,
        /// The signed note over its digest.
        note: Bytes,
    },
    /// Nothing happened.
    Heartbeat,
}

/// The newest snapshot unless it is `from`, then each that follows; a slow reader gets the newest next.
pub(super) fn stream(
    published: watch::Receiver<Option<Arc<Published>>>,
    from: Option<(u64, u64)>,
) -> BoxStream<'static, Announcement> {
    unfold((published, from), |(mut published, mut told)| async move {
        loop {
            let newest = published.borrow_and_update().clone();
            if let Some(newest) = newest.filter(|newest| told != Some(newest.position.number())) {
                told = Some(newest.position.number());
                let (manifest, note) = (newest.manifest.clone(), newest.note.clone());
                let said = Announcement::Snapshot { position: newest.position, manifest, note };
                return Some((said, (published, told)));
            }
            match timeout(HEARTBEAT, published.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return None,
                Err(_quiet) => return Some((Announcement::Heartbeat, (published, told))),
            }
        }
    })
    .boxed()
}
