//! The order to end: listeners stop, connections finish, and whoever ordered it can wait for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Gives the order.
#[derive(Debug)]
pub struct Drain {
    order: watch::Sender<bool>,
}

/// Waits for the order. A clone that lives counts as work that has not finished.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    order: watch::Receiver<bool>,
    /// Keeps a drain that was dropped without an order from looking like one.
    _alive: Arc<()>,
}

impl Drain {
    /// A drain nobody has ordered yet.
    #[must_use]
    pub fn new() -> (Self, DrainWatch) {
        let (order, watched) = watch::channel(false);
        (Self { order }, DrainWatch { order: watched, _alive: Arc::new(()) })
    }

    /// Orders the end.
    pub fn start(&self) {
        self.order.send_replace(true);
    }

    /// Waits until every watch is gone, at most `timeout`; says whether they are.
    pub async fn finished(&self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.order.closed()).await.is_ok()
    }
}

impl DrainWatch {
    /// Whether the order was given.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.order.borrow()
    }

    /// Resolves when the order is given, or when nobody can give it any more. Safe to cancel.
    pub async fn started(&mut self) {
        drop(self.order.wait_for(|ordered| *ordered).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_order_reaches_every_watch_and_waits_for_them() {
        let (drain, watch) = Drain::new();
        let mut other = watch.clone();
        assert!(!watch.is_draining());
        drain.start();
        other.started().await;
        assert!(watch.is_draining());
        assert!(!drain.finished(Duration::from_millis(5)).await, "two watches live");
        drop((watch, other));
        assert!(drain.finished(Duration::from_secs(1)).await);
    }
}
