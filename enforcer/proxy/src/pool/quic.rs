//! QUIC to endpoints: the sockets of a worker, one per family of addresses, and what its connections grant.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base_ports::Net;
use h3::error::Code;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig};

use crate::quic::{bounded, varint};

/// Also what tells that an endpoint is gone (QU-07).
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
/// So long an end is told to endpoints.
const PARTING: Duration = Duration::from_millis(50);

/// From where endpoints are dialled.
#[derive(Default)]
pub(crate) struct Datagrams {
    v4: Mutex<Option<quinn::Endpoint>>,
    v6: Mutex<Option<quinn::Endpoint>>,
}

impl Datagrams {
    /// Connects, within a runtime. A peer that rejects us may say so later (TL-10).
    ///
    /// # Errors
    /// As over TCP: what the verifier refused, or the alert of the peer, can be read from the error.
    pub(crate) async fn dial(
        &self,
        net: &dyn Net,
        config: quinn::ClientConfig,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<Connection> {
        let connecting = self.from(net, address)?.connect_with(config, address, name);
        connecting.map_err(io::Error::other)?.await.map_err(failed)
    }

    /// Tells every endpoint that its connections are over, as this worker ends.
    pub(super) async fn close(&self) {
        let open = [self.v4.lock().take(), self.v6.lock().take()];
        for endpoint in open.into_iter().flatten() {
            endpoint.close(varint(Code::H3_NO_ERROR.value()), b"");
            // Whoever does not hear of it finds out by its own timers.
            tokio::time::timeout(PARTING, endpoint.wait_idle()).await.unwrap_or_default();
        }
    }

    fn from(&self, net: &dyn Net, address: SocketAddr) -> io::Result<quinn::Endpoint> {
        let (slot, any) = match address {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.lock();
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let (own, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        let endpoint = quinn::Endpoint::new(own, None, net.datagrams(any)?, runtime)?;
        Ok(slot.insert(endpoint).clone())
    }
}

/// What a connection to an endpoint may use. An endpoint opens no requests.
pub(super) fn transport() -> Arc<TransportConfig> {
    let mut config = bounded();
    config
        .max_concurrent_bidi_streams(0_u32.into())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok());
    Arc::new(config)
}

/// The alert with which the peer ended a connection (RFC 9001, 4.8: 0x100 and the alert).
pub(super) fn alert(error: &ConnectionError) -> Option<io::Error> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    let alert = u64::from(close.error_code).checked_sub(0x100)?;
    Some(ca_identity::tls::alerted(u8::try_from(alert).ok()?))
}

fn failed(error: ConnectionError) -> io::Error {
    match alert(&error) {
        Some(alerted) => alerted,
        None if error == ConnectionError::TimedOut => io::ErrorKind::TimedOut.into(),
        None => io::Error::other(error),
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").finish_non_exhaustive()
    }
}
