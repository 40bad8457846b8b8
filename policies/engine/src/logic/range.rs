//! `ip` of Cedar: an address with a prefix.

use std::net::IpAddr;

/// An address or a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Range {
    address: IpAddr,
    prefix: u8,
}

impl Range {
    pub(crate) fn one(address: IpAddr) -> Range {
        Range { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Reads what Cedar's own parser accepted already.
    pub(super) fn parse(text: &str) -> Option<Range> {
        let Some((address, prefix)) = text.split_once('/') else { return text.parse().ok().map(Range::one) };
        let range = Range { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
        (range.prefix <= Range::one(range.address).prefix).then_some(range)
    }

    pub(super) fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }

    pub(super) fn is_loopback(self) -> bool {
        self.address.is_loopback() && self.prefix >= if self.is_v4() { 8 } else { 128 }
    }

    pub(super) fn is_multicast(self) -> bool {
        self.address.is_multicast() && self.prefix >= if self.is_v4() { 4 } else { 8 }
    }

    /// First and last address of an IPv4 range.
    pub(super) fn v4_ends(self) -> Option<(u32, u32)> {
        let IpAddr::V4(address) = self.address else { return None };
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        Some((address.to_bits() & !host, address.to_bits() | host))
    }

    /// Whether every address of this range is in `other`.
    pub(super) fn is_in(self, other: Range) -> bool {
        if let (Some((first, last)), Some((low, high))) = (self.v4_ends(), other.v4_ends()) {
            return low <= first && last <= high;
        }
        match (self.address, other.address) {
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let host = |prefix: u8| u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                let (first, last) = (a.to_bits() & !host(self.prefix), a.to_bits() | host(self.prefix));
                b.to_bits() & !host(other.prefix) <= first && last <= b.to_bits() | host(other.prefix)
            }
            _ => false,
        }
    }
}
