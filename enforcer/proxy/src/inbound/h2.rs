//! An HTTP/2 connection of a caller: its calls run side by side in the task of the connection.
//!
//! What becomes ready in one turn leaves with one write: answers, credit, and what the codec has to say. The connection says
//! goodbye in time (GOAWAY) before the certificate that opened it ends, and is cut when it does.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base_ports::Mono;
use enforcer_codec::h2::{Ended, Reason, RequestHead};
use enforcer_codec::{Call, CallProtocol};
use tokio::io::{AsyncWriteExt, Empty, Sink};

use super::phase::Phase;
use super::seats::{Place, Seats};
use super::wire::Wire;
use super::{Connection, Exchange, LINGER, LINGER_BYTES};
use crate::body::{Arrival, FULL, Inlet, Link, Outlet, Piece, StreamInlet, StreamOutlet};
use crate::respond::Asker;
use crate::wheel::Timer;

type Tls = Box<Wire>;

/// What is left to say at the end of a connection.
const CALM: Duration = Duration::from_millis(100);
/// Our settings are acknowledged within this time (H2-04).
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// An idle connection rests from then on.
const REST: Duration = Duration::from_secs(1);
/// Where so much came at once, more is likely there.
const BULK: usize = 4 * 1024;
/// So much is taken before calls go on.
const BURST: usize = 64 * 1024;
/// So much is gathered before it is written while there is more to read.
const GATHER: usize = 16 * 1024;

/// What a turn of the connection brought.
enum Turn {
    /// Nothing more will come.
    Over,
    /// The caller broke a rule, and was told.
    Ended(Ended),
    /// A deadline passed, or something else is to be looked at.
    Look,
}

/// Serves the connection to its end.
pub(super) async fn run(conn: &Connection, mut tls: Tls) {
    let timer = conn.worker.wheel.timer();
    let began = conn.worker.clock.mono();
    let limits = conn.listening.transport.limits;
    // What is gathered leaves with one write.
    tls.limit_buffer(FULL);
    let link = Link::new(limits, conn.secured.credential.is_some(), began);
    let mut calls = Seats::new(|place| serve(conn, &link, place));
    let mut phase = Phase::Idle { since: began };
    let mut heads = Heads { open_since: Some(began), is_new: true };
    let mut rests = Rests { trimmed: None };
    loop {
        let turn = poll_fn(|context| {
            let had_calls = !calls.is_empty();
            loop {
                calls.poll(context);
                let is_full = link.is_full();
                let read = if is_full {
                    Poll::Pending
                } else {
                    let arrived = |arrival| {
                        phase.busy();
                        calls.push(arrival);
                    };
                    poll_take(conn, &link, &mut tls, &mut heads, arrived, context)
                };
                match read {
                    Poll::Ready(Err(over)) => return Poll::Ready(over),
                    // Calls that it brought begin before anything is written.
                    Poll::Ready(Ok(())) if link.pending() < GATHER => continue,
                    _ => {}
                }
                match link.poll_write(&mut tls, context) {
                    Poll::Ready(Ok(goes_on)) if goes_on || is_full || read.is_ready() => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Turn::Over),
                    Poll::Pending if read.is_ready() => {}
                    _ => break,
                }
            }
            let is_new = (had_calls && calls.is_empty())
                || (!phase.is_leaving() && conn.must_leave())
                || std::mem::take(&mut heads.is_new);
            if is_new { Poll::Ready(Turn::Look) } else { timer.poll(context).map(|()| Turn::Look) }
        })
        .await;
        match turn {
            Turn::Over => return,
            Turn::Ended(ended) => {
                drop(calls);
                if ended.reason == Reason::ENHANCE_YOUR_CALM {
                    refused(conn, "h2_budget");
                } else {
                    tracing::debug!(event = "connection_failed", error = %ended, "http/2 of a caller failed");
                }
                return close(conn, &link, &mut tls, &timer).await;
            }
            Turn::Look => {
                let now = conn.worker.clock.now();
                let head_ends = heads.open_since.map(|since| since + conn.header_time());
                if head_ends.is_some_and(|end| now.mono >= end) {
                    drop(calls);
                    if link.is_greeted() {
                        refused(conn, "h2_slow_header");
                        link.end(Reason::ENHANCE_YOUR_CALM);
                    }
                    return close(conn, &link, &mut tls, &timer).await;
                }
                let ack_ends = (!link.is_heard()).then(|| began + ACKNOWLEDGED);
                if ack_ends.is_some_and(|end| now.mono >= end) {
                    drop(calls);
                    link.end(Reason::SETTINGS_TIMEOUT);
                    return close(conn, &link, &mut tls, &timer).await;
                }
                let is_over = now.mono >= phase.look(conn);
                match phase {
                    Phase::Leaving { .. } if is_over => return,
                    Phase::Leaving { .. } => {}
                    _ if is_over || conn.is_retired(now) => {
                        link.leave();
                        phase = Phase::Leaving { since: now.mono };
                    }
                    _ if calls.is_empty() => phase.still(now.mono),
                    _ => {}
                }
                // One that has nothing to do here and does not go is not waited for.
                let rest_ends = match phase {
                    Phase::Leaving { since } if calls.is_empty() => Some(since + LINGER),
                    _ => None,
                };
                let is_idle = rest_ends.is_some_and(|end| now.mono >= end);
                if is_idle || (calls.is_empty() && link.is_left()) {
                    return close(conn, &link, &mut tls, &timer).await;
                }
                let trims = rests.trims(phase, now.mono, || {
                    link.trim();
                    calls.trim();
                });
                let ends = [head_ends, ack_ends, rest_ends, trims].into_iter().flatten();
                timer.set(ends.fold(phase.look(conn), Mono::min));
            }
        }
    }
}

