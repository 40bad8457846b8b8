//! Conditions on who calls and from where: verified identity, network.

use std::fmt;
use std::net::IpAddr;

use ca_identity::{SpiffeId, TrustDomain};

/// Some of all identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Exact(SpiffeId),
    /// Everybody in the trust domain.
    Domain(TrustDomain),
    /// Below this path, by whole segments; it begins with `/` and does not end with one.
    Below(TrustDomain, Box<str>),
}

impl Identity {
    /// From `spiffe://td/path`, `spiffe://td/path/*`, `spiffe://td/*` or `spiffe://td`.
    pub(super) fn parse(text: &str) -> Option<Self> {
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

    pub(super) fn has(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(known) => known == id,
            Self::Domain(domain) => id.is_member_of(domain),
            Self::Below(domain, path) => {
                let rest = || id.path().strip_prefix(&**path);
                id.is_member_of(domain) && rest().is_some_and(|rest| rest.starts_with('/'))
            }
        }
    }

    /// True when no identity is in both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
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

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => f.write_str(id.as_str()),
            Self::Domain(domain) => write!(f, "spiffe://{domain}"),
            Self::Below(domain, path) => write!(f, "spiffe://{domain}{path}/*"),
        }
    }
}

/// A network in CIDR form (RFC 4632, RFC 4291 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// From `10.0.0.0/8`, `2001:db8::/32` or one address. Bits behind the length must be 0.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        let network = Self { address, length };
        let is_whole = length <= most && masked(address, length) == bits(address);
        is_whole.then_some(network)
    }

    pub(super) fn has(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.length) == bits(self.address)
    }

    /// True when no address is in both.
    pub(super) fn excludes(self, other: Self) -> bool {
        let (wide, narrow) = if self.length <= other.length { (self, other) } else { (other, self) };
        !wide.has(narrow.address)
    }
}

/// The bits of an address from the left of 128.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn masked(address: IpAddr, length: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(length.into())).unwrap_or(0);
    bits(address) & mask
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(text: &str) -> Identity {
        Identity::parse(text).unwrap_or_else(|| panic!("{text}"))
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
            assert_eq!(Identity::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rt_01_networks_take_whole_prefixes_only() {
        for (network, address, has) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "::1", true),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.has(address.parse().unwrap()), has, "{network} has {address}");
        }
        for bad in
            ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::/129", "10.0.0.0/", "a", "1::/+8"]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rt_02_who_excludes_each_other_never_has_the_same_caller(
            one in "spiffe://(a|b)(/[xy]){0,2}(/[*])?", two in "spiffe://(a|b)(/[xy]){0,2}(/[*])?",
            id in "spiffe://(a|b)(/[xy]){1,4}", left in "(0|64|128|192)[.]0[.]0[.]0/[12]", right in "(0|64|128|192)[.]0[.]0[.]0/[12]", address: [u8; 4],
        ) {
            let id = SpiffeId::parse(&id).unwrap();
            let (one, two) = (identity(&one), identity(&two));
            prop_assert!(!(one.excludes(&two) && one.has(&id) && two.has(&id)), "{} {} {}", one, two, id.as_str());
            prop_assert_eq!(one.excludes(&two), two.excludes(&one));
            if let (Some(left), Some(right)) = (Network::parse(&left), Network::parse(&right)) {
                let address = IpAddr::from(address);
                prop_assert!(!(left.excludes(right) && left.has(address) && right.has(address)));
                prop_assert_eq!(left.excludes(right), right.excludes(left));
            }
        }
    }
}
