//! The clocks of one call (TO-01, TO-02): answer head, stillness, the call as a whole, all on one timer.
//!
//! The timer is moved once per call and whenever a body had to wait, never per piece that was there already. No call
//! outlives the identity under which it was permitted (CT-02), whatever else its clocks would allow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base_ports::{Clock, Mono};
use enforcer_traffic::Timeouts;

use crate::fault::Fault;
use crate::trail::Notes;
use crate::wheel::Timer;

/// The running clocks of a call.
#[derive(Debug)]
pub(crate) struct Clocks<'w> {
    timer: &'w Timer<'w>,
    clock: &'w dyn Clock,
    started: Mono,
    timeouts: Timeouts,
    budget: Option<Duration>,
    /// The end of the connection: no clock runs beyond it.
    cap: Mono,
    /// The end of the call as a whole, never after `cap`.
    end_nanos: AtomicU64,
    answered: AtomicBool,
    /// What ends the call next, whatever the timer is set to.
    due_nanos: AtomicU64,
    /// What is noted of the call for its trail.
    notes: Option<&'w Notes>,
    /// When the call is to be judged again; the end of time where the clock decides nothing.
    look_nanos: AtomicU64,
}

/// A call whose policies read the clock is judged again so often (CT-03).
const LOOK: Duration = Duration::from_secs(10);

/// What a timer rings for.
#[derive(Debug)]
pub(crate) enum Ring {
    /// The call is to be judged again.
    Look,
    /// The call is over.
    Over(Fault),
}

impl<'w> Clocks<'w> {
    /// Clocks of a call that began at `started` and may take `budget`, on a connection that ends at `cap`.
    pub(crate) fn start(
        timer: &'w Timer<'w>,
        clock: &'w dyn Clock,
        started: Mono,
        timeouts: Timeouts,
        budget: Option<Duration>,
        cap: Mono,
    ) -> Self {
        let end = budget.map_or(cap, |budget| cap.min(started + budget));
        let clocks = Self {
            timer,
            clock,
            started,
            timeouts,
            budget,
            cap,
            end_nanos: AtomicU64::new(end.as_nanos()),
            answered: AtomicBool::new(false),
            due_nanos: AtomicU64::new(u64::MAX),
            notes: None,
            look_nanos: AtomicU64::new(u64::MAX),
        };
        clocks.set(started, timeouts.header);
        clocks
    }

    fn set(&self, now: Mono, limit: Duration) {
        let end = Mono::from_nanos(self.end_nanos.load(Ordering::Relaxed));
        let due = (now + limit).min(end);
        self.due_nanos.store(due.as_nanos(), Ordering::Relaxed);
        self.ring(due);
    }

    fn ring(&self, due: Mono) {
        self.timer.set(due.min(Mono::from_nanos(self.look_nanos.load(Ordering::Relaxed))));
    }

    /// The same for a call that is to be judged again from time to time.
    pub(crate) fn looking(self, now: Mono) -> Self {
        self.look_nanos.store((now + LOOK).as_nanos(), Ordering::Relaxed);
        self.ring(Mono::from_nanos(self.due_nanos.load(Ordering::Relaxed)));
        self
    }

    /// The same, with notes of what happens.
    pub(crate) fn noting(self, notes: Option<&'w Notes>) -> Self {
        Self { notes, ..self }
    }

    /// What is noted of the call, where its trail is written.
    pub(crate) fn notes(&self) -> Option<&'w Notes> {
        self.notes
    }

    /// When the call came.
    pub(crate) fn started(&self) -> Mono {
        self.started
    }

    /// The head of an answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// A clock of the call has run out, and not because its connection came to its end.
    pub(crate) fn is_overdue(&self) -> bool {
        let now = self.now();
        now.as_nanos() >= self.due_nanos.load(Ordering::Relaxed) && now < self.cap
    }

    /// The time.
    pub(crate) fn now(&self) -> Mono {
        self.clock.mono()
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
        if let Some(notes) = self.notes {
            notes.answered(self.now());
        }
        if streams {
            self.end_nanos.store(self.cap.as_nanos(), Ordering::Relaxed);
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

    /// Ready when a clock of the call runs out, or when it is to be judged again.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Ring> {
        self.timer.poll(context).map(|()| {
            let now = self.now();
            let due = Mono::from_nanos(self.due_nanos.load(Ordering::Relaxed));
            if now < due {
                self.look_nanos.store((now + LOOK).as_nanos(), Ordering::Relaxed);
                self.ring(due);
                return Ring::Look;
            }
            Ring::Over(if now >= self.cap { Fault::Lapsed } else { Fault::Deadline })
        })
    }
}
