//! The clocks of one call (TO-01, TO-02): answer head, stillness, the call as a whole, all on one timer.
//!
//! The timer is moved once per call and whenever a body had to wait, never per piece that was there already. No call
//! outlives the identity under which it was permitted (CT-02), whatever else its clocks would allow.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base_ports::{Clock, Mono};
use enforcer_codec::Limits;
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
    /// Until the head of the answer.
    header: Duration,
    /// Without a byte.
    idle: Duration,
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
    /// For how long its caller may still be waited for, milliseconds; the end of time where it may take its time.
    credit_millis: AtomicU32,
    /// What it is waited for, and what it was handed last, bytes.
    awaited: AtomicU8,
    handed: AtomicU32,
    /// When the call is to be judged again; the end of time where the clock decides nothing.
    look_nanos: AtomicU64,
    /// KiB of memory that its bodies took when they waited last.
    held_up: AtomicU16,
    held_down: AtomicU16,
    /// Interim answers that came.
    interim: AtomicU8,
}

/// A call whose policies read the clock is judged again so often (CT-03).
const LOOK: Duration = Duration::from_secs(10);

/// Once a caller has used up its credit, it moves so many bytes a second, or its call ends (hardening.md 1).
const PACE: u64 = 1_024;
/// The most that a caller has to its credit.
const CREDIT: Duration = Duration::from_secs(10);

/// What a caller is waited for.
const NOTHING: u8 = 0;
const TO_SEND: u8 = 1;
/// It may take at once what it is handed.
const TO_TAKE: u8 = 2;
/// It did not.
const TO_READ: u8 = 3;

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
            header: timeouts.header,
            idle: timeouts.idle,
            budget,
            cap,
            end_nanos: AtomicU64::new(end.as_nanos()),
            answered: AtomicBool::new(false),
            due_nanos: AtomicU64::new(u64::MAX),
            notes: None,
            credit_millis: AtomicU32::new(u32::MAX),
            awaited: AtomicU8::new(NOTHING),
            handed: AtomicU32::new(0),
            look_nanos: AtomicU64::new(u64::MAX),
            held_up: AtomicU16::new(0),
            held_down: AtomicU16::new(0),
            interim: AtomicU8::new(0),
        };
        clocks.set(started, clocks.header);
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

    /// The same for a call whose caller must not be slow: it sends and takes a body that is no stream of messages.
    pub(crate) fn paced(self) -> Self {
        self.credit_millis.store(millis(CREDIT), Ordering::Relaxed);
        self
    }

    /// So many bytes of the answer are handed to the caller; if it does not take them at once, it is waited for.
    pub(crate) fn hands(&self, bytes: usize) {
        self.handed.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.awaited.store(TO_TAKE, Ordering::Relaxed);
    }

    /// The caller owes more of its body.
    pub(crate) fn owed(&self) {
        self.awaited.store(TO_SEND, Ordering::Relaxed);
        self.waits(Duration::ZERO);
    }

    /// The caller is waited for from now on, for so much longer than it has left.
    fn waits(&self, longer: Duration) {
        let credit = match self.credit_millis.load(Ordering::Relaxed) {
            u32::MAX => self.idle,
            credit => Duration::from_millis(credit.into()).saturating_add(longer),
        };
        self.set(self.now(), credit.min(self.idle));
    }

    /// If it was waited for, that is over, and so many bytes moved.
    pub(crate) fn served(&self, bytes: usize) {
        // What it was to take counted from the start.
        let earned = match self.awaited.swap(NOTHING, Ordering::Relaxed) {
            NOTHING | TO_TAKE => return,
            TO_READ => Duration::ZERO,
            _ => worth(bytes),
        };
        let now = self.now();
        if self.is_paced() {
            // What it was waited for less, it has left.
            let due = Mono::from_nanos(self.due_nanos.load(Ordering::Relaxed));
            let left = due.saturating_since(now).saturating_add(earned);
            self.credit_millis.store(millis(left.min(CREDIT)), Ordering::Relaxed);
        }
        self.set(now, self.idle);
    }

    /// The same, with notes of what happens.
    pub(crate) fn noting(self, notes: Option<&'w Notes>) -> Self {
        Self { notes, ..self }
    }

    /// What is noted of the call, where its trail is written.
    pub(crate) fn notes(&self) -> Option<&'w Notes> {
        self.notes
    }

    /// The body of the request, or of the answer, waits, and takes so many bytes of memory meanwhile.
    pub(crate) fn holds(&self, is_answer: bool, bytes: usize) {
        let held = if is_answer { &self.held_down } else { &self.held_up };
        held.store(u16::try_from(bytes >> 10).unwrap_or(u16::MAX), Ordering::Relaxed);
    }

    /// Bytes of memory that its bodies take, as whole KiB.
    pub(crate) fn held(&self) -> u32 {
        let [up, down] = [&self.held_up, &self.held_down].map(|held| u32::from(held.load(Ordering::Relaxed)));
        up.saturating_add(down) << 10
    }

    /// One more interim answer came; false when that are too many (hardening.md 1).
    pub(crate) fn takes_interim(&self) -> bool {
        self.interim.fetch_add(1, Ordering::Relaxed) < Limits::default().interim
    }

    /// When the call came.
    pub(crate) fn started(&self) -> Mono {
        self.started
    }

    /// The head of an answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// A clock of the call has run out, and neither its caller nor the end of its connection is to blame.
    pub(crate) fn is_overdue(&self) -> bool {
        let now = self.now();
        let is_the_callers = self.is_paced() && self.awaited.load(Ordering::Relaxed) != NOTHING;
        !is_the_callers && now.as_nanos() >= self.due_nanos.load(Ordering::Relaxed) && now < self.cap
    }

    /// The time.
    pub(crate) fn now(&self) -> Mono {
        self.clock.mono()
    }

    /// A body waits for its next part: the clock of stillness starts again.
    pub(crate) fn moved(&self) {
        self.set(self.now(), self.idle);
    }

    /// The request has been sent; its answer must begin.
    pub(crate) fn sent(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.set(self.now(), self.header);
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
        if self.awaited.load(Ordering::Relaxed) == TO_TAKE {
            self.stalls();
        }
        self.timer.poll(context).map(|()| {
            let now = self.now();
            let due = Mono::from_nanos(self.due_nanos.load(Ordering::Relaxed));
            if now < due {
                self.look_nanos.store((now + LOOK).as_nanos(), Ordering::Relaxed);
                self.ring(due);
                return Ring::Look;
            }
            Ring::Over(self.over(now))
        })
    }

    /// The call waits for its caller to take what it was handed.
    fn stalls(&self) {
        self.awaited.store(TO_READ, Ordering::Relaxed);
        let handed = usize::try_from(self.handed.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        self.waits(worth(handed));
    }

    fn is_paced(&self) -> bool {
        self.credit_millis.load(Ordering::Relaxed) != u32::MAX
    }

    /// What ended the call by the clock.
    fn over(&self, now: Mono) -> Fault {
        match self.awaited.load(Ordering::Relaxed) {
            _ if now >= self.cap => Fault::Lapsed,
            TO_READ if self.is_paced() => Fault::Unread,
            _ => Fault::Deadline,
        }
    }
}

