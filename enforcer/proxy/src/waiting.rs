//! Calls of this worker that wait for a place at the endpoints of a cluster (EL-01, EL-02).
//!
//! A place that gets free on this worker wakes whose turn it is; one on another worker is found by the next look, every
//! tick of the wheel. Who gives up, or is no longer permitted, just goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use base_ports::Mono;
use base_telemetry::Gauge;
use enforcer_traffic::{NoWait, Queue, Ticket};
use parking_lot::Mutex;

/// Nobody waits for longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Who waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    line: Mutex<Line>,
    /// How many, so that a call that ends looks no further while nobody does.
    count: AtomicUsize,
    gauge: Gauge,
}

#[derive(Debug)]
struct Line {
    queue: Queue,
    wakers: HashMap<Ticket, Waker>,
}

/// A place in the line while it lives.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    ticket: Ticket,
}

impl Waiting {
    pub(crate) fn new(limit: u32, gauge: Gauge) -> Self {
        let queue = Queue::new(usize::try_from(limit).unwrap_or(usize::MAX));
        Self { line: Mutex::new(Line { queue, wakers: HashMap::new() }), count: AtomicUsize::new(0), gauge }
    }

    /// Takes a place until a deadline; `slots` calls are served at a time.
    ///
    /// # Errors
    /// When waiting is of no use.
    pub(crate) fn join(
        &self,
        class: u8,
        principal: u64,
        until: Mono,
        slots: u32,
        now: Mono,
    ) -> Result<Place<'_>, NoWait> {
        let ticket = self.line.lock().queue.join(class, principal, until, slots, now)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.gauge.add(1);
        Ok(Place { waiting: self, ticket })
    }

    /// Somebody waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// A call that held its place for that long is over.
    #[cold]
    pub(crate) fn freed(&self, held: Duration) {
        let mut line = self.line.lock();
        line.queue.served(held);
        line.wake_first();
    }
}

impl Line {
    fn wake_first(&mut self) {
        if let Some(waker) = self.queue.first().and_then(|first| self.wakers.remove(&first)) {
            waker.wake();
        }
    }
}

impl Place<'_> {
    /// Its turn has come. Until then its task is woken when it does.
    pub(crate) fn is_first(&self, waker: &Waker) -> bool {
        let mut line = self.waiting.line.lock();
        line.wakers.insert(self.ticket, waker.clone());
        line.queue.first() == Some(self.ticket)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.waiting.line.lock();
        line.wakers.remove(&self.ticket);
        line.queue.leave(self.ticket);
        line.wake_first();
        self.waiting.count.fetch_sub(1, Ordering::Relaxed);
        self.waiting.gauge.add(-1);
    }
}
