//! What a candidate beside the live policies costs (SH3). One of so many of its evaluations is timed; when more than one
//! in a hundred took longer than a microsecond, in two windows one after the other, whoever runs it is told.
//!
//! Two windows, because in the first one plans are still made.

use base_ports::{Clock, Mono};
use std::{fmt, sync::Arc, time::Duration};

/// Every so many evaluations.
const EVERY: u32 = 8;
/// Timed evaluations that are looked at together: enough to tell one in a hundred from half of that.
const WINDOW: u32 = 4_096;
/// What the 99th percentile may be at most.
const BOUND: Duration = Duration::from_micros(1);

/// Evaluations of a candidate that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costly {
    /// The candidate's number.
    pub policies: u64,
    /// Evaluations that took longer than the bound.
    pub over: u32,
    /// Of so many that were timed.
    pub of: u32,
}

impl fmt::Display for Costly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = BOUND.as_micros();
        write!(f, "{} of {} timed evaluations took longer than {bound} us", self.over, self.of)
    }
}

/// The times of one worker.
#[derive(Debug)]
pub(crate) struct Cost {
    clock: Arc<dyn Clock>,
    /// Evaluations until the next that is timed.
    left: u32,
    timed: u32,
    over: u32,
    was_over: bool,
}

impl Cost {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Cost {
        Cost { clock, left: EVERY, timed: 0, over: 0, was_over: false }
    }

    /// For another candidate.
    pub(crate) fn anew(self) -> Cost {
        Cost::new(self.clock)
    }

    /// Before an evaluation: the time, when it is to be timed.
    pub(crate) fn begin(&mut self) -> Option<Mono> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return None;
        }
        self.left = EVERY;
        Some(self.clock.mono())
    }

    /// After it, once for each window that ends the second time over the bound.
    pub(crate) fn end(&mut self, began: Mono, policies: u64) -> Option<Costly> {
        let took = self.clock.mono().saturating_since(began);
        self.timed += 1;
        self.over += u32::from(took > BOUND);
        if self.timed < WINDOW {
            return None;
        }
        let costly = Costly { policies, over: self.over, of: self.timed };
        let is_over = self.over.saturating_mul(100) > self.timed;
        let is_again = is_over && self.was_over;
        (self.timed, self.over, self.was_over) = (0, 0, is_over);
        is_again.then_some(costly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{ManualClock, UnixTime};

    /// Times a window in which `slow` evaluations take that long, and the others 200 ns.
    fn window(cost: &mut Cost, clock: &ManualClock, slow: u32, took: Duration) -> Option<Costly> {
        let mut told = None;
        for at in 0..WINDOW {
            (1..EVERY).for_each(|_| assert_eq!(cost.begin(), None, "only one of {EVERY} is timed"));
            let began = cost.begin().unwrap();
            clock.advance(if at < slow { took } else { Duration::from_nanos(200) });
            let now = cost.end(began, 42);
            assert!(now.is_none() || at + 1 == WINDOW, "a window is judged at its end");
            told = now;
        }
        told
    }

    #[test]
    fn sh3_more_than_one_in_a_hundred_over_a_microsecond_is_told_the_second_time() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000)));
        let mut cost = Cost::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (bound, beyond) = (BOUND, BOUND + Duration::from_nanos(1));
        assert_eq!(window(&mut cost, &clock, WINDOW, bound), None, "at the bound is within it");
        assert_eq!(window(&mut cost, &clock, 40, beyond), None, "one in a hundred may");
        assert_eq!(window(&mut cost, &clock, 41, beyond), None, "the first time");
        assert_eq!(window(&mut cost, &clock, 0, beyond), None);
        assert_eq!(window(&mut cost, &clock, 41, beyond), None, "the first time again");
        let told = window(&mut cost, &clock, 50, beyond).unwrap();
        assert_eq!(told, Costly { policies: 42, over: 50, of: WINDOW });
        assert_eq!(told.to_string(), "50 of 4096 timed evaluations took longer than 1 us");
        let mut other = cost.anew();
        assert_eq!(window(&mut other, &clock, WINDOW, beyond), None, "another candidate begins anew");
    }
}
