//! The clocks of one call (TO-01, TO-02): answer head, stillness, the call as a whole, all on one timer.
//!
//! The timer is moved once per call and whenever a body had to wait, never per piece that was there already.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use base_ports::{Clock, Mono};
use enforcer_traffic::Timeouts;

use crate::fault::Fault;
use crate::wheel::Timer;

/// The running clocks of a call.
#[derive(Debug)]
pub(crate) struct Clocks<'w> {
    timer: &'w Timer<'w>,
    clock: &'w dyn Clock,
    started: Mono,
    timeouts: Timeouts,
    budget: Option<Duration>,
    /// The end of the call as a whole; `u64::MAX` when only stillness ends it.
    end_nanos: AtomicU64,
    answered: AtomicBool,
}

impl<'w> Clocks<'w> {
    /// Clocks of a call that began at `started` and may take `budget`.
    pub(crate) fn start(
        timer: &'w Timer<'w>,
        clock: &'w dyn Clock,
        started: Mono,
        timeouts: Timeouts,
        budget: Option<Duration>,
    ) -> Self {
        let end = budget.map_or(u64::MAX, |budget| (started + budget).as_nanos());
        let clocks = Self {
            timer,
            clock,
            started,
            timeouts,
            budget,
            end_nanos: AtomicU64::new(end),
            answered: AtomicBool::new(false),
        };
        clocks.set(started, timeouts.header);
        clocks
    }

    fn set(&self, now: Mono, limit: Duration) {
        let end = Mono::from_nanos(self.end_nanos.load(Ordering::Relaxed));
        self.timer.set((now + limit).min(end));
    }

    /// The time.
    pub(crate) fn now(&self) -> Mono {
        self.clock.now().mono
    }

    /// A body waits for its next part: the clock of stillness starts again.
    pub(crate) fn moved(&self) {
        self.set(self.now(), self.timeouts.idle);
    }

    /// The request has been sent; its answer must begin.
    pub(crate) fn sent(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.set(self.now(), self.timeouts.header);
        }
    }

    /// The answer began. One that streams is not bound by the clock of the whole call.
    pub(crate) fn answered(&self, streams: bool) {
        self.answered.store(true, Ordering::Relaxed);
        if streams {
            self.end_nanos.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// What is left of the time of the call; `None` when it has no limit.
    ///
    /// # Errors
    /// When nothing is left: no work is started (TO-02).
    pub(crate) fn left(&self, now: Mono) -> Result<Option<Duration>, Fault> {
        let Some(budget) = self.budget else {
            return Ok(None);
        };
        let elapsed = now.saturating_since(self.started);
        Timeouts::left(budget, elapsed).map(Some).ok_or(Fault::Deadline)
    }

    /// How long a dial may take.
    pub(crate) fn connect_limit(&self) -> Duration {
        self.timeouts.connect
    }

    /// Runs the work until a clock of the call runs out.
    pub(crate) async fn within<F>(&self, mut work: Pin<&mut F>) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Fault>>,
    {
        std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.timer.poll(context).map(|()| Err(Fault::Deadline)),
        })
        .await
    }
}
