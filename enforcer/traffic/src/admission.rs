//! Client-side admission (AM-01): a cluster that fails calls gets fewer of them, so that it can recover.

use base_ports::Mono;

use crate::fleet::Outcome;
use crate::window::{Counts, Window};

/// Seconds of each of the ten buckets.
const BUCKET: u64 = 3;
/// So much of the calls may fail without consequence.
const HEALTHY: f64 = 0.95;
/// Never more than this part is refused, so that a recovery is seen.
const MOST: f64 = 0.8;

/// How calls to a cluster are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// From 1; a larger one refuses more of the calls at the same success.
    pub aggression: u32,
}

/// How the calls to a cluster went in the last 30 s, for all workers.
#[derive(Debug)]
pub(crate) struct Admission(Window);

impl Default for Admission {
    fn default() -> Self {
        Self(Window::of(BUCKET))
    }
}

impl Admission {
    /// Counts a call that was sent.
    pub(crate) fn count(&self, outcome: Outcome, now: Mono) {
        match outcome {
            Outcome::Answered => self.0.add(true, now),
            Outcome::Failed | Outcome::Declined => self.0.add(false, now),
            Outcome::Nothing => {}
        }
    }

    /// Whether the next call is sent; `roll` is from 0 to 1.
    pub(crate) fn admits(&self, settings: AdmissionSettings, roll: f64, now: Mono) -> bool {
        roll >= refused(self.0.counts(now), settings.aggression)
    }
}

/// The part of the calls that is refused.
fn refused(counts: Counts, aggression: u32) -> f64 {
    let (all, good) = (counts.all() as f64, counts.good as f64);
    let excess = ((all - good / HEALTHY) / (all + 1.0)).max(0.0);
    excess.powf(1.0 / f64::from(aggression.max(1))).min(MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    const PLAIN: AdmissionSettings = AdmissionSettings { aggression: 1 };

    #[test]
    fn am_01_the_part_that_is_refused_follows_the_formula() {
        for (good, bad, aggression, wanted) in [
            (0, 0, 1, 0.0),
            (95, 5, 1, 0.0),
            (100, 0, 1, 0.0),
            (50, 50, 1, (100.0 - 50.0 / 0.95) / 101.0),
            (50, 50, 2, f64::sqrt((100.0 - 50.0 / 0.95) / 101.0)),
            (0, 1, 1, 0.5),
            (0, 1_000, 1, 0.8),
        ] {
            let part = refused(Counts { good, bad }, aggression);
            assert!((part - wanted).abs() < 1e-9, "{good} {bad} {aggression}: {part}");
        }
    }

    #[test]
    fn am_01_what_is_older_than_30_seconds_is_forgotten() {
        let admission = Admission::default();
        (0..1_000).for_each(|_| admission.count(Outcome::Failed, at(0)));
        assert!(!admission.admits(PLAIN, 0.79, at(1)));
        assert!(admission.admits(PLAIN, 0.8, at(1)), "a fifth goes on in any case");
        assert!(!admission.admits(PLAIN, 0.0, at(29)));
        assert!(admission.admits(PLAIN, 0.0, at(30)));
    }

    #[test]
    fn am_01_a_call_that_its_caller_gave_up_says_nothing() {
        let admission = Admission::default();
        (0..1_000).for_each(|_| admission.count(Outcome::Nothing, at(0)));
        assert!(admission.admits(PLAIN, 0.0, at(0)));
        admission.count(Outcome::Declined, at(0));
        assert!(!admission.admits(PLAIN, 0.4, at(0)));
    }

    proptest! {
        #[test]
        fn am_01_more_failures_never_admit_more(good in 0..100_000_u64, bad in 0..100_000_u64, more in 0..1_000_u64, aggression in 1..10_u32) {
            let counts = Counts { good, bad };
            let part = refused(counts, aggression);
            prop_assert!((0.0..=MOST).contains(&part));
            let (worse, stricter) = (Counts { good, bad: bad + more }, aggression + 1);
            prop_assert!(refused(worse, aggression) >= part - 1e-12);
            prop_assert!(refused(counts, stricter) >= part - 1e-12);
        }
    }
}
