//! From a raw socket to a secured connection: TLS 1.3 within its time, and the peer's identity taken once.
//!
//! A gateway without a valid SVID of its own shows nothing and takes nobody in (TL-08). A peer whose certificate is
//! refused gets the TLS alert for it and a record; it learns no more.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use base_net::{Peer, Stream};
use bytes::BytesMut;
use ca_identity::tls::{self, ClientAuth};
use ca_identity::{Refusal, Usage};
use h3::error::Code;
use policies_engine::Protocol;
use quinn::ConnectionError;
use quinn::crypto::rustls::HandshakeData;
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use super::bearer::Bearers;
use super::passing::{self, Asked};
use super::wire::{Io, Wire};
use super::{Connection, detect, local, plain};
use crate::Carries;
use crate::accounts::Accounts;
use crate::authorize::not_secured;
use crate::listening::Listening;
use crate::quic::{Arrived, Known, close};
use crate::secured::{Bound, Proof, Secured};
use crate::worker::Worker;

/// The address of the caller, and the one that it called.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Where a socket has no address.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Secures a connection, or ends it.
pub(super) async fn secure(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    stream: Stream,
    peer: Peer,
) -> Option<(Box<Connection>, Box<Wire>)> {
    if let Some(callers) = listening.callers.clone() {
        return Box::pin(local::attest(worker, listening, callers, stream, peer)).await;
    }
    let (source, local) = ends(&stream, peer);
    let mut stream = stream;
    if !worker.holds_identity() {
        worker.meters.handshake("no_svid");
        return None;
    }
    let accepted = {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + listening.timers.handshake);
        let speaks_http = listening.carries != Carries::Bytes;
        if speaks_http && timer.within(pin!(plain::is_plain(&stream))).await == Some(true) {
            drop(timer);
            Box::pin(plain::refuse(&worker, stream)).await;
            return None;
        }
        let asked = match worker.view.current().routes.is_passing(&listening.name) {
            true => Box::pin(passing::asked(&worker, &listening, &mut stream, &timer)).await?,
            false => Asked::Here(BytesMut::new()),
        };
        match asked {
            Asked::Through(name, ahead) => {
                drop(timer);
                worker.meters.handshake("passed");
                let (proof, ends) = (Proof::Unasked, (source, local));
                let conn = bind(worker, listening, proof, ends, Some(&name), Protocol::Tcp);
                return Some((Box::new(conn), Box::new(Wire::new(Io::Plain(stream), ahead))));
            }
            Asked::Here(ahead) => {
                let known = |session: &mut ServerConnection| passing::read_again(session, &ahead);
                timer.within(pin!(listening.acceptor.accept_with(stream, known))).await
            }
        }
    };
    let tls = match completed(&worker, accepted, tls::refusal_in) {
        Ok(tls) => tls,
        Err(refusal) => {
            refused(worker, listening, (source, local), &refusal?).await;
            return None;
        }
    };
    let (mut tls, mut ahead) = (tls, BytesMut::new());
    let chosen = tls.get_ref().1.alpn_protocol();
    let protocol = match listening.carries {
        Carries::Any if chosen.is_none() => {
            Box::pin(detect::spoken(&worker, &listening, &mut tls, &mut ahead)).await
        }
        carries => carries.protocol(chosen),
    };
    let session = tls.get_ref().1;
    let Some(protocol) = protocol else {
        worker.meters.handshake("alpn");
        return None;
    };
    let sni = session.server_name().map(str::to_owned);
    let chain = session.peer_certificates();
    let conn = identify(worker, listening, chain, (source, local), sni.as_deref(), protocol);
    Some((Box::new(Box::pin(conn).await?), Box::new(Wire::new(Io::Tls(tls), ahead))))
}

