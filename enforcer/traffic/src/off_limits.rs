//! Addresses that a name must not lead to (OUT5): whoever answers for a name could otherwise have the gateway call this
//! host, its neighbours on the link or the metadata service of a cloud. Applied after every resolution; a cluster may be
//! granted networks of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Network;

/// What an address is when no call may go there, unless it lies in a granted network. What is no address of one host is
/// never granted.
#[must_use]
pub fn off_limits(address: IpAddr, granted: &[Network]) -> Option<&'static str> {
    let address = address.to_canonical();
    let never = match address {
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => Some("unspecified"),
        IpAddr::V4(v4) if v4.octets().first() >= Some(&240) => Some("reserved"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        _ if address.is_multicast() => Some("multicast"),
        _ => None,
    };
    let is_granted = || granted.iter().any(|network| network.has(address));
    never.or_else(|| if is_granted() { None } else { of_one_host(address) })
}

fn of_one_host(address: IpAddr) -> Option<&'static str> {
    /// Amazon EC2 and Alibaba Cloud; elsewhere the service is link-local.
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match address {
        IpAddr::V4(METADATA_V4) | IpAddr::V6(METADATA_V6) => Some("metadata"),
        IpAddr::V4(v4) if v4.is_loopback() => Some("loopback"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.is_loopback() => Some("loopback"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        // A translator or a tunnel would bring the call to the IPv4 address inside.
        IpAddr::V6(v6) => inner(v6).and_then(|v4| off_limits(v4.into(), &[])),
    }
}

/// The IPv4 address in one of NAT64 (RFC 6052), 6to4 (RFC 3056), or of the old compatible form (RFC 4291 2.5.5.1).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let low = |shift: u32| u32::try_from((bits >> shift) & u128::from(u32::MAX)).ok().map(Ipv4Addr::from);
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0, 0, _, _] => low(0),
        [0x2002, ..] => low(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn out5_a_name_leads_neither_to_this_host_nor_to_its_link_nor_to_metadata() {
        for (address, what) in [
            ("127.0.0.1", Some("loopback")),
            ("127.9.9.9", Some("loopback")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::127.0.0.1", Some("loopback")),
            ("64:ff9b::7f00:1", Some("loopback")),
            ("2002:7f00:1::", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("64:ff9b::a9fe:a9fe", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("fd00:ec2::254", Some("metadata")),
            ("100.100.100.200", Some("metadata")),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("::", Some("unspecified")),
            ("224.0.0.1", Some("multicast")),
            ("ff02::1", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("reserved")),
            ("febf::1", Some("link-local")),
            ("2002:a9fe:a9fe::1", Some("link-local")),
            ("10.0.0.1", None),
            ("192.168.1.1", None),
            ("100.64.0.1", None),
            ("203.0.113.7", None),
            ("fd00::1", None),
            ("2001:db8::1", None),
            ("64:ff9b::cb00:7107", None),
        ] {
            assert_eq!(off_limits(address.parse().unwrap(), &[]), what, "{address}");
        }
    }

    #[test]
    fn out5_a_grant_covers_its_network_and_never_what_is_no_host() {
        let granted = |text: &str| [Network::parse(text).unwrap()];
        let of = |address: &str, network: &str| off_limits(address.parse().unwrap(), &granted(network));
        assert_eq!(of("127.0.0.1", "127.0.0.0/8"), None);
        assert_eq!(of("::ffff:127.0.0.1", "127.0.0.0/8"), None);
        assert_eq!(of("127.0.0.1", "127.0.0.2"), Some("loopback"));
        assert_eq!(of("169.254.169.254", "127.0.0.0/8"), Some("link-local"));
        assert_eq!(of("0.0.0.0", "0.0.0.0/0"), Some("unspecified"));
        assert_eq!(of("ff02::1", "::/0"), Some("multicast"));
    }

    proptest! {
        #[test]
        fn out5_no_spelling_of_an_address_passes_where_another_does_not(v4: [u8; 4]) {
            let v4 = Ipv4Addr::from(v4);
            let plain = off_limits(v4.into(), &[]);
            let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(v4.to_bits()));
            let six = Ipv6Addr::from_bits(0x2002_u128 << 112 | u128::from(v4.to_bits()) << 80);
            for other in [v4.to_ipv6_mapped(), nat64, six] {
                prop_assert_eq!(off_limits(other.into(), &[]), plain, "{}", other);
            }
        }
    }
}
