//! Sets of identities as people write them in routes and clusters.

use std::fmt;

use crate::{SpiffeId, TrustDomain};

/// Some of all identities: one, those of a trust domain, or those below a path of it; never all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdPattern {
    /// This one.
    Exact(SpiffeId),
    /// Everybody in the trust domain.
    Domain(TrustDomain),
    /// Below this path, by whole segments; it begins with `/` and does not end with one.
    Below(TrustDomain, Box<str>),
}

impl IdPattern {
    /// From `spiffe://td/path`, `spiffe://td/path/*`, `spiffe://td/*` or `spiffe://td`.
    pub fn parse(text: &str) -> Option<Self> {
        let (stem, is_below) = match text.strip_suffix("/*") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let id = SpiffeId::parse(stem).ok()?;
        Some(match (id.path(), is_below) {
            ("", _) => Self::Domain(id.trust_domain().clone()),
            (path, true) => Self::Below(id.trust_domain().clone(), path.into()),
            (_, false) => Self::Exact(id),
        })
    }

    /// True when `id` is one of them.
    pub fn has(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(known) => known == id,
            Self::Domain(domain) => id.is_member_of(domain),
            Self::Below(domain, path) => {
                let rest = || id.path().strip_prefix(&**path);
                id.is_member_of(domain) && rest().is_some_and(|rest| rest.starts_with('/'))
            }
        }
    }

    /// The trust domain that all of them belong to.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Exact(id) => id.trust_domain(),
            Self::Domain(domain) | Self::Below(domain, _) => domain,
        }
    }

    /// True when no identity is in both.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(id), some) | (some, Self::Exact(id)) => !some.has(id),
            (Self::Domain(a), Self::Domain(b) | Self::Below(b, _)) | (Self::Below(b, _), Self::Domain(a)) => {
                a != b
            }
            (Self::Below(a, one), Self::Below(b, two)) => {
                let is_below = |low: &str, high: &str| {
                    low.strip_prefix(high).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                a != b || !(is_below(one, two) || is_below(two, one))
            }
        }
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => f.write_str(id.as_str()),
            Self::Domain(domain) => write!(f, "spiffe://{domain}"),
            Self::Below(domain, path) => write!(f, "spiffe://{domain}{path}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(text: &str) -> IdPattern {
        IdPattern::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn rt_01_identities_match_exactly_by_trust_domain_or_by_segment() {
        let exact = "spiffe://example.org/ns/shop/web";
        for (pattern, id, has) in [
            (exact, exact, true),
            (exact, "spiffe://example.org/ns/shop/web2", false),
            (exact, "spiffe://other.org/ns/shop/web", false),
            ("spiffe://example.org", exact, true),
            ("spiffe://example.org/*", exact, true),
            ("spiffe://example.org", "spiffe://example.org.evil/ns", false),
            ("spiffe://example.org/ns/shop/*", exact, true),
            ("spiffe://example.org/ns/sho/*", exact, false),
            ("spiffe://example.org/ns/shop/web/*", exact, false),
        ] {
            assert_eq!(identity(pattern).has(&SpiffeId::parse(id).unwrap()), has, "{pattern} has {id}");
        }
        for bad in [
            "",
            "*",
            "example.org",
            "spiffe://",
            "spiffe://Example.org/a",
            "spiffe://example.org/*/a",
            "spiffe://example.org/",
        ] {
            assert_eq!(IdPattern::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rt_02_who_excludes_each_other_never_has_the_same_caller(
            one in "spiffe://(a|b)(/[xy]){0,2}(/[*])?", two in "spiffe://(a|b)(/[xy]){0,2}(/[*])?",
            id in "spiffe://(a|b)(/[xy]){1,4}",
        ) {
            let id = SpiffeId::parse(&id).unwrap();
            let (one, two) = (identity(&one), identity(&two));
            prop_assert!(!(one.excludes(&two) && one.has(&id) && two.has(&id)), "{} {} {}", one, two, id.as_str());
            prop_assert_eq!(one.excludes(&two), two.excludes(&one));
        }
    }
}
