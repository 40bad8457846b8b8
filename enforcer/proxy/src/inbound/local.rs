//! Connections of the local application, without TLS (SC-01): the kernel says whose process called, and only the
//! workload's own get in, under the workload's identity (OUT4). What they speak shows in their first bytes (DT-01).

use std::pin::pin;
use std::sync::Arc;

use base_net::{Peer, Stream, owner};
use bytes::BytesMut;
use policies_engine::Protocol;
use tokio::io::AsyncReadExt;

use super::Connection;
use super::handshake::{bind, ends};
use super::wire::Wire;
use crate::authorize::not_attested;
use crate::listening::Listening;
use crate::secured::Proof;
use crate::worker::Worker;
use crate::{Callers, Carries};

/// How a connection of HTTP/2 begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Takes in a connection of the own workload, or ends it without a byte.
pub(super) async fn attest(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    callers: Arc<Callers>,
    mut stream: Stream,
    peer: Peer,
) -> Option<(Box<Connection>, Box<Wire>)> {
    let ends = ends(&stream, peer);
    let refused = match owner(&stream, &peer) {
        Ok(uid) if callers.uids.contains(&uid) => None,
        Ok(uid) => Some(format!("uid {uid} is none of the workload's")),
        Err(cause) => Some(format!("whose process it is cannot be told: {cause}")),
    };
    if let Some(cause) = refused {
        worker.meters.handshake("not_attested");
        tracing::info!(event = "caller_refused", listener = %listening.name, %peer, cause, "a local caller was refused");
        let conn = bind(worker, listening, Proof::None, ends, None, Protocol::Tcp);
        let now = conn.worker.clock.now();
        not_attested(&conn, cause, now).await;
        return None;
    }
    let mut ahead = BytesMut::new();
    let protocol = {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + listening.timers.header);
        timer.within(pin!(spoken(listening.carries, &mut stream, &mut ahead))).await??
    };
    worker.meters.handshake("ok");
    let conn = bind(worker, listening, Proof::Own(callers.id.clone()), ends, None, protocol);
    Some((Box::new(conn), Box::new(Wire::Plain { stream, ahead })))
}

/// What the connection speaks; none when it ends before that shows.
async fn spoken(carries: Carries, stream: &mut Stream, ahead: &mut BytesMut) -> Option<Protocol> {
    match carries {
        Carries::Bytes => Some(Protocol::Tcp),
        Carries::Http1 => Some(Protocol::H1),
        Carries::Http2 => Some(Protocol::H2),
        Carries::Http => loop {
            match told(ahead) {
                Some(protocol) => return Some(protocol),
                None => match stream.read_buf(ahead).await {
                    Ok(1..) => {}
                    _ => return None,
                },
            }
        },
    }
}

/// Whether the first bytes are those of HTTP/2; none while that is open.
fn told(ahead: &[u8]) -> Option<Protocol> {
    let length = ahead.len().min(PREFACE.len());
    if ahead.get(..length) != PREFACE.get(..length) {
        return Some(Protocol::H1);
    }
    (length == PREFACE.len()).then_some(Protocol::H2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dt_01_the_first_bytes_tell_http_2_from_http_1() {
        for length in 0..PREFACE.len() {
            assert_eq!(told(&PREFACE[..length]), None, "{length} bytes of the preface");
        }
        assert_eq!(told(PREFACE), Some(Protocol::H2));
        assert_eq!(told(&[PREFACE, b"\0\0\0"].concat()), Some(Protocol::H2));
        for first in ["G", "GET / HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "\x16\x03"]
        {
            assert_eq!(told(first.as_bytes()), Some(Protocol::H1), "{first}");
        }
    }
}
