//! Counts of the last seconds, good and bad, in ten buckets of one atomic each: no lock, no timer.

use std::sync::atomic::{AtomicU64, Ordering};

use base_ports::Mono;

const BUCKETS: u64 = 10;
/// A count that lost so many races is left out.
const RACES: usize = 3;
/// Of a bucket: 24 bits of its turn, 20 bits of each count.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// A sliding window over ten seconds, unless it says otherwise.
#[derive(Debug)]
pub(crate) struct Window {
    buckets: [AtomicU64; BUCKETS as usize],
    /// Seconds of each.
    seconds: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self::of(1)
    }
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// What went well.
    pub(crate) good: u64,
    /// What did not.
    pub(crate) bad: u64,
}

impl Window {
    /// One whose ten buckets hold so many seconds each.
    pub(crate) fn of(seconds: u64) -> Self {
        Self { buckets: Default::default(), seconds: seconds.max(1) }
    }

    /// Counts one.
    pub(crate) fn add(&self, is_good: bool, now: Mono) {
        let turn = self.turn(now);
        let Some(bucket) = usize::try_from(turn % BUCKETS).ok().and_then(|at| self.buckets.get(at)) else {
            return;
        };
        let mut seen = bucket.load(Ordering::Relaxed);
        for _ in 0..RACES {
            let (of, mut counts) = unpack(seen);
            if of != turn {
                counts = Counts::default();
            }
            let count = if is_good { &mut counts.good } else { &mut counts.bad };
            *count = (*count + 1).min(COUNT_MASK);
            match bucket.compare_exchange_weak(seen, pack(turn, counts), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// The sums over the window.
    pub(crate) fn counts(&self, now: Mono) -> Counts {
        let now = self.turn(now);
        let buckets = self.buckets.iter().map(|bucket| unpack(bucket.load(Ordering::Relaxed)));
        let recent = buckets.filter(|(turn, _)| now.wrapping_sub(*turn) < BUCKETS);
        recent.fold(Counts::default(), |sum, (_, counts)| Counts {
            good: sum.good + counts.good,
            bad: sum.bad + counts.bad,
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }

    /// The turn of a bucket: never 0, so that an empty bucket is nobody's.
    fn turn(&self, now: Mono) -> u64 {
        (now.as_nanos() / (self.seconds * 1_000_000_000) + BUCKETS) & ((1 << 24) - 1)
    }
}

impl Counts {
    /// Both together.
    pub(crate) fn all(self) -> u64 {
        self.good + self.bad
    }
}

fn pack(turn: u64, counts: Counts) -> u64 {
    (turn << (2 * COUNT_BITS)) | (counts.good << COUNT_BITS) | counts.bad
}

fn unpack(bucket: u64) -> (u64, Counts) {
    let counts = Counts { good: (bucket >> COUNT_BITS) & COUNT_MASK, bad: bucket & COUNT_MASK };
    (bucket >> (2 * COUNT_BITS), counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_window_holds_ten_seconds_and_no_more() {
        let window = Window::default();
        assert_eq!(window.counts(at(0)), Counts::default());
        for second in 0..20 {
            window.add(true, at(second * 1_000));
            window.add(false, at(second * 1_000 + 999));
            let held = (second + 1).min(10);
            assert_eq!(window.counts(at(second * 1_000 + 999)), Counts { good: held, bad: held }, "{second}");
        }
        assert_eq!(window.counts(at(28_999)).all(), 2);
        assert_eq!(window.counts(at(29_000)).all(), 0);
        window.add(true, at(40_000));
        window.clear();
        assert_eq!(window.counts(at(40_000)).all(), 0);
    }

    #[test]
    fn counts_stop_at_their_room_and_never_run_into_each_other() {
        let window = Window::default();
        for _ in 0..(1 << COUNT_BITS) + 5 {
            window.add(false, at(1));
        }
        assert_eq!(window.counts(at(1)), Counts { good: 0, bad: COUNT_MASK });
    }
}
