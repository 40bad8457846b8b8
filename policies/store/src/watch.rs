//! Notices that somebody edited the directory of policies.

use crate::{PolicyStore, watched::WatchedDir};
use std::{path::PathBuf, sync::Arc};

/// Reloads `store` whenever `dir` looks other than it did. Never returns.
pub(crate) async fn run(store: Arc<PolicyStore>, dir: PathBuf) {
    let watched = WatchedDir::new(&dir);
    loop {
        watched
            .changed(|| {
                let (looking, place) = (Arc::clone(&store), dir.clone());
                async move {
                    let look = tokio::task::spawn_blocking(move || looking.is_outdated(&place));
                    look.await.unwrap_or(true)
                }
            })
            .await;
        store.reload().await;
    }
}

#[cfg(test)]
mod tests;
