//! What an endpoint's answers take: a moving average that jumps to each peak and fades (LB-02, LB-03).
//!
//! Average and time share one atomic, so no lock is needed and no reader sees one without the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::Mono;

/// Half of what is known is forgotten in about seven seconds.
const TAU: f64 = 10_000.0;
const FIRST_MICROS: u32 = 1_000_000;
/// Of an average that nobody measured: beyond the cap, so it is free for this.
const GUESS: u32 = 1 << 31;
const FLOOR_MICROS: u32 = 1_000;
const CAP: Duration = Duration::from_secs(300);
/// What an endpoint costs at least after an answer that says it is in trouble.
const PENALTY: Duration = Duration::from_secs(5);
/// A sample that lost so many races is left out: others told the same.
const RACES: usize = 3;

/// The expected latency of one endpoint.
#[derive(Debug)]
pub struct Latency(AtomicU64);

impl Latency {
    /// Of an endpoint that comes into use: a second, which fades like all that is known.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self(AtomicU64::new(pack(FIRST_MICROS | GUESS, millis(now))))
    }

    /// Learns how long the first byte of an answer took.
    pub fn sample(&self, took: Duration, now: Mono) {
        let sample = micros(took);
        let now = millis(now);
        let mut seen = self.0.load(Ordering::Relaxed);
        for _ in 0..RACES {
            let (average, at) = unpack(seen);
            let learned = if sample > average & !GUESS || average & GUESS != 0 {
                sample
            } else {
                let weight = fade(now.wrapping_sub(at));
                round(f64::from(average) * weight + f64::from(sample) * (1.0 - weight))
            };
            let next = pack(learned.max(FLOOR_MICROS), now);
            match self.0.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Learns of an answer that says the endpoint is in trouble; `wish` is how long it asks to be left alone.
    pub fn penalty(&self, took: Duration, wish: Option<Duration>, now: Mono) {
        self.sample(took.max(PENALTY).max(wish.unwrap_or_default()).min(CAP), now);
    }

    /// The cost of one more call, with `in_flight` already there: microseconds of waiting.
    #[must_use]
    pub fn cost(&self, in_flight: u32, now: Mono) -> u64 {
        let (average, at) = unpack(self.0.load(Ordering::Relaxed));
        let faded = round(f64::from(average & !GUESS) * fade(millis(now).wrapping_sub(at)));
        u64::from(faded.max(FLOOR_MICROS)) * (u64::from(in_flight) + 1)
    }
}

/// The part that is left of an average after so many milliseconds; a clock that ran backwards leaves all.
fn fade(passed: u32) -> f64 {
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    (-f64::from(passed) / TAU).exp()
}

fn micros(took: Duration) -> u32 {
    u32::try_from(took.min(CAP).as_micros()).unwrap_or(u32::MAX)
}

fn millis(now: Mono) -> u32 {
    u32::try_from((now.as_nanos() / 1_000_000) & u64::from(u32::MAX)).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "INVARIANT: between 0 and u32::MAX"
)]
fn round(micros: f64) -> u32 {
    micros as u32
}

fn pack(micros: u32, millis: u32) -> u64 {
    (u64::from(micros) << 32) | u64::from(millis)
}

fn unpack(packed: u64) -> (u32, u32) {
    let low = u32::try_from(packed & u64::from(u32::MAX)).unwrap_or(0);
    (u32::try_from(packed >> 32).unwrap_or(0), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn lb_02_an_average_jumps_to_a_peak_and_fades_from_it() {
        let latency = Latency::new(at(5));
        assert_eq!(latency.cost(0, at(5)), 1_000_000, "nothing is known: one second");
        latency.sample(ms(10), at(5));
        assert_eq!(latency.cost(0, at(5)), 10_000, "the first sample counts as it is");
        latency.sample(ms(400), at(5));
        assert_eq!(latency.cost(0, at(5)), 400_000);
        // After one tau, 1/e of the peak is left, and the sample has the rest.
        latency.sample(ms(10), at(15));
        let e = (400_000.0 - 10_000.0) * (-1.0_f64).exp() + 10_000.0;
        assert!(latency.cost(0, at(15)).abs_diff(e as u64) <= 1, "{}", latency.cost(0, at(15)));
        assert_eq!(latency.cost(3, at(15)), latency.cost(0, at(15)) * 4);
        assert_eq!(latency.cost(0, at(1_000)), 1_000, "never below the floor");
    }

    #[test]
    fn lb_03_trouble_costs_five_seconds_or_as_long_as_the_endpoint_wishes() {
        for (took, wish, cost) in [(1, None, 5), (9_000, None, 9), (1, Some(60), 60), (1, Some(9_999), 300)] {
            let latency = Latency::new(at(1));
            latency.penalty(ms(took), wish.map(Duration::from_secs), at(1));
            assert_eq!(latency.cost(0, at(1)), cost * 1_000_000, "{took} {wish:?}");
        }
    }

    #[test]
    fn lb_02_threads_that_sample_at_once_never_mix_average_and_time() {
        let latency = Latency::new(at(1));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let latency = &latency;
                scope.spawn(move || {
                    for turn in 0..10_000 {
                        latency.sample(ms(20 + thread), at(1 + turn / 1_000));
                        let cost = latency.cost(0, at(1 + turn / 1_000));
                        assert!((1_000..=1_000_000).contains(&cost), "{cost}");
                    }
                });
            }
        });
    }
}