/// Since when the caller owes the rest of a header block, which no window limits.
struct Heads {
    open_since: Option<Mono>,
    /// That changed since it was looked at.
    is_new: bool,
}

/// A connection that is idle for a moment keeps its buffers; one that rests gives them back (MM-02).
struct Rests {
    /// The rest for which they were given back.
    trimmed: Option<Mono>,
}

impl Rests {
    /// When buffers are to be given back, unless that is now, or was before.
    fn trims(&mut self, phase: Phase, now: Mono, trim: impl FnOnce()) -> Option<Mono> {
        let Phase::Idle { since } = phase else { return None };
        let due = since + REST;
        if now >= due && self.trimmed != Some(since) {
            trim();
            self.trimmed = Some(since);
        }
        (now < due).then_some(due)
    }
}

/// Takes what has arrived. Of a body that comes in bulk several parts are taken before its call goes on, which sends them on
/// with one write.
fn poll_take(
    conn: &Connection,
    link: &Link,
    tls: &mut Tls,
    heads: &mut Heads,
    mut arrived: impl FnMut(Arrival),
    context: &mut Context<'_>,
) -> Poll<Result<(), Turn>> {
    let worker = &conn.worker;
    let mut taken = 0_usize;
    loop {
        let read = worker.scratch.poll_read(tls, context, |bytes| {
            if bytes.is_empty() {
                return Err(Turn::Over);
            }
            let now = worker.clock.mono();
            link.take(bytes, now, &mut arrived).map_err(Turn::Ended)?;
            match (link.is_head_open(), heads.open_since) {
                (true, None) => (heads.open_since, heads.is_new) = (Some(now), true),
                (false, Some(_)) => (heads.open_since, heads.is_new) = (None, true),
                _ => {}
            }
            Ok(bytes.len())
        });
        let read = match read {
            Poll::Ready(Ok(Ok(read))) => read,
            Poll::Ready(Ok(Err(turn))) => return Poll::Ready(Err(turn)),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Turn::Over)),
            Poll::Pending if taken == 0 => return Poll::Pending,
            Poll::Pending => 0,
        };
        taken = taken.saturating_add(read);
        if read < BULK || taken >= BURST {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Notes that a caller broke a rule of that class: too many frames that move no call, or a header block that does not end.
fn refused(conn: &Connection, class: &'static str) {
    let (caller, listener) = (&conn.secured.principal, &conn.listening.name);
    tracing::info!(event = class, %caller, %listener, "an http/2 connection of a caller was ended");
    conn.worker.meters.gate_refused(class);
}

/// Says what is left to say, and ends the connection.
async fn close(conn: &Connection, link: &Link, tls: &mut Tls, timer: &Timer<'_>) {
    timer.set(conn.worker.clock.mono() + CALM);
    let closing = std::pin::pin!(async {
        let written = poll_fn(|context| link.poll_write(tls, context)).await;
        if written.is_ok() {
            tls.shutdown().await.unwrap_or_default();
        }
    });
    timer.within(closing).await;
}

/// Serves the calls of one seat, one after the other. What can be done at once is done before anything is waited for, so
/// that the future holds only what must wait.
async fn serve(conn: &Connection, link: &Link, place: Arc<Place<Arrival>>) -> Infallible {
    loop {
        let (timer, mut exchange, switches);
        let serving = {
            let Arrival { stream, head, over } = place.next().await;
            timer = conn.worker.wheel.timer();
            let now = conn.worker.clock.now();
            let is_grpc = head.as_ref().is_ok_and(RequestHead::is_grpc);
            let protocol = if is_grpc { CallProtocol::Grpc } else { CallProtocol::H2 };
            let call = head.and_then(|head| Call::from_h2(head, over, &conn.listening.transport));
            let asker = match &call {
                Ok(call) => Asker::of(call),
                Err(_) => Asker::unknown(protocol),
            };
            switches = call.as_ref().is_ok_and(|call| call.upgrade().is_some());
            let body = if over {
                Inlet::<Empty>::Empty
            } else {
                Inlet::Stream(StreamInlet::new(link, stream, switches))
            };
            let out = Outlet::<Sink>::Stream(StreamOutlet::new(link, stream, is_grpc));
            exchange = Exchange { conn, asker, body, out, now };
            exchange.serve(call, &timer)
        };
        if serving.await && !switches && !exchange.body.is_over() {
            Box::pin(discard(conn, &mut exchange.body, &timer)).await;
        }
    }
}

/// Takes what is left of a body that nobody wants, for a moment. Dropping the stream resets it, and a caller that is
/// still sending may take the reset for a failure and drop the answer that it already has (curl does). One that has much
/// more to send gets no more room for it, reads its answer meanwhile and goes by itself.
async fn discard(conn: &Connection, body: &mut Inlet<'_, Empty>, timer: &Timer<'_>) {
    timer.set(conn.worker.clock.mono() + LINGER);
    let mut dropped = 0_usize;
    poll_fn(|context| {
        loop {
            match body.poll_piece(context) {
                Poll::Ready(Ok(Piece::Data { bytes, last: false })) => {
                    dropped = dropped.saturating_add(bytes.len());
                    if dropped < LINGER_BYTES && body.release(bytes.len()).is_err() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.poll(context),
            }
        }
    })
    .await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn size_of_call() -> usize {
        fn size<'a, F: Future>(_: impl FnOnce(&'a Connection, &'a Link, Arc<Place<Arrival>>) -> F) -> usize {
            size_of::<F>()
        }
        size(serve)
    }
}
