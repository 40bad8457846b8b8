//! An HTTP/3 connection of a caller: its calls run side by side in the task of the connection, as over HTTP/2.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use base_ports::Mono;
use bytes::Bytes;
use enforcer_codec::{Call, CallProtocol, grpc};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h3::error::Code;
use h3::server::{Connection as Frames, RequestResolver, builder};
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::io::{Empty, Sink};

use super::phase::Phase;
use super::{Connection, Exchange, LINGER};
use crate::body::{H3Inlet, H3Outlet, Inlet, Outlet, first};
use crate::quic::{FIELD_SECTION, Transport, Watch, close};
use crate::respond::Asker;
use crate::wheel::Timer;

/// Calls that a caller gave up before their answer, in a window; ten times as many with a proved identity (H3-01).
const RESETS: u32 = 100;
const PROVED: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

type Resolver = RequestResolver<Transport, Bytes>;

/// What a turn of the connection brought.
enum Turn {
    Request(Box<(Resolver, Watch)>),
    /// A call is over.
    Done(Ended),
    /// Nothing more will come.
    Over,
    /// A deadline passed, or something else is to be looked at.
    Look,
}

/// How a call came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    /// The caller made no call of the stream, or gave it up.
    Reset,
    /// The head did not arrive in time.
    SlowHead,
}

/// Serves the connection to its end.
pub(super) async fn run(conn: &Connection, quic: quinn::Connection) {
    let timer = conn.worker.wheel.timer();
    let transport = Transport::new(quic.clone());
    let intake = transport.intake();
    timer.set(conn.worker.clock.mono() + conn.header_time());
    let mut greeting = builder();
    greeting.max_field_section_size(FIELD_SECTION).send_grease(false);
    let greeted = timer.within(pin!(greeting.build(transport))).await;
    let Some(Ok(mut frames)) = greeted else { return };
    let mut calls = FuturesUnordered::new();
    let mut phase = Phase::Idle { since: conn.worker.clock.mono() };
    let mut resets = Resets { since: conn.worker.clock.mono(), count: 0 };
    timer.set(phase.look(conn));
    loop {
        let turn = poll_fn(|context| {
            if let Poll::Ready(Some(ended)) = calls.poll_next_unpin(context) {
                return Poll::Ready(Turn::Done(ended));
            }
            // INVARIANT: `accept` keeps its state in the connection, so it may be asked anew for each poll.
            match pin!(frames.accept()).poll(context) {
                Poll::Ready(Ok(Some(resolver))) => match intake.latest() {
                    Some(watch) => return Poll::Ready(Turn::Request(Box::new((resolver, watch)))),
                    None => return Poll::Ready(Turn::Over),
                },
                Poll::Ready(Ok(None)) => return Poll::Ready(Turn::Over),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(event = "connection_failed", %error, "http/3 of a caller ended");
                    return Poll::Ready(Turn::Over);
                }
                Poll::Pending => {}
            }
            if !phase.is_leaving() && conn.must_leave() {
                return Poll::Ready(Turn::Look);
            }
            timer.poll(context).map(|()| Turn::Look)
        })
        .await;
        match turn {
            Turn::Over => return,
            Turn::Request(request) => {
                phase.busy();
                calls.push(Box::pin(call(conn, request)));
            }
            Turn::Done(ended) => {
                let now = conn.worker.clock.mono();
                let class = match ended {
                    Ended::SlowHead => Some("h3_slow_header"),
                    Ended::Reset if resets.is_spent(now, conn.secured.credential.is_some()) => {
                        Some("h3_budget")
                    }
                    _ => None,
                };
                if let Some(class) = class {
                    drop(calls);
                    return calm(conn, &quic, class);
                }
                if calls.is_empty() {
                    if phase.is_leaving() {
                        return farewell(conn, &mut frames, &timer).await;
                    }
                    phase.still(now);
                    timer.set(phase.look(conn));
                }
            }
            Turn::Look => {
                let now = conn.worker.clock.now();
                let is_over = now.mono >= phase.look(conn);
                if phase.is_leaving() {
                    if is_over {
                        drop(calls);
                        return close(&quic, Code::H3_NO_ERROR, b"");
                    }
                } else if is_over || conn.is_retired(now) {
                    intake.close();
                    if !goodbye(conn, &mut frames, &timer).await {
                        return;
                    }
                    phase = Phase::Leaving { since: now.mono };
                    if calls.is_empty() {
                        return farewell(conn, &mut frames, &timer).await;
                    }
                }
                timer.set(phase.look(conn));
            }
        }
    }
}

