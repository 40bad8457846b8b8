//! From pressure to what is given up (OV-01): a ladder whose steps are taken at once and left a little below, so that
//! nothing flaps. Nothing on it permits anything.

use std::collections::VecDeque;
use std::time::Duration;

/// The delay that stands for a second counts; one alone may be a moment.
const SAMPLES: usize = 10;
/// So far below where it is taken, a step is left.
const BELOW: f64 = 0.05;

/// What is given up; each step includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Calm,
    /// Half of the time for heads and of idleness.
    Shorter,
    /// Connections without a call.
    Idle,
    /// New connections, callers without identity, routes of low priority.
    New,
    /// Calls.
    Calls,
}

impl Step {
    /// In the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Shorter, Self::Idle, Self::New, Self::Calls];

    /// The pressure at which it is taken.
    fn at(self) -> f64 {
        match self {
            Self::Calm => f64::NEG_INFINITY,
            Self::Shorter => 0.85,
            Self::Idle => 0.90,
            Self::New => 0.95,
            Self::Calls => 0.98,
        }
    }
}

/// Where a worker stands.
#[derive(Debug, Default)]
pub struct Ladder {
    step: Step,
}

impl Ladder {
    /// The step after that pressure, where 1 is the limit.
    pub fn observe(&mut self, pressure: f64) -> Step {
        let stays = |step: &&Step| pressure >= step.at() - BELOW && **step <= self.step;
        let taken = |step: &&Step| pressure >= step.at();
        let last = |is: &dyn Fn(&&Step) -> bool| Step::ALL.iter().filter(is).max().copied();
        self.step = last(&stays).max(last(&taken)).unwrap_or(self.step);
        self.step
    }
}

/// For how long the tasks of a worker wait before they run.
#[derive(Debug)]
pub struct Delay {
    longest: Duration,
    recent: VecDeque<Duration>,
}

impl Delay {
    /// Of a worker that is at its limit when its tasks wait for `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self { longest, recent: VecDeque::new() }
    }

    /// The pressure after one more sample: the shortest delay of the last ten, so that only a queue that stands counts.
    pub fn observe(&mut self, delay: Duration) -> f64 {
        if self.recent.len() >= SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(delay);
        match self.recent.iter().min() {
            Some(least) if self.recent.len() == SAMPLES => least.as_secs_f64() / self.longest.as_secs_f64(),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ov_01_steps_are_taken_at_once_and_left_five_hundredths_below() {
        let mut ladder = Ladder::default();
        for (pressure, step) in [
            (0.0, Step::Calm),
            (0.849, Step::Calm),
            (0.85, Step::Shorter),
            (0.899, Step::Shorter),
            (0.81, Step::Shorter),
            (0.799, Step::Calm),
            (0.90, Step::Idle),
            (0.86, Step::Idle),
            (0.849, Step::Shorter),
            (0.95, Step::New),
            (0.98, Step::Calls),
            (7.0, Step::Calls),
            (0.94, Step::Calls),
            (0.929, Step::New),
            (0.899, Step::Idle),
            (0.0, Step::Calm),
            (1.0, Step::Calls),
            (0.0, Step::Calm),
        ] {
            assert_eq!(ladder.observe(pressure), step, "at {pressure}");
        }
        ladder.observe(0.96);
        assert_eq!(ladder.observe(f64::NAN), Step::New, "what is no number changes nothing");
    }

    #[test]
    fn ov_01_only_a_delay_that_stands_for_a_second_is_pressure() {
        let millis = Duration::from_millis;
        let mut delay = Delay::new(millis(50));
        for _ in 0..9 {
            assert!(delay.observe(millis(500)) < 0.01);
        }
        assert!((delay.observe(millis(50)) - 1.0).abs() < 0.01);
        assert!(delay.observe(millis(1)) < 0.1, "one moment without a queue is enough");
        for _ in 0..9 {
            assert!(delay.observe(millis(500)) < 0.1);
        }
        assert!(delay.observe(millis(45)) > 0.89);
    }

    proptest! {
        #[test]
        fn ov_01_a_step_holds_only_where_its_pressure_is_or_was_and_falls_with_it(
            pressures in proptest::collection::vec(0.0_f64..1.2, 1..200),
        ) {
            let mut ladder = Ladder::default();
            let mut before = Step::Calm;
            for pressure in pressures {
                let step = ladder.observe(pressure);
                let next = Step::ALL.iter().find(|other| **other > step);
                prop_assert!(next.is_none_or(|next| pressure < next.at()), "{pressure} is not answered");
                prop_assert!(pressure >= step.at() - BELOW, "{step:?} at {pressure}");
                prop_assert!(step <= before || pressure >= step.at(), "{before:?} rose to {step:?} at {pressure}");
                before = step;
            }
        }
    }
}
