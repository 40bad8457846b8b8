//! Where a bundle may be fetched from: a name that leads to this machine, to its neighbours or to a metadata service is
//! refused unless the configuration lists that network (NA-07). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_traffic::Network;

/// Metadata services that are not link-local.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// Whether bundles may come from there.
pub(super) fn is_allowed(address: IpAddr, listed: &[Network]) -> bool {
    let address = address.to_canonical();
    let is_special = match address {
        IpAddr::V4(v4) => {
            let is_this_net = v4.octets().first() == Some(&0);
            v4.is_loopback() || v4.is_link_local() || is_this_net || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()
        }
    };
    !(is_special || METADATA.contains(&address)) || listed.iter().any(|network| network.has(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn na_07_special_addresses_are_refused_unless_they_are_listed() {
        let listed = [Network::parse("127.0.0.0/8").unwrap()];
        for (text, alone, with) in [
            ("192.0.2.1", true, true),
            ("10.0.0.1", true, true),
            ("2001:db8::1", true, true),
            ("127.0.0.1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::1", false, false),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
            ("255.255.255.255", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("100.100.100.200", false, false),
            ("fd00:ec2::254", false, false),
        ] {
            let address = text.parse().unwrap();
            assert_eq!((is_allowed(address, &[]), is_allowed(address, &listed)), (alone, with), "{text}");
        }
    }
}
