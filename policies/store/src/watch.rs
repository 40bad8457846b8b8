//! Notices that somebody edited the directory: by inotify, and by looking, because events get lost and directories
//! get replaced. A burst of edits is one look.

use crate::PolicyStore;
use notify::{Event, RecursiveMode, Watcher};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

/// How long nothing may have happened before the directory is read.
const QUIET: Duration = Duration::from_millis(200);
/// A directory that is never quiet is read after this long anyway.
const RESTLESS: Duration = Duration::from_secs(2);
/// How often to look without being told: with and without inotify.
const LOOK: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(1);

/// Reloads `store` whenever `dir` looks other than it did. Never returns.
pub(crate) async fn run(store: Arc<PolicyStore>, dir: PathBuf) {
    let touched = Arc::new(Notify::new());
    let watcher = watch(&dir, Arc::clone(&touched));
    let look = if watcher.is_some() { LOOK } else { POLL };
    loop {
        let is_told = timeout(look, touched.notified()).await.is_ok();
        if is_told {
            settle(&touched).await;
        }
        let (looking, place) = (Arc::clone(&store), dir.clone());
        let is_outdated = tokio::task::spawn_blocking(move || looking.is_outdated(&place)).await;
        if is_outdated.unwrap_or(true) {
            if !is_told {
                settle(&touched).await;
            }
            store.reload().await;
        }
    }
}

/// Waits until nothing has happened for [`QUIET`], for [`RESTLESS`] at most.
async fn settle(touched: &Notify) {
    let until_quiet = async { while timeout(QUIET, touched.notified()).await.is_ok() {} };
    if timeout(RESTLESS, until_quiet).await.is_err() {
        tracing::debug!(event = "policies_restless", "the directory keeps changing, reading it anyway");
    }
}

fn watch(dir: &Path, touched: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<Event>| {
        // Our own reading is no change.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            touched.notify_one();
        }
    };
    let watching = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|cause| {
            tracing::warn!(event = "policies_polled", dir = %dir.display(), %cause, "cannot watch, looking every second");
        })
        .ok()
}

#[cfg(test)]
mod tests;
