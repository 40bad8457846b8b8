//! One listener as a worker serves it: names, deadlines, TLS.

use std::fmt;
use std::sync::Arc;

use base_net::Timers;
use base_telemetry::Gauge;
use ca_identity::tls::{ClientAuth, Trust, server_config};
use enforcer_codec::{Scheme, Transport};
use tokio_rustls::TlsAcceptor;

use crate::ListenerSpec;

pub(crate) const H2: &[u8] = b"h2";
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// What every connection of a listener shares.
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    /// Its place among the listeners, by which a view knows its mode.
    pub(crate) number: usize,
    pub(crate) auth: ClientAuth,
    pub(crate) timers: Timers,
    pub(crate) transport: Transport,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) open: Gauge,
    hosts: Vec<Host>,
}

#[derive(Debug)]
enum Host {
    Exact(String),
    /// What ends in this, dot included.
    Below(String),
}

impl Listening {
    pub(crate) fn new(spec: &ListenerSpec, number: usize, trust: &Arc<Trust>, open: Gauge) -> Self {
        let hosts = spec.hosts.iter().map(|host| {
            let host = host.to_ascii_lowercase();
            match host.strip_prefix('*') {
                Some(suffix) => Host::Below(suffix.to_owned()),
                None => Host::Exact(host),
            }
        });
        Self {
            name: Arc::clone(&spec.name),
            number,
            auth: spec.client_auth,
            timers: spec.timers,
            transport: Transport::new(Scheme::Https),
            acceptor: TlsAcceptor::from(server_config(trust, spec.client_auth, &[H2, HTTP_1_1])),
            open,
            hosts: hosts.collect(),
        }
    }

    /// Whether the listener may serve that host (TL-07): any, when it names none (S21).
    pub(crate) fn serves(&self, host: &str) -> bool {
        self.hosts.is_empty()
            || self.hosts.iter().any(|known| match known {
                Host::Exact(name) => name == host,
                Host::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            })
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_telemetry::Metrics;

    fn listening(hosts: &[&str]) -> Listening {
        let spec = ListenerSpec {
            name: "main".into(),
            binds: Vec::new(),
            quic: Vec::new(),
            client_auth: ClientAuth::Required,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            timers: Timers::default(),
            caps: base_net::Caps::default(),
        };
        let trust = Trust::new(Arc::new(base_ports::SystemClock));
        let gauge = Metrics::new().gauge("g", "G.", &[]).with(&[]);
        Listening::new(&spec, 0, &trust, gauge)
    }

    #[test]
    fn tl_07_a_listener_serves_its_own_hosts_and_without_any_all() {
        assert!(listening(&[]).serves("anything"));
        let some = listening(&["Shop.example.org", "*.mesh.example.org"]);
        for (host, served) in [
            ("shop.example.org", true),
            ("a.mesh.example.org", true),
            ("a.b.mesh.example.org", true),
            ("mesh.example.org", false),
            (".mesh.example.org", false),
            ("xshop.example.org", false),
        ] {
            assert_eq!(some.serves(host), served, "{host}");
        }
    }
}
