//! TLS to the endpoints of a cluster, to nobody but who is expected there (TL-09): mutual, with the own SVID, to workloads; to
//! servers outside without it, by their name.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base_ports::{Clock, Net, NetAddr, Stream, UnixTime};
use ca_identity::Usage;
use ca_identity::tls::{
    Expected, Refused, Trust, client_config, client_config_telling, peer, web_client_config,
};
use enforcer_traffic::{TlsSettings, UpstreamProtocol};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::quic::{Datagrams, transport};
use super::wire::{SecuredWire, Standing, Wire};
use crate::listening::{H2, HTTP_1_1};
use crate::quic::H3;

/// Secures connections to one endpoint.
pub(crate) struct Originator {
    pub(super) settings: TlsSettings,
    trust: Arc<Trust>,
    /// None = the roots were not read, so nobody could be verified.
    connector: Option<TlsConnector>,
    name: ServerName<'static>,
    protocol: UpstreamProtocol,
    quic: Option<Quic>,
}

/// How an endpoint is reached over QUIC.
struct Quic {
    config: quinn::ClientConfig,
    address: SocketAddr,
    /// Why the verifier refused the peer; QUIC itself tells only an alert.
    refused: Refused,
}

impl Originator {
    pub(crate) fn new(
        settings: &TlsSettings,
        (trust, clock): (&Arc<Trust>, &Arc<dyn Clock>),
        protocol: UpstreamProtocol,
        address: &NetAddr,
    ) -> Self {
        let alpn: &[&[u8]] = match protocol {
            UpstreamProtocol::Http1 => &[HTTP_1_1],
            UpstreamProtocol::Http2 | UpstreamProtocol::Http3 => &[H2],
            UpstreamProtocol::Tcp => &[],
        };
        let (config, quic) = match settings {
            TlsSettings::Workloads { expect, .. } => {
                let expected = Expected::Matching(expect.clone());
                let quic = match (protocol, address.tcp()) {
                    (UpstreamProtocol::Http3, Some(address)) => Quic::new(trust, expected.clone(), address),
                    _ => None,
                };
                (Some(client_config(trust, expected, alpn)), quic)
            }
            TlsSettings::External { roots, .. } => {
                (roots.read.as_ref().map(|roots| web_client_config(roots, Arc::clone(clock), alpn)), None)
            }
        };
        let name = settings.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        Self {
            settings: settings.clone(),
            connector: config.map(TlsConnector::from),
            trust: Arc::clone(trust),
            // An address is never told to the peer.
            name: name.unwrap_or_else(|| {
                let ip = address.tcp().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
                ServerName::IpAddress(ip.into())
            }),
            protocol,
            quic,
        }
    }

    /// The handshake. How long it may take is the caller's word.
    ///
    /// # Errors
    /// When it fails, when the own SVID is missing or expired, when the peer does not speak the protocol.
    pub(crate) async fn secure(&self, stream: Stream) -> io::Result<Wire> {
        // The trust that the handshake begins under.
        let own = if self.is_external() { None } else { Some(self.own()?) };
        let connector = self.connector.as_ref().ok_or_else(|| io::Error::other("there are no roots"))?;
        let stream = connector.connect(self.name.clone(), stream).await?;
        let session = stream.get_ref().1;
        let is_h2 = matches!(self.protocol, UpstreamProtocol::Http2 | UpstreamProtocol::Http3);
        if is_h2 && session.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the endpoint does not speak http/2"));
        }
        let standing = own
            .map(|(generation, own_ends)| self.standing(session.peer_certificates(), own_ends, generation))
            .transpose()?;
        Ok(Wire::Tls(Box::new(SecuredWire::new(stream, standing))))
    }

    /// The same over QUIC.
    ///
    /// # Errors
    /// As those of [`secure`](Self::secure).
    pub(crate) async fn secure_quic(
        &self,
        datagrams: &Datagrams,
        net: &dyn Net,
    ) -> io::Result<(quinn::Connection, Arc<Standing>)> {
        let Some(Quic { config, address, refused }) = &self.quic else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let (generation, own_ends) = self.own()?;
        // What an attempt left that was given up.
        drop(refused.take());
        let connected = datagrams.dial(net, config.clone(), *address, &self.name.to_str()).await;
        let quic = connected.map_err(|error| refused.take().unwrap_or(error))?;
        let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'_>>>().ok());
        let standing = self.standing(chain.as_deref().map(Vec::as_slice), own_ends, generation)?;
        Ok((quic, standing))
    }

    /// The trust under which a handshake begins, and the end of the SVID that it shows.
    fn own(&self) -> io::Result<(u64, UnixTime)> {
        let trusted = self.trust.snapshot();
        let own = trusted.own.as_ref().filter(|own| own.is_valid_at(self.trust.now()));
        let own = own.ok_or_else(|| io::Error::other("there is no valid SVID to show"))?;
        Ok((trusted.generation, own.not_after))
    }

    fn standing(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        own_ends: UnixTime,
        generation: u64,
    ) -> io::Result<Arc<Standing>> {
        let peer = peer(&self.trust, chain, Usage::Server).map_err(io::Error::other)?;
        let peer = peer.ok_or_else(|| io::Error::other("the endpoint showed no certificate"))?;
        Ok(Arc::new(Standing::new(peer, own_ends, generation)))
    }

    /// Its peers are no workloads: what they are does not depend on the trust in force.
    pub(super) fn is_external(&self) -> bool {
        matches!(self.settings, TlsSettings::External { .. })
    }

    /// Whom the cluster expects, as people wrote it.
    pub(crate) fn expected(&self) -> String {
        self.settings.expected().join(", ")
    }
}

impl Quic {
    fn new(trust: &Arc<Trust>, expected: Expected, address: SocketAddr) -> Option<Self> {
        let (tls, refused) = client_config_telling(trust, expected, &[H3]);
        let tls = QuicClientConfig::try_from(tls).ok()?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(transport());
        Some(Self { config, address, refused })
    }
}

impl fmt::Debug for Originator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Originator").field("settings", &self.settings).finish_non_exhaustive()
    }
}
