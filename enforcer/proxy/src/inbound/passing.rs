//! Whose TLS a connection brings, told from its first message before any of it is answered (LT-16, DT-01): ours, or one that
//! goes through to an endpoint as it is. Read only on listeners that some route passes TLS through.

use std::pin::pin;

use base_net::Stream;
use bytes::BytesMut;
use enforcer_codec::client_hello::{self, Step};
use rustls::ServerConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listening::Listening;
use crate::wheel::Timer;
use crate::worker::Worker;

/// A fatal alert: decode_error (RFC 8446 6.2).
const DECODE_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 50];
/// What is read at once.
const PIECE: usize = 2048;

/// Where TLS ends, with the bytes that were read to see it.
pub(super) enum Asked {
    /// At an endpoint that is asked for by that name.
    Through(String, BytesMut),
    /// Here.
    Here(BytesMut),
}

/// Reads until that shows, in the time of `timer`; none when the connection must be closed.
pub(super) async fn asked(
    worker: &Worker,
    listening: &Listening,
    stream: &mut Stream,
    timer: &Timer<'_>,
) -> Option<Asked> {
    let mut ahead = BytesMut::new();
    let name = loop {
        match client_hello::read(&ahead) {
            Ok(Step::Done(name)) => break name,
            Ok(Step::More) => {}
            Err(cause) => {
                worker.meters.handshake("hello");
                tracing::debug!(event = "handshake_failed", listener = %listening.name, %cause, "a connection was closed before TLS");
                // Whoever is gone needs no alert.
                timer.within(pin!(stream.write_all(DECODE_ERROR))).await;
                return None;
            }
        }
        ahead.reserve(PIECE);
        match timer.within(pin!(stream.read_buf(&mut ahead))).await {
            Some(Ok(1..)) => {}
            Some(_) => {
                worker.meters.handshake("tls");
                return None;
            }
            None => {
                worker.meters.handshake("timeout");
                return None;
            }
        }
    };
    let routes = &worker.view.current().routes;
    Some(match name {
        Some(name) if routes.passes(&listening.name, &name) => Asked::Through(name, ahead),
        _ => Asked::Here(ahead),
    })
}

/// What was read is read by TLS, as if it came now.
pub(super) fn read_again(session: &mut ServerConnection, mut ahead: &[u8]) {
    // What is wrong with it is told where the handshake goes on.
    while !ahead.is_empty() && session.read_tls(&mut ahead).is_ok() && session.process_new_packets().is_ok() {
    }
}