/// For so long that many bytes are waited for.
fn worth(bytes: usize) -> Duration {
    let millis = (bytes as u64).saturating_mul(1_000).checked_div(PACE).unwrap_or_default();
    Duration::from_millis(millis)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base_ports::{ManualClock, UnixTime};

    use super::*;
    use crate::wheel::Wheel;

    const SECOND: Duration = Duration::from_secs(1);

    /// After how long a caller is given up that takes what it is waited for after each of these waits.
    fn given_up(is_paced: bool, is_answer: bool, steps: &[(usize, Duration)]) -> Option<(Duration, Fault)> {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(0)));
        let wheel = Wheel::new(Arc::<ManualClock>::clone(&clock));
        let (timer, end) = (wheel.timer(), Mono::from_nanos(u64::MAX));
        let clocks = Clocks::start(&timer, &*clock, clock.mono(), Timeouts::default(), None, end);
        let clocks = if is_paced { clocks.paced() } else { clocks };
        for (bytes, wait) in steps {
            if is_answer {
                clocks.hands(*bytes);
                clocks.stalls();
            } else {
                clocks.owed();
            }
            let end = clock.mono() + *wait;
            while clock.mono() < end {
                clock.advance(SECOND / 10);
                if clock.mono().as_nanos() >= clocks.due_nanos.load(Ordering::Relaxed) {
                    assert_eq!(clocks.is_overdue(), !is_paced, "whether the endpoint is to blame");
                    return Some((clock.mono().saturating_since(Mono::default()), clocks.over(clock.mono())));
                }
            }
            clocks.served(*bytes);
        }
        None
    }

    #[test]
    fn to_01_a_caller_that_moves_less_than_a_kibibyte_a_second_has_ten_seconds() {
        let drip = |bytes, seconds| vec![(bytes, Duration::from_secs(seconds)); 600];
        for is_answer in [true, false] {
            let (after, fault) = given_up(true, is_answer, &drip(1, 60)).unwrap();
            assert!((10.0..10.5).contains(&after.as_secs_f64()), "{after:?}");
            assert_eq!(matches!(fault, Fault::Unread), is_answer, "{fault}");
            // A byte a second is no progress to speak of.
            let (after, _) = given_up(true, is_answer, &drip(1, 1)).unwrap();
            assert!((10.0..11.5).contains(&after.as_secs_f64()), "{after:?}");
            let (after, _) = given_up(true, is_answer, &drip(512, 1)).unwrap();
            assert!((19.0..22.0).contains(&after.as_secs_f64()), "{after:?}");
            assert!(given_up(true, is_answer, &drip(1_024, 1)).is_none(), "just enough");
            assert_eq!(
                given_up(true, is_answer, &drip(16 * 1_024, 15)).is_none(),
                is_answer,
                "silence is none"
            );
            assert!(
                given_up(false, is_answer, &drip(1, 60)).is_none(),
                "streams of messages take their time"
            );
        }
        let (after, _) = given_up(true, true, &drip(16 * 1_024, 600)).unwrap();
        assert!((26.0..26.5).contains(&after.as_secs_f64()), "what is due to it counts: {after:?}");
    }
}
