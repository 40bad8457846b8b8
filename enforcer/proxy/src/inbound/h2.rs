//! An HTTP/2 connection of a caller: its calls run side by side in the task of the connection.
//!
//! Answers that become ready in one turn leave with one write. The connection says goodbye in time (GOAWAY) before the
//! certificate that opened it ends, and is cut when it does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base_net::Stream;
use bytes::Bytes;
use enforcer_codec::{Call, CallProtocol, grpc};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Builder, Connection as Frames, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use http::header::CONTENT_TYPE;
use tokio::io::{Empty, Sink};
use tokio_rustls::server::TlsStream;

use super::guard::{Guarded, Seen};
use super::phase::Phase;
use super::{Connection, Exchange, LINGER, LINGER_BYTES};
use crate::body::{H2Inlet, H2Outlet, Inlet, Outlet, Piece};
use crate::respond::Asker;
use crate::wheel::Timer;

type Tls = Box<TlsStream<Stream>>;

const STREAMS: u32 = 256;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const HEADER_LIST: u32 = 64 * 1024;
/// Streams that errors of the caller made us reset, before the connection ends (H2-02).
const OWN_RESETS: usize = 500;
/// What is left to say to a caller whose budget is spent.
const CALM: Duration = Duration::from_millis(100);

/// What a turn of the connection brought.
#[expect(clippy::large_enum_variant, reason = "lives for one turn; a box would cost an allocation per call")]
enum Turn {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// Nothing more will come.
    Over,
    /// The caller sent too much that moves no call.
    Spent,
    /// A deadline passed, or something else is to be looked at.
    Look,
}

/// Serves the connection to its end.
pub(super) async fn run(conn: &Connection, tls: Tls) {
    let timer = conn.worker.wheel.timer();
    let is_proved = conn.secured.credential.is_some();
    let guarded = Guarded::new(tls, Arc::clone(&conn.worker.clock), is_proved);
    let seen = guarded.seen();
    let Some(mut frames) = greet(conn, guarded, &seen, &timer).await else {
        return;
    };
    let mut calls = FuturesUnordered::new();
    let mut phase = Phase::Idle { since: conn.worker.clock.mono() };
    timer.set(phase.look(conn));
    let mut open_since = None;
    loop {
        let turn = poll_fn(|context| {
            // Calls first, so that their answers leave with the write that the connection does next.
            let had_calls = !calls.is_empty();
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {}
            match frames.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    return Poll::Ready(Turn::Request(request, respond));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(event = "connection_failed", %error, "http/2 of a caller failed");
                    return Poll::Ready(Turn::Over);
                }
                Poll::Ready(None) => return Poll::Ready(Turn::Over),
                Poll::Pending if seen.is_spent() => return Poll::Ready(Turn::Spent),
                Poll::Pending => {}
            }
            let is_new = (had_calls && calls.is_empty())
                || (!phase.is_leaving() && conn.must_leave())
                || seen.open_since() != open_since;
            if is_new { Poll::Ready(Turn::Look) } else { timer.poll(context).map(|()| Turn::Look) }
        })
        .await;
        match turn {
            Turn::Over => return,
            Turn::Spent => {
                drop(calls);
                return calm(conn, frames, "h2_budget", &timer).await;
            }
            Turn::Request(request, respond) => {
                phase.busy();
                calls.push(call(conn, request, respond));
            }
            Turn::Look => {
                let now = conn.worker.clock.now();
                open_since = seen.open_since();
                let head_ends = open_since.map(|since| since + conn.header_time());
                if head_ends.is_some_and(|end| now.mono >= end) {
                    drop(calls);
                    return calm(conn, frames, "h2_slow_header", &timer).await;
                }
                let is_over = now.mono >= phase.look(conn);
                match phase {
                    Phase::Leaving { .. } if is_over => return,
                    Phase::Leaving { .. } => {}
                    _ if is_over || conn.is_retired(now) => {
                        frames.graceful_shutdown();
                        phase = Phase::Leaving { since: now.mono };
                    }
                    _ if calls.is_empty() => phase.still(now.mono),
                    _ => {}
                }
                let look = phase.look(conn);
                timer.set(head_ends.map_or(look, |end| end.min(look)));
            }
        }
    }
}

/// Ends a connection whose caller broke a rule of that class: too many frames that move no call, or a header block that
/// does not end.
async fn calm(
    conn: &Connection,
    mut frames: Frames<Guarded<Tls>, Bytes>,
    class: &'static str,
    timer: &Timer<'_>,
) {
    let (caller, listener) = (&conn.secured.principal, &conn.listening.name);
    tracing::info!(event = class, %caller, %listener, "an http/2 connection of a caller was ended");
    conn.worker.meters.gate_refused(class);
    frames.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    timer.set(conn.worker.clock.mono() + CALM);
    poll_fn(|context| match frames.poll_closed(context) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => timer.poll(context),
    })
    .await;
}

async fn greet(
    conn: &Connection,
    tls: Guarded<Tls>,
    seen: &Seen,
    timer: &Timer<'_>,
) -> Option<Frames<Guarded<Tls>, Bytes>> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_local_error_reset_streams(Some(OWN_RESETS));
    timer.set(conn.worker.clock.mono() + conn.header_time());
    let mut greeting = pin!(builder.handshake::<_, Bytes>(tls));
    let greeted = poll_fn(|context| match greeting.as_mut().poll(context) {
        Poll::Ready(greeted) => Poll::Ready(greeted.ok()),
        Poll::Pending if seen.is_spent() => Poll::Ready(None),
        Poll::Pending => timer.poll(context).map(|()| None),
    });
    greeted.await
}

/// One call. What can be done at once is done before the future is made, so that it holds only what must wait.
fn call(
    conn: &Connection,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    let now = conn.worker.clock.now();
    let (parts, stream) = request.into_parts();
    let inlet = H2Inlet::new(stream);
    let body = Inlet::<Empty>::H2(inlet);
    let is_grpc = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| grpc::is_grpc(kind.as_bytes()));
    let protocol = if is_grpc { CallProtocol::Grpc } else { CallProtocol::H2 };
    let call = Call::from_h2(parts, body.is_over(), &conn.listening.transport);
    let asker = match &call {
        Ok(call) => Asker::of(call),
        Err(_) => Asker::unknown(protocol),
    };
    let out = Outlet::<Sink>::H2(H2Outlet::answer(respond, is_grpc));
    let mut exchange = Exchange { conn, asker, body, out, now };
    async move {
        let timer = conn.worker.wheel.timer();
        if exchange.serve(call, &timer).await && !exchange.body.is_over() {
            Box::pin(discard(conn, &mut exchange.body, &timer)).await;
        }
    }
}

/// Takes what is left of a body that nobody wants, for a moment. Dropping the stream resets it, and a caller that is
/// still sending may take the reset for a failure and drop the answer that it already has (curl does).
async fn discard(conn: &Connection, body: &mut Inlet<'_, Empty>, timer: &Timer<'_>) {
    timer.set(conn.worker.clock.mono() + LINGER);
    let mut dropped = 0_usize;
    poll_fn(|context| {
        while dropped < LINGER_BYTES {
            match body.poll_piece(context) {
                Poll::Ready(Ok(Piece::Data { bytes, last: false })) if body.release(bytes.len()).is_ok() => {
                    dropped = dropped.saturating_add(bytes.len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.poll(context),
            }
        }
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn size_of_call() -> usize {
        fn size<'a, F: Future>(
            _: impl FnOnce(&'a Connection, Request<RecvStream>, SendResponse<Bytes>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        size(call)
    }
}
