//! An HTTP/1 connection of a caller: one call after the other, each parsed when the answer before it is complete.
//!
//! While it waits for a call it holds no buffer. A slow head gets 408; anything after a refusal that closes is
//! discarded, and the peer gets a moment to read the answer (H1-29 to H1-32).

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use enforcer_codec::h1::{BodyDecoder, Framing, Parse, RequestHead, RequestParser, Version};
use enforcer_codec::{Call, CallProtocol, Downstream, NotCanonical};
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, Empty};

use super::wire::Wire;
use super::{Connection, Exchange, LINGER, LINGER_BYTES};
use crate::body::{H1Inlet, H1Outlet, Half, Inlet, Outlet};
use crate::respond::{Asker, Refusal};
use crate::wheel::Timer;

/// Room for the usual head and a small body.
const GATHERED: usize = 512;

/// What comes next on the connection.
enum Next {
    Head(RequestHead),
    Refused(NotCanonical),
    /// A head began and did not end in time, or none ever came.
    Slow,
    /// The peer has gone, or it has been still for long enough, or it is time to go.
    Over,
}

/// How a call leaves its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Open,
    /// Everything was read and said.
    Done,
    /// The peer may still be sending what nobody will read.
    Unread,
    /// The answer broke off; a clean end would hide that.
    Broken,
}

/// Serves the connection to its end.
pub(super) async fn run(conn: &Connection, mut tls: Box<Wire>) {
    let timer = conn.worker.wheel.timer();
    let mut buffer = BytesMut::new();
    let mut parser = RequestParser::new(conn.listening.transport.limits);
    let mut is_first = true;
    let left = loop {
        let left = match next(conn, &mut tls, &mut buffer, &mut parser, &timer, is_first).await {
            Next::Head(head) => Box::pin(call(conn, &mut tls, &mut buffer, head, &timer)).await,
            Next::Refused(flaw) => Box::pin(refused(conn, &mut tls, flaw, &timer)).await,
            Next::Slow => Box::pin(slow(conn, &mut tls, &timer)).await,
            Next::Over => Left::Done,
        };
        if left != Left::Open {
            break left;
        }
        is_first = false;
        if buffer.is_empty() {
            buffer = BytesMut::new();
        }
    };
    Box::pin(close(conn, &mut tls, left, &timer)).await;
}

/// Waits for the next head.
async fn next(
    conn: &Connection,
    tls: &mut Wire,
    buffer: &mut BytesMut,
    parser: &mut RequestParser,
    timer: &Timer<'_>,
    is_first: bool,
) -> Next {
    let mut has_begun = false;
    let now = conn.worker.clock.now();
    let quiet = if is_first { conn.header_time() } else { conn.idle_time() };
    timer.set((now.mono + quiet).min(conn.secured.retires));
    loop {
        if !buffer.is_empty() {
            match parser.parse(buffer) {
                Parse::Done(head) => return Next::Head(head),
                Parse::Refused(flaw) => return Next::Refused(flaw),
                Parse::Incomplete if !has_begun => {
                    has_begun = true;
                    timer.set((conn.worker.clock.mono() + conn.header_time()).min(conn.secured.ends));
                }
                Parse::Incomplete => {}
            }
        }
        let read = poll_fn(|context| {
            if let Poll::Ready(read) = conn.worker.scratch.poll_fill(tls, buffer, context) {
                return Poll::Ready(Some(read));
            }
            // One that was in the backlog when a drain began gets its first call served.
            let leaves = !has_begun && (conn.is_evicted() || (!is_first && conn.must_leave()));
            if leaves { Poll::Ready(None) } else { timer.poll(context).map(|()| None) }
        });
        match read.await {
            Some(Ok(1..)) => {}
            // A drain or the end of the certificate is no fault of the peer's.
            None if has_begun || (is_first && !conn.is_retired(conn.worker.clock.now())) => {
                return Next::Slow;
            }
            _ => return Next::Over,
        }
    }
}

