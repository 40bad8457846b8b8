//! A secured connection that its listener has no place for: the caller is told in its protocol, and reads why.

use std::pin::pin;

use policies_engine::Protocol;
use tokio::io::AsyncWriteExt;

use super::wire::Wire;
use super::{Connection, LINGER};
use crate::Reveal;
use crate::shed::Shed;

/// An empty SETTINGS frame, and GOAWAY with no stream and ENHANCE_YOUR_CALM (RFC 9113 6.5, 6.8).
const GOAWAY: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, //
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11,
];

/// Says so and ends the connection.
pub(super) async fn turn_away(conn: &Connection, mut tls: Box<Wire>, reason: Shed) {
    let (caller, listener, reason) = (&conn.secured.principal, &conn.listening.name, reason.as_str());
    tracing::info!(event = "connection_shed", %caller, %listener, reason, "a connection was turned away");
    let is_told = conn.listening.tells_shed && conn.worker.reveal != Reveal::Never;
    let shed = if is_told { format!("portcullis-shed: {reason}\r\n") } else { String::new() };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\n{shed}retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let said = match conn.secured.protocol() {
        Protocol::H1 => answer.as_bytes(),
        Protocol::H2 => GOAWAY,
        _ => &[],
    };
    let timer = conn.worker.wheel.timer();
    timer.set(conn.worker.clock.mono() + LINGER);
    let saying = pin!(async {
        // Whoever is gone needs no answer.
        if tls.write_all(said).await.is_ok() && tls.shutdown().await.is_ok() {
            let mut rest = [0; 1024];
            while matches!(tokio::io::AsyncReadExt::read(&mut tls, &mut rest).await, Ok(1..)) {}
        }
    });
    timer.within(saying).await;
}
