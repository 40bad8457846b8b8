//! Targets of tunnels (CN-01): a host, exact or `*.suffix`, and a port that is always written.

use std::fmt;
use std::net::IpAddr;

use enforcer_codec::Call;

use super::host::Pattern;

/// A target that callers may open tunnels to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelTarget {
    host: Pattern,
    port: u16,
}

impl TunnelTarget {
    /// From `host:port`, `*.suffix:port` or `[address]:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten()?;
        (port != 0).then_some(Self { host: Pattern::parse(host)?, port })
    }

    /// Whether a call asks for it.
    pub(super) fn takes(&self, call: &Call) -> bool {
        call.target().is_some_and(|(host, port)| port == self.port && self.host.has(host))
    }

    /// The configuration names this very address.
    pub fn grants(&self, address: IpAddr) -> bool {
        matches!(&self.host, Pattern::Exact(host) if literal(host) == Some(address))
    }

    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.port != other.port || self.host.excludes(&other.host)
    }
}

/// The address that a host is, when it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl fmt::Display for TunnelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cn_01_a_target_is_a_host_and_a_port() {
        for good in ["db.test:5432", "*.db.test:443", "10.0.0.1:1", "[::1]:65535", "DB.test:80"] {
            assert!(TunnelTarget::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "db.test",
            "db.test:",
            "db.test:0",
            "db.test:65536",
            "db.test:+5",
            "*:443",
            "a b:1",
            "::1:5",
            "db.test:5:6",
            "u@h:1",
            "h/p:1",
        ] {
            assert!(TunnelTarget::parse(bad).is_none(), "{bad}");
        }
        let grants =
            |text: &str, address: &str| TunnelTarget::parse(text).unwrap().grants(address.parse().unwrap());
        assert!(grants("127.0.0.1:1", "127.0.0.1") && grants("[::1]:1", "::1"));
        assert!(!grants("127.0.0.1:1", "127.0.0.2") && !grants("localhost:1", "127.0.0.1"));
    }
}
