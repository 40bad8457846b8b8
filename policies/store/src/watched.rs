//! A directory that others write to: told of by inotify, and looked at all the same, because events get lost and directories
//! get replaced. A burst of writes is one.

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::Notify, time::timeout};

/// How long nothing may have happened before the directory is read.
pub(crate) const QUIET: Duration = Duration::from_millis(200);
/// A directory that is never quiet is read after this long anyway.
const RESTLESS: Duration = Duration::from_secs(2);
/// How often to look without being told: with and without inotify.
const LOOK: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(1);

/// A directory, as long as this lives.
#[derive(Debug)]
pub struct WatchedDir {
    touched: Arc<Notify>,
    look: Duration,
    _watcher: Option<RecommendedWatcher>,
}

impl WatchedDir {
    /// Watches what stands directly in `dir`; where that cannot be, it is looked at every second.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let touched = Arc::new(Notify::new());
        let watcher = watch(dir, Arc::clone(&touched));
        let look = if watcher.is_some() { LOOK } else { POLL };
        Self { touched, look, _watcher: watcher }
    }

    /// Waits until `is_other` says that it looks other than it did, and then until nothing has happened for a fifth of a second,
    /// for two seconds at most.
    pub async fn changed<L: Future<Output = bool> + Send>(&self, mut is_other: impl FnMut() -> L + Send) {
        loop {
            let is_told = timeout(self.look, self.touched.notified()).await.is_ok();
            if is_told {
                settle(&self.touched).await;
            }
            if is_other().await {
                if !is_told {
                    settle(&self.touched).await;
                }
                return;
            }
        }
    }
}

async fn settle(touched: &Notify) {
    let until_quiet = async { while timeout(QUIET, touched.notified()).await.is_ok() {} };
    if timeout(RESTLESS, until_quiet).await.is_err() {
        tracing::debug!(event = "directory_restless", "a directory keeps changing, reading it anyway");
    }
}

fn watch(dir: &Path, touched: Arc<Notify>) -> Option<RecommendedWatcher> {
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
            tracing::warn!(event = "directory_polled", dir = %dir.display(), %cause, "cannot watch, looking every second");
        })
        .ok()
}

#[cfg(test)]
mod tests;
