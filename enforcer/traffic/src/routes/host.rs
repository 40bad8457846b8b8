//! The first step of a match: the host, exact before the longest suffix before any.

use std::collections::HashMap;
use std::fmt;

use enforcer_codec::{Call, NotCanonical, Scheme, canonical};

use super::paths::Paths;
use crate::Arrival;

/// A host pattern of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    Any,
    Exact(String),
    /// The part after `*.`.
    Suffix(String),
}

impl Pattern {
    /// From its configured form: a name without port, or `*.suffix`. Case and a trailing dot do not matter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let canonical = |host: &str| {
            let name = canonical::authority(host.as_bytes(), Scheme::Https).ok()?.into_owned();
            let is_ported = name.contains(':') && !name.ends_with(']');
            let was_ported = host.contains(':') && !host.ends_with(']');
            (!is_ported && !was_ported).then_some(name)
        };
        match text.strip_prefix("*.") {
            Some(suffix) if suffix.starts_with('[') => None,
            Some(suffix) => Some(Self::Suffix(canonical(suffix)?)),
            None => Some(Self::Exact(canonical(text)?)),
        }
    }

    /// Whether it takes that lower-case name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(host) => host == name,
            Self::Suffix(suffix) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }

    /// True when no name is taken by both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => false,
            (Self::Exact(name), some) | (some, Self::Exact(name)) => !some.has(name),
            (Self::Suffix(a), Self::Suffix(b)) => a != b && !self.has(b) && !other.has(a),
        }
    }
}

/// Whether some name is taken by both, each exact or `*.suffix`; what is neither takes none.
pub fn hosts_meet(one: &str, other: &str) -> bool {
    let both = Pattern::parse(one).zip(Pattern::parse(other));
    both.is_some_and(|(one, other)| !one.excludes(&other))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Exact(host) => write!(f, "`{host}`"),
            Self::Suffix(suffix) => write!(f, "`*.{suffix}`"),
        }
    }
}

/// The paths of one listener by host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Paths>,
    suffix: HashMap<Box<str>, Paths>,
    any: Paths,
}

impl Hosts {
    pub(super) fn paths(&mut self, pattern: &Pattern) -> &mut Paths {
        match pattern {
            Pattern::Any => &mut self.any,
            Pattern::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
            Pattern::Suffix(suffix) => self.suffix.entry(suffix.as_str().into()).or_default(),
        }
    }

    /// The best route: a more specific host wins when it has a route for the call at all.
    pub(super) fn find(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<u32>, NotCanonical> {
        let host = call.host();
        if let Some(paths) = self.exact.get(host)
            && let Some(route) = paths.find(call, arrival)?
        {
            return Ok(Some(route));
        }
        if !self.suffix.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(paths) = self.suffix.get(suffix)
                    && let Some(route) = paths.find(call, arrival)?
                {
                    return Ok(Some(route));
                }
                rest = suffix;
            }
        }
        self.any.find(call, arrival)
    }
}
