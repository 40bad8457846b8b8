//! One listener as a worker serves it: names, deadlines, TLS.

use std::fmt;
use std::sync::Arc;

use base_net::Timers;
use base_telemetry::Gauge;
use ca_identity::tls::{ClientAuth, NamedCertificate, Trust, server_config_by_name};
use enforcer_codec::{Scheme, Transport};
use enforcer_traffic::Network;
use policies_engine::Protocol;
use tokio_rustls::TlsAcceptor;

use crate::{Callers, Carries, Issuer, ListenerSpec};

pub(crate) const H2: &[u8] = b"h2";
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// What every connection of a listener shares.
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    /// By which a view knows its mode.
    pub(crate) number: usize,
    pub(crate) auth: ClientAuth,
    /// For whom tokens must be that name callers without a certificate; empty = tokens are not looked at.
    pub(crate) audience: Vec<String>,
    pub(crate) issuers: Vec<Arc<Issuer>>,
    pub(crate) timers: Timers,
    pub(crate) handshakes_per_source: usize,
    pub(crate) max_body: Option<u32>,
    /// Bytes of memory that the calls of a connection may hold.
    pub(crate) max_held: u64,
    pub(crate) tells_shed: bool,
    pub(crate) transport: Transport,
    pub(crate) carries: Carries,
    /// Empty where callers connect themselves.
    pub(crate) forwarders: Vec<Network>,
    pub(crate) certificates: Vec<Arc<NamedCertificate>>,
    /// The local application; none = callers come under TLS.
    pub(crate) callers: Option<Arc<Callers>>,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) open: Gauge,
    hosts: Vec<Host>,
    /// What is told of HTTP/3 on which ports.
    alternatives: Vec<(u16, String)>,
}

#[derive(Debug)]
enum Host {
    Exact(String),
    /// What ends in this, dot included.
    Below(String),
}

impl Listening {
    pub(crate) fn new(spec: &ListenerSpec, trust: &Arc<Trust>, open: Gauge) -> Self {
        let hosts = spec.hosts.iter().map(|host| {
            let host = host.to_ascii_lowercase();
            match host.strip_prefix('*') {
                Some(suffix) => Host::Below(suffix.to_owned()),
                None => Host::Exact(host),
            }
        });
        Self {
            name: Arc::clone(&spec.name),
            number: spec.number,
            auth: spec.client_auth,
            audience: spec.audience.clone(),
            issuers: spec.issuers.clone(),
            timers: spec.timers,
            handshakes_per_source: spec.handshakes_per_source,
            max_body: spec.max_body,
            max_held: spec.max_held,
            tells_shed: spec.tells_shed,
            transport: Transport {
                profile: spec.profile,
                ..Transport::new(if spec.callers.is_some() { Scheme::Http } else { Scheme::Https })
            },
            carries: spec.carries,
            forwarders: spec.forwarders.clone(),
            certificates: spec.certificates.clone(),
            callers: spec.callers.clone(),
            acceptor: TlsAcceptor::from(server_config_by_name(
                trust,
                spec.client_auth,
                spec.carries.alpn(),
                &spec.certificates,
            )),
            open,
            hosts: hosts.collect(),
            alternatives: spec
                .alternatives()
                .map(|port| (port, format!("h3=\":{port}\"; ma=3600")))
                .collect(),
        }
    }

    /// What a caller over TCP is told of HTTP/3 on the port that it called (RFC 7838).
    pub(crate) fn alternative(&self, port: u16) -> Option<&str> {
        self.alternatives.iter().find(|(known, _)| *known == port).map(|(_, told)| told.as_str())
    }

    /// The certificate that a caller sees who asked for that name; none = the own SVID.
    pub(crate) fn certificate(&self, sni: Option<&str>) -> Option<&Arc<NamedCertificate>> {
        self.certificates.iter().find(|known| sni.is_some_and(|name| known.covers(name)))
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

impl Carries {
    /// What is offered to callers, by their ALPN.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http | Self::Any => &[H2, HTTP_1_1],
            Self::Http1 => &[HTTP_1_1],
            Self::Http2 => &[H2],
            Self::Bytes => &[],
        }
    }

    /// What a connection speaks whose caller chose that; none when it is not spoken here (DT-04).
    pub(crate) fn protocol(self, chosen: Option<&[u8]>) -> Option<Protocol> {
        match (self, chosen == Some(H2)) {
            (Self::Bytes, _) => Some(Protocol::Tcp),
            (Self::Http | Self::Http2 | Self::Any, true) => Some(Protocol::H2),
            (Self::Http | Self::Http1 | Self::Any, false) => Some(Protocol::H1),
            (Self::Http1, true) | (Self::Http2, false) => None,
        }
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
            number: 0,
            is_sidecar: false,
            binds: Vec::new(),
            sockets: Vec::new(),
            certificates: Vec::new(),
            carries: Carries::Http,
            forwarders: Vec::new(),
            quic: Vec::new(),
            callers: None,
            client_auth: ClientAuth::Required,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            timers: Timers::default(),
            caps: base_net::Caps::default(),
            handshakes_per_source: 64,
            max_body: None,
            max_held: 20 << 20,
            audience: Vec::new(),
            issuers: Vec::new(),
            tells_shed: true,
            profile: enforcer_codec::Profile::Mesh,
        };
        let trust = Trust::new(Arc::new(base_ports::SystemClock));
        let gauge = Metrics::new().gauge("g", "G.", &[]).with(&[]);
        Listening::new(&spec, &trust, gauge)
    }

    #[test]
    fn dt_04_a_caller_that_names_no_protocol_gets_none_that_it_must_name() {
        for (carries, without, with_h2) in [
            (Carries::Http, Some(Protocol::H1), Some(Protocol::H2)),
            (Carries::Http1, Some(Protocol::H1), None),
            (Carries::Http2, None, Some(Protocol::H2)),
            (Carries::Bytes, Some(Protocol::Tcp), Some(Protocol::Tcp)),
        ] {
            assert_eq!(
                (carries.protocol(None), carries.protocol(Some(H2))),
                (without, with_h2),
                "{carries:?}"
            );
        }
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
