//! The way of finished trails to whoever writes them: bounded, and never waited for.

use base_telemetry::{Counter, Metrics};
use tokio::sync::mpsc;

use super::CallTrail;

/// So many may be under way.
const WAITING: usize = 8_192;

/// Where trails go. Cloning makes another way to the same reader.
#[derive(Debug, Clone)]
pub struct Trails {
    way: mpsc::Sender<Option<Box<CallTrail>>>,
    dropped: Counter,
}

impl Trails {
    /// A way, and where it ends; `None` comes last. What finds it full is dropped and counted; records of decisions are another matter.
    #[must_use]
    pub fn new(metrics: &Metrics) -> (Self, mpsc::Receiver<Option<Box<CallTrail>>>) {
        let (way, reader) = mpsc::channel(WAITING);
        let dropped = metrics.counter(
            "portcullis_trails_dropped",
            "Trails of calls that were not written, because their writer could not keep up.",
            &[],
        );
        let dropped = dropped.with(&[]);
        (Self { way, dropped }, reader)
    }

    /// Says that nothing more is to be written.
    pub async fn end(&self) {
        // A reader that is gone needs no end.
        self.way.send(None).await.unwrap_or_default();
    }

    pub(crate) fn put(&self, trail: CallTrail) {
        if self.way.try_send(Some(Box::new(trail))).is_err() {
            self.dropped.inc();
        }
    }
}
