//! The ways of finished trails to whoever writes them or sends them on as spans: bounded, and never waited for.

use std::sync::Arc;

use base_telemetry::{Counter, Family, Metrics};
use tokio::sync::mpsc;

use super::CallTrail;

/// So many may be under way.
const WAITING: usize = 8_192;

/// Where trails go. Cloning makes another way to the same readers.
#[derive(Debug, Clone, Default)]
pub struct Trails {
    lines: Option<Way>,
    spans: Option<(Way, u32)>,
}

/// The end of a way; `None` comes last.
pub type Reader = mpsc::Receiver<Option<Arc<CallTrail>>>;

#[derive(Debug, Clone)]
struct Way {
    sender: mpsc::Sender<Option<Arc<CallTrail>>>,
    dropped: Counter,
}

impl Trails {
    /// Every call goes that way too. What finds it full is dropped and counted; records of decisions are another matter.
    pub fn written(&mut self, metrics: &Metrics) -> Reader {
        let (way, reader) = Way::new(metrics.counter(
            "portcullis_trails_dropped",
            "Trails of calls that were not written, because their writer could not keep up.",
            &[],
        ));
        self.lines = Some(way);
        reader
    }

    /// Sampled calls go that way: those whose caller says so, and of those without a trace so many in 10,000.
    pub fn sampled(&mut self, share: u32, metrics: &Metrics) -> Reader {
        let (way, reader) = Way::new(metrics.counter(
            "portcullis_spans_dropped",
            "Spans of sampled calls that were not sent, because their exporter could not keep up.",
            &[],
        ));
        self.spans = Some((way, share));
        reader
    }

    /// Says that nothing more is to be written.
    pub async fn end(&self) {
        for way in self.lines.iter().chain(self.spans.iter().map(|(way, _)| way)) {
            // A reader that is gone needs no end.
            way.sender.send(None).await.unwrap_or_default();
        }
    }

    /// There is a line for every call.
    pub(super) fn tells_all(&self) -> bool {
        self.lines.is_some()
    }

    /// How many in 10,000 calls without a trace are sampled; none where no call is.
    pub(super) fn share(&self) -> Option<u32> {
        self.spans.as_ref().map(|(_, share)| *share)
    }

    pub(crate) fn put(&self, trail: CallTrail) {
        let spans = self.spans.as_ref().filter(|_| trail.is_sampled()).map(|(way, _)| way);
        let trail = Arc::new(trail);
        self.lines.iter().chain(spans).for_each(|way| way.put(&trail));
    }
}

impl Way {
    fn new(dropped: Family<Counter>) -> (Self, Reader) {
        let (sender, reader) = mpsc::channel(WAITING);
        (Self { sender, dropped: dropped.with(&[]) }, reader)
    }

    fn put(&self, trail: &Arc<CallTrail>) {
        if self.sender.try_send(Some(Arc::clone(trail))).is_err() {
            self.dropped.inc();
        }
    }
}
