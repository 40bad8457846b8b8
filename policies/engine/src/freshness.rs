//! How current the policies in force are known to be. The store says it, the proxy acts on it and records say it.

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
