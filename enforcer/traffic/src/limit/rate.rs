//! The generic cell rate algorithm over one atomic: when the next call would be due if they came evenly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::Mono;

/// Calls in a time, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between calls that come evenly, rounded up, so that never more than the rate is let through.
    interval: u64,
    burst: u32,
}

impl Rate {
    /// At most so many calls, per second, minute or hour.
    pub const MOST: u32 = 1_000_000;

    /// `count` calls in `per`, `burst` of them at once; none of these is zero.
    #[must_use]
    pub fn new(count: u32, per: Duration, burst: u32) -> Self {
        let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self { interval: nanos.div_ceil(u64::from(count.max(1))).max(1), burst: burst.max(1) }
    }

    /// From `100/s`, `600/m` or `1000/h`; as many at once, unless `burst` says otherwise.
    #[must_use]
    pub fn parse(text: &str, burst: Option<u32>) -> Option<Self> {
        let (count, per) = text.split_once('/')?;
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|count| is_number && (1..=Self::MOST).contains(count))?;
        let per = match per {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        Some(Self::new(count, Duration::from_secs(per), burst.unwrap_or(count)))
    }

    /// Calls that may come at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// The time in which a whole burst is earned again.
    #[must_use]
    pub fn window(self) -> Duration {
        Duration::from_nanos(self.span())
    }

    fn span(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst))
    }
}

/// What was taken of a rate.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Nanoseconds: when everything that was taken is earned again.
    due: AtomicU64,
}

impl Bucket {
    /// Takes one call.
    ///
    /// # Errors
    /// How long until there is one to take.
    pub(super) fn take(&self, rate: Rate, now: Mono) -> Result<(), Duration> {
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let next = next(due, rate, now)?;
            match self.due.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => due = other,
            }
        }
    }

    /// Whether there is one to take.
    ///
    /// # Errors
    /// How long until there is.
    pub(super) fn look(&self, rate: Rate, now: Mono) -> Result<(), Duration> {
        next(self.due.load(Ordering::Relaxed), rate, now).map(drop)
    }

    pub(super) fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }
}

fn next(due: u64, rate: Rate, now: Mono) -> Result<u64, Duration> {
    let now = now.as_nanos();
    let next = due.max(now).saturating_add(rate.interval);
    match (next - now).checked_sub(rate.span()) {
        None | Some(0) => Ok(next),
        Some(over) => Err(Duration::from_nanos(over)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rl_01_a_rate_is_read_and_what_is_none_is_refused() {
        let second = Duration::from_secs(1);
        for (text, burst, meant) in [
            ("100/s", None, Some(Rate::new(100, second, 100))),
            ("100/s", Some(200), Some(Rate::new(100, second, 200))),
            ("60/m", None, Some(Rate::new(1, second, 60))),
            ("1/h", None, Some(Rate::new(1, second * 3_600, 1))),
            ("1000000/s", None, Some(Rate::new(1_000_000, second, 1_000_000))),
            ("1000001/s", None, None),
            ("0/s", None, None),
            ("+1/s", None, None),
            ("/s", None, None),
            ("100", None, None),
            ("100/d", None, None),
            ("1.5/s", None, None),
            ("100/s ", None, None),
        ] {
            assert_eq!(Rate::parse(text, burst), meant, "{text} {burst:?}");
        }
    }

    #[test]
    fn rl_01_a_burst_comes_at_once_and_then_one_by_one() {
        let (bucket, rate) = (Bucket::default(), Rate::parse("10/s", Some(3)).unwrap());
        let at = |millis: u64| Mono::from_nanos(1_000_000_000 + millis * 1_000_000);
        for _ in 0..3 {
            bucket.look(rate, at(0)).unwrap();
            bucket.take(rate, at(0)).unwrap();
        }
        assert_eq!(bucket.take(rate, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(
            bucket.take(rate, at(60)),
            Err(Duration::from_millis(40)),
            "nothing is taken by who is refused"
        );
        assert_eq!(bucket.look(rate, at(99)), Err(Duration::from_millis(1)));
        bucket.take(rate, at(100)).unwrap();
        assert!(bucket.take(rate, at(100)).is_err());
        for _ in 0..3 {
            bucket.take(rate, at(9_000)).unwrap();
        }
        assert!(bucket.take(rate, at(9_000)).is_err(), "silence earns no more than a burst");
        assert_eq!(rate.window(), Duration::from_millis(300));
    }

    #[test]
    fn rl_01_workers_that_take_at_the_same_time_get_no_more_than_the_burst() {
        let (bucket, rate) = (Bucket::default(), Rate::parse("1/h", Some(1_000)).unwrap());
        let now = Mono::from_nanos(7);
        let taken: usize = std::thread::scope(|scope| {
            let worker = || (0..1_000).filter(|_| bucket.take(rate, now).is_ok()).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    proptest! {
        /// Between any two calls that pass there are never more than the burst and what the time between earns.
        #[test]
        fn rl_01_never_more_than_the_burst_and_what_the_time_earns(
            count in 1_u32..2_000,
            burst in 1_u32..50,
            pauses in proptest::collection::vec(0_u64..20_000_000, 1..300),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::new(count, Duration::from_secs(1), burst));
            let (mut now, mut passed) = (1_u64 << 40, Vec::new());
            for pause in pauses {
                now += pause;
                match bucket.take(rate, Mono::from_nanos(now)) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        let wait = u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(wait > 0);
                        prop_assert!(bucket.look(rate, Mono::from_nanos(now + wait)).is_ok(), "who waits as told, passes");
                        prop_assert!(bucket.look(rate, Mono::from_nanos(now + wait - 1)).is_err());
                    }
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let earned = (to - from) as f64 * f64::from(count) / 1e9;
                    prop_assert!((last - first + 1) as f64 <= f64::from(burst) + earned + 1e-6);
                }
            }
        }
    }
}