async fn call(
    conn: &Connection,
    tls: &mut Wire,
    buffer: &mut BytesMut,
    head: RequestHead,
    timer: &Timer<'_>,
) -> Left {
    let now = conn.worker.clock.now();
    let wire = head.wire();
    let limits = conn.listening.transport.limits;
    let call = Call::from_h1(head, &conn.listening.transport);
    let (asker, trailers) = match &call {
        Ok(call) => (Asker::of(call), call.accepts_trailers()),
        Err(_) => (Asker::unknown(CallProtocol::H1), false),
    };
    let switches = call.as_ref().is_ok_and(|call| call.upgrade().is_some());
    let both = Mutex::new(tls);
    let body = match wire.framing {
        // What follows the head of an upgrade is no body; it is held until the upstream switched (WS-01).
        _ if switches => {
            let decoder = BodyDecoder::response(Framing::UntilClose, limits);
            Inlet::H1(H1Inlet::new(Half(&both), buffer, decoder, false))
        }
        Framing::Empty | Framing::Length(0) => Inlet::Empty,
        framing => {
            let decoder = BodyDecoder::request(framing, limits);
            Inlet::H1(H1Inlet::new(Half(&both), buffer, decoder, wire.expects_continue))
        }
    };
    let down = Downstream {
        version: wire.version,
        keep_alive: wire.keep_alive && !switches && !conn.is_retired(now) && !conn.is_draining(),
    };
    let mut gathered = BytesMut::with_capacity(GATHERED);
    let out = Outlet::H1(H1Outlet::answer(Half(&both), &mut gathered, down, trailers));
    let mut exchange = Exchange { conn, asker, body, out, now };
    let whole = exchange.serve(call, timer).await;
    match (whole, exchange.body.is_over()) {
        (false, _) => Left::Broken,
        (true, false) => Left::Unread,
        (true, true) if exchange.out.closes() => Left::Done,
        (true, true) => Left::Open,
    }
}

/// Answers bytes that are no head. What follows them has no meaning any more.
async fn refused(conn: &Connection, tls: &mut Wire, flaw: NotCanonical, timer: &Timer<'_>) -> Left {
    let now = conn.worker.clock.now();
    let both = Mutex::new(tls);
    let mut gathered = BytesMut::new();
    let out = answer_of_ours(Half(&both), &mut gathered);
    let asker = Asker::unknown(CallProtocol::H1);
    let mut exchange = Exchange { conn, asker, body: Inlet::<Empty>::Empty, out, now };
    if exchange.serve(Err(flaw), timer).await { Left::Unread } else { Left::Broken }
}

async fn slow(conn: &Connection, tls: &mut Wire, timer: &Timer<'_>) -> Left {
    conn.worker.meters.gate_refused("H1-32");
    timer.set(conn.worker.clock.mono() + LINGER);
    let both = Mutex::new(tls);
    let mut gathered = BytesMut::new();
    let mut out = answer_of_ours(Half(&both), &mut gathered);
    let asker = Asker::unknown(CallProtocol::H1);
    let refusal = Refusal::slow_head();
    let telling = pin!(refusal.tell(asker, conn.worker.reveal, true, &mut out));
    let told = timer.within(telling).await;
    if told.is_some() { Left::Unread } else { Left::Broken }
}

fn answer_of_ours<'a>(io: Half<'a, Wire>, gathered: &'a mut BytesMut) -> Outlet<'a, Half<'a, Wire>> {
    let down = Downstream { version: Version::Http11, keep_alive: false };
    Outlet::H1(H1Outlet::answer(io, gathered, down, false))
}

/// Ends the connection so that the peer reads the last answer: closing a socket with unread bytes would reset it.
async fn close(conn: &Connection, tls: &mut Wire, left: Left, timer: &Timer<'_>) {
    if left == Left::Broken {
        return;
    }
    timer.set(conn.worker.clock.mono() + LINGER);
    let closing = pin!(async {
        if tls.shutdown().await.is_err() || left != Left::Unread {
            return;
        }
        let mut dropped = 0;
        let mut rest = BytesMut::new();
        while dropped < LINGER_BYTES {
            match poll_fn(|context| conn.worker.scratch.poll_fill(tls, &mut rest, context)).await {
                Ok(length @ 1..) => dropped = length.saturating_add(dropped),
                _ => return,
            }
            rest.clear();
        }
    });
    timer.within(closing).await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn size_of_call() -> usize {
        fn size<'a, F: Future>(
            _: impl FnOnce(&'a Connection, &'a mut Wire, &'a mut BytesMut, RequestHead, &'a Timer<'a>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        size(call)
    }
}
