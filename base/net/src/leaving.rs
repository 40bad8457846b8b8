//! When connections are asked to go as a drain begins: each at a time of its own, so that their callers do not all come
//! back at once (DR-01).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::Mono;

/// The longest time over which they are spread.
const LONGEST: Duration = Duration::from_secs(30);

/// What all connections know of the drain that waits for them.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// When it began, nanoseconds; 0 while there is none.
    since: AtomicU64,
    /// Nanoseconds.
    spread: AtomicU64,
}

impl Leaving {
    /// A drain begins that ends within that time.
    pub(crate) fn begin(&self, now: Mono, deadline: Duration) {
        let spread = LONGEST.min(deadline / 4);
        self.spread.store(u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.since.store(now.as_nanos().max(1), Ordering::Release);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.since.load(Ordering::Acquire) > 0
    }

    /// The time over which connections are asked.
    pub(crate) fn spread(&self) -> Duration {
        Duration::from_nanos(self.spread.load(Ordering::Relaxed))
    }

    /// Whether a connection is asked to go by now; `share` is its own, random one.
    pub(crate) fn asks(&self, now: Mono, share: u8) -> bool {
        let since = self.since.load(Ordering::Acquire);
        since > 0 && now.saturating_since(Mono::from_nanos(since)) >= self.spread() / 256 * u32::from(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr_01_connections_are_asked_one_after_another_and_all_within_a_quarter_of_the_time() {
        let leaving = Leaving::default();
        let at = |millis: u64| Mono::from_nanos(millis * 1_000_000);
        assert!(!leaving.is_begun() && !leaving.asks(at(5_000), 0));
        leaving.begin(at(1_000), Duration::from_secs(40));
        assert_eq!(leaving.spread(), Duration::from_secs(10));
        assert!(leaving.asks(at(1_000), 0), "the first at once");
        let asked = |millis| (0..=u8::MAX).filter(|share| leaving.asks(at(millis), *share)).count();
        assert!((120..140).contains(&asked(6_000)), "half of them in half of the time");
        assert_eq!(asked(11_000), 256);
        leaving.begin(at(0), Duration::from_secs(300));
        assert_eq!(leaving.spread(), LONGEST);
    }
}
