//! Ending well: one side starts the drain and waits for connections, all others watch (DR-01).
//! Works across runtimes: workers of a proxy and the control runtime share one drain.

use crate::leaving::Leaving;
use base_ports::Mono;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// The side that starts a drain and waits for its end. Dropping it starts nothing.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// The side that stops taking new work when the drain starts.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    shared: Arc<Shared>,
    started: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    started: watch::Sender<bool>,
    /// Another process accepts on the same sockets.
    is_relieved: AtomicBool,
    leaving: Leaving,
    open: AtomicUsize,
    closed: Notify,
}

impl Drain {
    /// Both sides.
    #[must_use]
    pub fn new() -> (Drain, DrainWatch) {
        let (sender, started) = watch::channel(false);
        let shared = Arc::new(Shared {
            started: sender,
            is_relieved: AtomicBool::new(false),
            leaving: Leaving::default(),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
        });
        (Drain { shared: Arc::clone(&shared) }, DrainWatch { shared, started })
    }

    /// Another watching side.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { shared: Arc::clone(&self.shared), started: self.shared.started.subscribe() }
    }

    /// Tells all watchers to stop. Once started, it stays so.
    pub fn start(&self) {
        self.shared.started.send_replace(true);
    }

    /// The same; connections are asked to go one after another, so that all have ended by `deadline` (DR-01). Told again, it
    /// is another deadline.
    pub fn start_within(&self, now: Mono, deadline: Duration) {
        self.shared.leaving.begin(now, deadline);
        self.start();
    }

    /// The same, and another accepts on the same sockets: what waits there is left to it (UP-02).
    pub fn start_relieved(&self, now: Mono, deadline: Duration) {
        self.shared.is_relieved.store(true, Ordering::Release);
        self.start_within(now, deadline);
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open, for at most `limit`. False when some still are ([`Drain::open`]); what
    /// happens to them is the caller's decision.
    pub async fn finished(&self, limit: Duration) -> bool {
        let none_open = async {
            loop {
                // Registered before the check, so that the last close cannot fall between.
                let mut closed = std::pin::pin!(self.shared.closed.notified());
                closed.as_mut().enable();
                if self.open() == 0 {
                    return;
                }
                closed.await;
            }
        };
        tokio::time::timeout(limit, none_open).await.is_ok()
    }
}

impl DrainWatch {
    /// Whether the drain has started.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.started.borrow()
    }

    /// Whether another accepts what waits.
    #[must_use]
    pub fn is_relieved(&self) -> bool {
        self.shared.is_relieved.load(Ordering::Acquire)
    }

    /// Returns once the drain has started. Cancel-safe.
    pub async fn started(&mut self) {
        if self.started.wait_for(|started| *started).await.is_err() {
            // INVARIANT: the sender lives in `shared`, which `self` holds, so this arm is not reached.
            std::future::pending::<()>().await;
        }
    }

    /// The time over which connections are asked to go, once the drain has started.
    #[must_use]
    pub fn spread(&self) -> Duration {
        self.shared.leaving.spread()
    }

    /// One more open connection, until the guard is dropped.
    pub(crate) fn hold(&self) -> OpenGuard {
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        OpenGuard(Arc::clone(&self.shared))
    }
}

#[derive(Debug)]
pub(crate) struct OpenGuard(Arc<Shared>);

impl OpenGuard {
    pub(crate) fn leaving(&self) -> &Leaving {
        &self.0.leaving
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn watchers_see_the_start_also_when_they_come_late() {
        let (drain, mut watch) = Drain::new();
        assert!(!watch.is_draining());
        assert!(tokio::time::timeout(Duration::from_secs(60), watch.started()).await.is_err());
        let mut early = watch.clone();
        tokio::join!(early.started(), async { drain.start() });
        drain.watch().started().await;
        assert!(watch.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn finished_waits_for_the_last_connection_and_not_longer() {
        let (drain, watch) = Drain::new();
        let (one, two) = (watch.hold(), watch.hold());
        let closing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(two);
        };
        let begun = tokio::time::Instant::now();
        let (ended, ()) = tokio::join!(drain.finished(Duration::from_secs(30)), closing);
        assert_eq!((ended, begun.elapsed().as_secs()), (true, 2));
        assert!(drain.finished(Duration::ZERO).await, "nothing open needs no time");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_stay_are_counted_when_the_time_is_over() {
        let (drain, watch) = Drain::new();
        let held = watch.hold();
        assert!(!drain.finished(Duration::from_secs(30)).await);
        assert_eq!(drain.open(), 1);
        drop(held);
        assert_eq!(drain.open(), 0);
    }

    #[tokio::test]
    async fn a_dropped_drain_starts_nothing() {
        let (drain, mut watch) = Drain::new();
        drop(drain);
        assert!(tokio::time::timeout(Duration::from_millis(10), watch.started()).await.is_err());
        assert!(!watch.is_draining());
    }
}
