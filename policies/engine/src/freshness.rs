//! How current the policies in force are known to be. The store says it, the proxy acts on it and records say it.

use std::time::Duration;

/// How long the publisher of policies may be silent; none: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From then on decisions say that they may be out of date.
    pub stale_after: Option<Duration>,
    /// From then on every call is denied.
    pub deny_after: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Patience {
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3_600));
        Patience { stale_after: Some(Duration::from_secs(300)), deny_after: Some(hours(24)) }
    }
}

impl Patience {
    /// What a silence of that length means.
    #[must_use]
    pub fn after(self, silence: Duration) -> Freshness {
        let is_past = |limit: Option<Duration>| limit.is_some_and(|limit| silence >= limit);
        match (is_past(self.deny_after), is_past(self.stale_after)) {
            (true, _) => Freshness::Expired,
            (false, true) => Freshness::Stale,
            (false, false) => Freshness::Fresh,
        }
    }

    /// The same with limits of its own, where there are any; zero: never.
    #[must_use]
    pub fn or_own(self, stale_after: Option<Duration>, deny_after: Option<Duration>) -> Patience {
        let own = |own: Option<Duration>, general| own.map_or(general, |own| (!own.is_zero()).then_some(own));
        Patience {
            stale_after: own(stale_after, self.stale_after),
            deny_after: own(deny_after, self.deny_after),
        }
    }

    /// The lengths of silence from which on something is different.
    pub fn limits(self) -> impl Iterator<Item = Duration> {
        self.stale_after.into_iter().chain(self.deny_after)
    }
}

/// Whether whoever publishes the policies was heard lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Freshness {
    /// Lately, or they come from nobody else.
    #[default]
    Fresh,
    /// Not lately; decisions say so.
    Stale,
    /// Not for so long that nothing may be decided by them (`policy_stale`).
    Expired,
}

impl Freshness {
    /// `fresh`, `stale` or `expired`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
            Freshness::Expired => "expired",
        }
    }
}