/// Says GOAWAY; false when that cannot be said.
async fn goodbye(conn: &Connection, frames: &mut Frames<Transport, Bytes>, timer: &Timer<'_>) -> bool {
    timer.set(conn.worker.clock.mono() + LINGER);
    // The id of GOAWAY is the first that is not served: one behind the last that was.
    matches!(timer.within(pin!(frames.shutdown(1))).await, Some(Ok(())))
}

/// After GOAWAY and the last answer: the caller closes when it has read it, or is closed.
async fn farewell(conn: &Connection, frames: &mut Frames<Transport, Bytes>, timer: &Timer<'_>) {
    timer.set((conn.worker.clock.mono() + LINGER).min(conn.secured.ends));
    let leaving = pin!(async { while let Ok(Some(_)) = frames.accept().await {} });
    timer.within(leaving).await;
}

/// Ends a connection whose caller broke a rule of that class.
fn calm(conn: &Connection, quic: &quinn::Connection, class: &'static str) {
    let (caller, listener) = (&conn.secured.principal, &conn.listening.name);
    tracing::info!(event = class, %caller, %listener, "an http/3 connection of a caller was ended");
    conn.worker.meters.gate_refused(class);
    close(quic, Code::H3_EXCESSIVE_LOAD, b"");
}

/// Calls given up in a window.
struct Resets {
    since: Mono,
    count: u32,
}

impl Resets {
    /// Takes one more; whether that was one too many.
    fn is_spent(&mut self, now: Mono, is_proved: bool) -> bool {
        if now.saturating_since(self.since) >= WINDOW {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count > if is_proved { RESETS * PROVED } else { RESETS }
    }
}

/// One call.
async fn call(conn: &Connection, request: Box<(Resolver, Watch)>) -> Ended {
    let timer = conn.worker.wheel.timer();
    timer.set(conn.worker.clock.mono() + conn.header_time());
    let (resolver, watch) = *request;
    let (request, stream) = match timer.within(pin!(resolver.resolve_request())).await {
        Some(Ok(resolved)) => resolved,
        Some(Err(error)) => {
            tracing::debug!(event = "no_call", %error, "a stream of a caller made no call");
            return Ended::Reset;
        }
        None => return Ended::SlowHead,
    };
    let (parts, ()) = request.into_parts();
    let (send, receive) = stream.split();
    let declared = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let (watch, stopped) = watch.parted();
    let mut inlet = H3Inlet::new(receive, watch, declared);
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS].contains(&parts.method);
    // HTTP/3 says with the head whether a body follows only if the end of the stream is there already.
    let looked = if bodiless && declared.is_none() {
        timer.within(pin!(first(&mut inlet))).await
    } else {
        poll_fn(|context| match inlet.poll_first(context) {
            Poll::Ready(looked) => Poll::Ready(Some(looked)),
            Poll::Pending => Poll::Ready(Some(Ok(()))),
        })
        .await
    };
    match looked {
        Some(Ok(())) => {}
        Some(Err(_)) => return Ended::Reset,
        None => return Ended::SlowHead,
    }
    let is_grpc = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| grpc::is_grpc(kind.as_bytes()));
    let body = Inlet::<Empty>::H3(Box::new(inlet));
    let call = Call::from_parts(&parts, body.is_over(), &conn.listening.transport);
    let asker = match &call {
        Ok(call) => Asker::of(call),
        Err(_) => Asker::unknown(if is_grpc { CallProtocol::Grpc } else { CallProtocol::H3 }),
    };
    let out = Outlet::<Sink>::H3(Box::new(H3Outlet::answer(send, stopped, is_grpc)));
    let mut exchange = Exchange { conn, asker, body, out, now: conn.worker.clock.now() };
    exchange.serve(call, &timer).await;
    timer.set(conn.tells_until());
    let mut is_reset = false;
    if let Outlet::H3(out) = &mut exchange.out {
        // What could not be said in time is broken off when the stream is dropped.
        if let Some(Err(error)) = timer.within(pin!(out.settle())).await {
            tracing::debug!(event = "answer_cut", %error, "the end of an answer could not be told");
        }
        is_reset |= out.is_reset();
    }
    if let Some(body) = exchange.body.h3() {
        body.stop();
        is_reset |= body.is_reset();
    }
    if is_reset { Ended::Reset } else { Ended::Well }
}
