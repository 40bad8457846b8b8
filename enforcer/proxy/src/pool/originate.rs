//! Mutual TLS to the endpoints of a cluster, with the own SVID, to nobody but the expected peers (TL-09).

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base_ports::{NetAddr, Stream};
use ca_identity::Usage;
use ca_identity::tls::{Expected, Trust, client_config, peer};
use enforcer_traffic::{TlsSettings, UpstreamProtocol};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::wire::{SecuredWire, Standing, Wire};
use crate::listening::{H2, HTTP_1_1};

/// Secures connections to one endpoint.
pub(crate) struct Originator {
    pub(super) settings: TlsSettings,
    trust: Arc<Trust>,
    connector: TlsConnector,
    name: ServerName<'static>,
    protocol: UpstreamProtocol,
}

impl Originator {
    pub(crate) fn new(
        settings: &TlsSettings,
        trust: &Arc<Trust>,
        protocol: UpstreamProtocol,
        address: &NetAddr,
    ) -> Self {
        let alpn: &[&[u8]] = match protocol {
            UpstreamProtocol::Http1 => &[HTTP_1_1],
            UpstreamProtocol::Http2 => &[H2],
            UpstreamProtocol::Tcp => &[],
        };
        let expected = Expected::Matching(settings.expect.clone());
        let name = settings.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        Self {
            settings: settings.clone(),
            connector: TlsConnector::from(client_config(trust, expected, alpn)),
            trust: Arc::clone(trust),
            // An address is never told to the peer.
            name: name.unwrap_or_else(|| {
                let ip = address.tcp().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
                ServerName::IpAddress(ip.into())
            }),
            protocol,
        }
    }

    /// The handshake. How long it may take is the caller's word.
    ///
    /// # Errors
    /// When it fails, when the own SVID is missing or expired, when the peer does not speak the protocol.
    pub(crate) async fn secure(&self, stream: Stream) -> io::Result<Wire> {
        let trusted = self.trust.snapshot();
        let own = trusted.own.as_ref().filter(|own| own.is_valid_at(self.trust.now()));
        let own = own.ok_or_else(|| io::Error::other("there is no valid SVID to show"))?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let session = stream.get_ref().1;
        if self.protocol == UpstreamProtocol::Http2 && session.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the endpoint does not speak http/2"));
        }
        let peer = peer(&self.trust, session.peer_certificates(), Usage::Server).map_err(io::Error::other)?;
        let peer = peer.ok_or_else(|| io::Error::other("the endpoint showed no certificate"))?;
        let standing = Arc::new(Standing::new(peer, own.not_after, trusted.generation));
        Ok(Wire::Tls(Box::new(SecuredWire::new(stream, standing))))
    }

    /// Whom the cluster expects, as people wrote it.
    pub(crate) fn expected(&self) -> String {
        self.settings.expect.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Originator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Originator").field("settings", &self.settings).finish_non_exhaustive()
    }
}
