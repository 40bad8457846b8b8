//! Plain HTTP where TLS is spoken: one answer that says so, and the end (DT-03). Nothing of the request is read as HTTP.

use std::pin::pin;

use base_net::Stream;
use bytes::BytesMut;
use enforcer_codec::h1::Version;
use enforcer_codec::{CallProtocol, Downstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{LINGER, LINGER_BYTES};
use crate::body::{H1Outlet, Outlet};
use crate::respond::{Asker, Refusal};
use crate::worker::Worker;

/// Whether the first byte begins a method and no TLS record. A connection that says nothing is none of ours to judge.
pub(super) async fn is_plain(stream: &Stream) -> bool {
    let Stream::Tcp(stream) = stream else { return false };
    let mut first = [0; 1];
    matches!(stream.peek(&mut first).await, Ok(1)) && first.iter().all(u8::is_ascii_uppercase)
}

/// Tells the caller, who gets a moment to read it.
pub(super) async fn refuse(worker: &Worker, mut stream: Stream) {
    worker.meters.handshake("plain");
    let timer = worker.wheel.timer();
    timer.set(worker.clock.mono() + LINGER);
    let telling = pin!(async {
        let mut gathered = BytesMut::new();
        let down = Downstream { version: Version::Http11, keep_alive: false };
        let mut out = Outlet::H1(H1Outlet::answer(&mut stream, &mut gathered, down, false));
        let refusal = Refusal::tls_required();
        let told = refusal.tell(Asker::unknown(CallProtocol::H1), worker.reveal, true, &mut out).await;
        if told.is_err() || stream.shutdown().await.is_err() {
            return;
        }
        // Closing a socket with unread bytes would reset it before the answer is read.
        let (mut rest, mut dropped) = ([0; 1024], 0_usize);
        while dropped < LINGER_BYTES {
            match stream.read(&mut rest).await {
                Ok(length @ 1..) => dropped = dropped.saturating_add(length),
                _ => return,
            }
        }
    });
    timer.within(telling).await;
}
