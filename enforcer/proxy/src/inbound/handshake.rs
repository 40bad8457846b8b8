//! From a raw socket to a secured connection: TLS 1.3 within its time, and the peer's identity taken once.
//!
//! A gateway without a valid SVID of its own shows nothing and takes nobody in (TL-08). A peer whose certificate is
//! refused gets the TLS alert for it and a record; it learns no more.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use base_net::{Peer, Stream};
use ca_identity::tls::{self, ClientAuth};
use ca_identity::{Refusal, Usage, VerifiedPeer};
use policies_engine::Protocol;
use tokio_rustls::server::TlsStream;

use super::Connection;
use crate::authorize::not_secured;
use crate::listening::{H2, Listening};
use crate::secured::{Bound, Secured};
use crate::worker::Worker;

/// The address of the caller, and the port that it called.
type Ends = (SocketAddr, u16);

/// Secures a connection, or ends it.
pub(super) async fn secure(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    stream: Stream,
    peer: Peer,
) -> Option<(Connection, Box<TlsStream<Stream>>)> {
    let source = match peer {
        Peer::Tcp(address) => address,
        Peer::Unix { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let port = match &stream {
        Stream::Tcp(stream) => stream.local_addr().map_or(0, |address| address.port()),
        Stream::Unix(_) => 0,
    };
    if !worker.holds_identity() {
        worker.meters.handshake("no_svid");
        return None;
    }
    let timer = worker.wheel.timer();
    timer.set(worker.clock.mono() + listening.timers.handshake);
    let mut accepting = pin!(listening.acceptor.accept(stream));
    let accepted = poll_fn(|context| match accepting.as_mut().poll(context) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => timer.poll(context).map(|()| None),
    })
    .await;
    drop(timer);
    let tls = match accepted {
        Some(Ok(tls)) => Box::new(tls),
        Some(Err(error)) => {
            match tls::refusal_in(&error) {
                Some(refusal) => refused(worker, listening, (source, port), &refusal).await,
                None => worker.meters.handshake("tls"),
            }
            return None;
        }
        None => {
            worker.meters.handshake("timeout");
            return None;
        }
    };
    let session = tls.get_ref().1;
    let identity = match tls::peer(&worker.trust, session.peer_certificates(), Usage::Client) {
        Ok(None) if listening.auth == ClientAuth::Required => Err(Refusal::NoCertificate),
        identity => identity,
    };
    match identity {
        Ok(identity) => {
            worker.meters.handshake("ok");
            let is_h2 = session.alpn_protocol() == Some(H2);
            let protocol = if is_h2 { Protocol::H2 } else { Protocol::H1 };
            let sni = session.server_name().map(str::to_owned);
            let conn = bind(worker, listening, identity, (source, port), sni.as_deref(), protocol);
            Some((conn, tls))
        }
        Err(refusal) => {
            refused(worker, listening, (source, port), &refusal).await;
            None
        }
    }
}

async fn refused(worker: Arc<Worker>, listening: Arc<Listening>, ends: Ends, refusal: &Refusal) {
    worker.meters.handshake(refusal.code());
    tracing::debug!(event = "peer_refused", cause = %refusal, "a certificate was refused");
    let conn = bind(worker, listening, None, ends, None, Protocol::Tcp);
    not_secured(&conn, refusal, conn.worker.clock.now()).await;
}

fn bind(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    peer: Option<VerifiedPeer>,
    (source, port): Ends,
    sni: Option<&str>,
    protocol: Protocol,
) -> Connection {
    let bound = Bound { source, port, sni, protocol, now: worker.clock.now(), jitter: worker.rng.u64() };
    let secured = Secured::new(peer, &bound, &listening, &worker.trust);
    Connection { worker, listening, secured, lapsed: AtomicBool::new(false) }
}
