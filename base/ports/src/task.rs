//! Supervised tasks: named, ended with their owner, and a panic in one is contained, logged and counted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics contained since the process began.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// A group of tasks. Dropping it ends them all.
#[derive(Debug, Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    name: &'static str,
    set: Mutex<JoinSet<()>>,
}

/// One task of a group.
#[derive(Debug, Clone)]
pub struct TaskHandle(AbortHandle);

impl TaskHandle {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Tasks {
    /// An empty group; `name` stands in the log beside each task's own.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { group: Arc::new(Group { name, set: Mutex::new(JoinSet::new()) }) }
    }

    /// Starts a task on the current runtime. Its panic ends it alone.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let mut set = self.group.set.lock();
        while let Some(ended) = set.try_join_next() {
            account(self.group.name, ended);
        }
        TaskHandle(set.spawn(Watched { group: self.group.name, name, work: Box::pin(work), done: false }))
    }

    /// Waits up to `timeout` for all tasks, then ends the rest.
    pub async fn drain(&self, timeout: Duration) {
        let mut set = std::mem::replace(&mut *self.group.set.lock(), JoinSet::new());
        let all = async {
            while let Some(ended) = set.join_next().await {
                account(self.group.name, ended)
            }
        };
        if tokio::time::timeout(timeout, all).await.is_err() {
            tracing::debug!(group = self.group.name, left = set.len(), "tasks cut at the end of a drain");
        }
    }

    /// Number of tasks that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut set = self.group.set.lock();
        while let Some(ended) = set.try_join_next() {
            account(self.group.name, ended);
        }
        set.len()
    }

    /// Whether no task runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn account(group: &'static str, ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::debug!(group, "a panicked task was collected");
    }
}

/// Counts a task that is dropped while it panics: the unwinding drops the future, whoever joins it later.
struct Watched<W> {
    group: &'static str,
    name: &'static str,
    work: std::pin::Pin<Box<W>>,
    done: bool,
}

impl<W: Future<Output = ()>> Future for Watched<W> {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let polled = self.work.as_mut().poll(context);
        self.done = polled.is_ready();
        polled
    }
}

impl<W> Drop for Watched<W> {
    fn drop(&mut self) {
        if !self.done && std::thread::panicking() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                event = "task_panicked",
                group = self.group,
                task = self.name,
                "a task panicked; only it ended"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_is_counted() {
        let before = panics();
        let tasks = Tasks::new("test");
        let (say, heard) = tokio::sync::oneshot::channel();
        tasks.spawn("bad", async { panic!("on purpose") });
        tasks.spawn("good", async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            say.send(()).unwrap();
        });
        heard.await.unwrap();
        assert!(panics() > before);
        tasks.drain(Duration::from_secs(1)).await;
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn dropping_the_group_ends_its_tasks() {
        let (say, heard) = tokio::sync::oneshot::channel::<()>();
        let tasks = Tasks::new("test");
        tasks.spawn("endless", async move {
            let _held = say;
            std::future::pending::<()>().await;
        });
        drop(tasks);
        assert!(heard.await.is_err());
    }

    #[tokio::test]
    async fn a_drain_waits_and_then_cuts() {
        let tasks = Tasks::new("test");
        tasks.spawn("endless", std::future::pending());
        tasks.drain(Duration::from_millis(10)).await;
        assert!(tasks.is_empty());
    }
}
