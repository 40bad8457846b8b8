//! QUIC: the endpoint of a listener, and what it grants its callers.
//!
//! Each worker has an endpoint of its own on the port; datagrams find it by the id of their connection ([`lane`]).
//! Identity is asked for after the handshake alone: nothing is accepted or answered in its first flights (QU-02).

mod keys;
mod lane;
mod port;
mod streams;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use ca_identity::tls::server_config_by_name;
use enforcer_traffic::Step;
use futures_util::FutureExt;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt};

use tokio::sync::watch;

use crate::inbound;
use crate::listeners::Entry;
use crate::listening::Listening;
use crate::load::Served;
use crate::shaken::Shaking;
use crate::worker::Worker;

pub(crate) use keys::Keys;
pub(crate) use lane::{Lane, Steered};
pub(crate) use port::Known;
use port::Port;
pub(crate) use streams::{Both, Held, Intake, Opener, Receiving, Sending, Stopped, Transport, Watch};

pub(crate) const H3: &[u8] = b"h3";
/// Fields of a message at most.
pub(crate) const FIELD_SECTION: u64 = 64 * 1024;

/// As over HTTP/2.
const BIDI: u32 = 256;
const UNI: u32 = 16;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Connections that wait. From half of the handshakes on that may run, a source must prove that it receives (QU-04).
const HANDSHAKES: usize = 1024;
/// What arrives of connections that wait.
const WAITING: u64 = 16 * 1024 * 1024;
const CRYPTO: usize = 16 * 1024;

/// Accepts the connections of one datagram socket until the drain, then waits for their end.
pub(crate) async fn accept(
    worker: Arc<Worker>,
    mut served: watch::Receiver<Arc<Listening>>,
    (socket, lane): (UdpSocket, Lane),
    Entry { gate, mut drain, connections, left, .. }: Entry,
) {
    let mut listening = Arc::clone(&served.borrow_and_update());
    let name = Arc::clone(&listening.name);
    let Some((endpoint, own)) = endpoint(&worker, &listening, socket, lane) else {
        tracing::error!(event = "quic_failed", listener = %name, "the endpoint of a listener did not start");
        return;
    };
    let port = endpoint.local_addr().map_or(0, |address| address.port());
    let shaken = Arc::clone(&worker.fleets.shaken);
    let mut is_over = false;
    loop {
        // What has arrived before a drain is taken in still.
        let incoming = if is_over {
            endpoint.accept().now_or_never().flatten()
        } else {
            tokio::select! {
                () = drain.started() => {
                    is_over = true;
                    continue;
                }
                Ok(()) = served.changed() => {
                    listening = Arc::clone(&served.borrow_and_update());
                    if let Some(config) = server(&worker, &listening) {
                        endpoint.set_server_config(Some(config));
                    }
                    continue;
                }
                incoming = endpoint.accept() => incoming,
            }
        };
        let Some(incoming) = incoming else { break };
        if shaken.is_half_full() && incoming.may_retry() && !incoming.remote_address_validated() {
            // INVARIANT: an error means that the source has proved itself, which was just denied.
            incoming.retry().unwrap_or_default();
            continue;
        }
        let source = incoming.remote_address();
        if let Some(strain) = worker.load.gives_up(Step::New) {
            worker.meters.shed(strain);
            incoming.refuse();
            continue;
        }
        let Some(shaking) = shaken.begin(source, listening.handshakes_per_source) else {
            incoming.refuse();
            continue;
        };
        if !worker.holds_identity() {
            worker.meters.handshake("no_svid");
            incoming.refuse();
            continue;
        }
        let Ok(permit) = gate.enter(source, &drain) else {
            incoming.refuse();
            continue;
        };
        let arrived = Arrived { incoming, source, port, shaking, known: own.greet(source) };
        let counted = Served::begin(&worker.load);
        let serving = inbound::quic(Arc::clone(&worker), Arc::clone(&listening), arrived, permit);
        connections.spawn("quic", async move {
            serving.await;
            drop(counted);
        });
    }
    endpoint.set_server_config(None);
    if drain.is_relieved() {
        if let Err(cause) = own.leave() {
            tracing::warn!(event = "quic_connections_lost", listener = %name, %cause, "some connections cannot be kept apart");
        }
        own.drained().await;
    }
    drop(left);
    endpoint.wait_idle().await;
}

/// A connection whose handshake has not begun.
pub(crate) struct Arrived {
    pub(crate) incoming: Incoming,
    pub(crate) source: SocketAddr,
    /// The local port.
    pub(crate) port: u16,
    pub(crate) shaking: Shaking,
    pub(crate) known: Known,
}

fn server(worker: &Worker, listening: &Listening) -> Option<ServerConfig> {
    let tls = server_config_by_name(&worker.trust, listening.auth, &[H3], &listening.certificates);
    let tls = QuicServerConfig::try_from(tls).ok()?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport(listening)))
        .token_key(Arc::clone(&worker.quic.retry) as _)
        .max_incoming(HANDSHAKES)
        .incoming_buffer_size(WAITING / HANDSHAKES as u64)
        .incoming_buffer_size_total(WAITING);
    Some(config)
}

fn endpoint(
    worker: &Worker,
    listening: &Listening,
    socket: UdpSocket,
    lane: Lane,
) -> Option<(Endpoint, Arc<Port>)> {
    let config = server(worker, listening)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let ids = lane.ids();
    let port = Port::new(socket, lane, worker.meters.steered()).ok()?;
    let socket = Arc::clone(&port) as Arc<dyn quinn::AsyncUdpSocket>;
    let mut own = EndpointConfig::new(Arc::clone(&worker.quic.reset));
    own.cid_generator(move || Box::new(ids.clone()));
    let endpoint = Endpoint::new_with_abstract_socket(own, Some(config), socket, runtime).ok()?;
    Some((endpoint, port))
}

/// What every connection of a caller may use.
fn transport(listening: &Listening) -> TransportConfig {
    let mut config = bounded();
    config
        .max_concurrent_bidi_streams(BIDI.into())
        .keep_alive_interval(None)
        .max_idle_timeout(IdleTimeout::try_from(listening.timers.idle).ok());
    config
}

/// What holds for connections in both directions.
pub(crate) fn bounded() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(UNI.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .crypto_buffer_size(CRYPTO)
        .datagram_receive_buffer_size(None);
    config
}

/// Closes a connection with an error of HTTP/3.
pub(crate) fn close(quic: &quinn::Connection, code: h3::error::Code, reason: &[u8]) {
    quic.close(varint(code.value()), reason);
}

/// INVARIANT: codes and stream ids of HTTP/3 are below 2^62.
pub(crate) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