/// Where a connection comes from, and what it called.
pub(super) fn ends(stream: &Stream, peer: Peer) -> Ends {
    let source = match peer {
        Peer::Tcp(address) => address,
        Peer::Unix { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    (source, stream.local().unwrap_or(NOWHERE))
}

/// Secures a connection over QUIC, or ends it. Nothing is accepted or sent on it before the handshake is complete.
pub(super) async fn secure_quic(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    arrived: Arrived,
) -> Option<(Box<Connection>, quinn::Connection, Known)> {
    let Arrived { incoming, source, port, shaking, known } = arrived;
    let local = SocketAddr::new(NOWHERE.ip(), port);
    let shaken = {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + listening.timers.handshake);
        match incoming.accept() {
            Ok(connecting) => timer.within(pin!(connecting)).await,
            Err(error) => Some(Err(error)),
        }
    };
    drop(shaking);
    let quic = match completed(&worker, shaken, refusal) {
        Ok(quic) => quic,
        Err(refusal) => {
            refused(worker, listening, (source, local), &refusal?).await;
            return None;
        }
    };
    known.connected(&quic);
    let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let data = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let sni = data.and_then(|data| data.server_name);
    let chain = chain.as_deref().map(Vec::as_slice);
    let conn = identify(worker, listening, chain, (source, local), sni.as_deref(), Protocol::H3).await;
    match conn {
        Some(mut conn) => {
            conn.secured.follow(quic.clone());
            Some((Box::new(conn), quic, known))
        }
        None => {
            close(&quic, Code::H3_NO_ERROR, b"");
            None
        }
    }
}

/// The connection, or why our side refused the peer; none where the handshake failed otherwise or took too long.
fn completed<T, E: fmt::Display>(
    worker: &Worker,
    shaken: Option<Result<T, E>>,
    refusal: impl FnOnce(&E) -> Option<Refusal>,
) -> Result<T, Option<Refusal>> {
    let Some(shaken) = shaken else {
        worker.meters.handshake("timeout");
        return Err(None);
    };
    shaken.map_err(|error| {
        tracing::debug!(event = "handshake_failed", %error, "a handshake failed");
        let refusal = refusal(&error);
        if refusal.is_none() {
            worker.meters.handshake("tls");
        }
        refusal
    })
}

/// Why our side refused the peer, as far as the alert tells it (RFC 9001, 4.8: 0x100 and the alert).
fn refusal(error: &ConnectionError) -> Option<Refusal> {
    let ConnectionError::TransportError(error) = error else { return None };
    let alert = u64::from(error.code).checked_sub(0x100)?;
    tls::refusal_in_alert(u8::try_from(alert).ok()?)
}

/// Takes the identity of the peer, once.
async fn identify(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    chain: Option<&[CertificateDer<'static>]>,
    ends: Ends,
    sni: Option<&str>,
    protocol: Protocol,
) -> Option<Connection> {
    let identity = match tls::peer(&worker.trust, chain, Usage::Client) {
        Ok(None) if listening.auth == ClientAuth::Required => Err(Refusal::NoCertificate),
        identity => identity,
    };
    match identity {
        Ok(identity) => {
            worker.meters.handshake("ok");
            let proof = identity.map_or(Proof::None, Proof::Svid);
            Some(bind(worker, listening, proof, ends, sni, protocol))
        }
        Err(refusal) => {
            refused(worker, listening, ends, &refusal).await;
            None
        }
    }
}

async fn refused(worker: Arc<Worker>, listening: Arc<Listening>, ends: Ends, refusal: &Refusal) {
    worker.meters.handshake(refusal.code());
    tracing::debug!(event = "peer_refused", cause = %refusal, "a certificate was refused");
    let conn = bind(worker, listening, Proof::None, ends, None, Protocol::Tcp);
    not_secured(&conn, refusal, conn.worker.clock.now()).await;
}

/// The connection with its identity.
pub(super) fn bind(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    proof: Proof,
    (source, local): Ends,
    sni: Option<&str>,
    protocol: Protocol,
) -> Connection {
    let bound = Bound { source, local, sni, protocol, now: worker.clock.now(), jitter: worker.rng.u64() };
    let secured = Secured::new(proof, &bound, &listening, &worker.trust);
    Connection {
        worker,
        listening,
        secured,
        accounts: Accounts::default(),
        lapsed: AtomicBool::new(false),
        via: None,
        permit: None,
        number: None,
        mirrors: None,
        bearers: Bearers::default(),
        running: AtomicU32::new(0),
    }
}
