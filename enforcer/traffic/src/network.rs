//! Networks: where calls come from, and where names may lead.

use std::fmt;
use std::net::IpAddr;

/// A network in CIDR form (RFC 4632, RFC 4291 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// From `10.0.0.0/8`, `2001:db8::/32` or one address. Bits behind the length must be 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
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

    /// Whether the address lies in it; one of IPv4 that is written in IPv6 counts as what it is.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.length) == bits(self.address)
    }

    /// True when no address is in both.
    pub(crate) fn excludes(self, other: Self) -> bool {
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
        fn rt_02_networks_that_exclude_each_other_never_have_the_same_caller(
            left in "(0|64|128|192)[.]0[.]0[.]0/[12]", right in "(0|64|128|192)[.]0[.]0[.]0/[12]", address: [u8; 4],
        ) {
            if let (Some(left), Some(right)) = (Network::parse(&left), Network::parse(&right)) {
                let address = IpAddr::from(address);
                prop_assert!(!(left.excludes(right) && left.has(address) && right.has(address)));
                prop_assert_eq!(left.excludes(right), right.excludes(left));
            }
        }
    }
}
