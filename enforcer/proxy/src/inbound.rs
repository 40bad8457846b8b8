//! The inbound path: from an accepted socket to a recorded answer.
//!
//! Each step takes what the step before returned, so leaving one out does not compile: accepted, secured, call,
//! permitted, picked, forwarded. Every way out is on record before the caller sees it, and one view serves a call from
//! its decision to its end (PA-02).

mod bearer;
mod connection;
mod detect;
mod forwarded;
mod h1;
mod h2;
mod h3;
mod handshake;
mod local;
mod passing;
mod phase;
mod plain;
mod seats;
mod stop;
mod tcp;
mod turned_away;
mod vigil;
mod wire;

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base_net::{Accepted, ConnectionPermit, Peer, Stream};
use base_ports::Now;
use enforcer_codec::headers::HOP;
use enforcer_codec::{BodyLength, Call, CallProtocol, NotCanonical};
use enforcer_traffic::{Priority, Step};
use policies_engine::{Protocol, ReasonClass};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::authorize::{Permitted, authorize, not_canonical};
use crate::body::{Inlet, Outlet, SLOW, TOO_LARGE};
use crate::clocks::Clocks;
use crate::fault::Fault;
use crate::forward::{Way, forward};
use crate::listening::Listening;
use crate::meter::Counted;
use crate::quic::{Arrived, close};
use crate::reply::Reply;
use crate::respond::{Asker, Refusal};
use crate::trail::{Trail, chain};
use crate::wheel::Timer;
use crate::worker::Worker;
pub(crate) use connection::Connection;
pub(crate) use stop::Stop;
use turned_away::turn_away;
pub(crate) use vigil::{Changes, Vigil};
use wire::Wire;

/// After an answer that did not need the whole body, so much of the rest is discarded, and for so long.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;
/// Serves one accepted connection to its end. Its permit is what a drain waits for.
pub(crate) async fn connection(worker: Arc<Worker>, listening: Arc<Listening>, accepted: Accepted) {
    let Accepted { mut stream, mut peer, mut permit } = accepted;
    let counted = Counted::new(&listening.open);
    let mut via = None;
    if !listening.forwarders.is_empty() {
        let told = forwarded::caller(&worker, &listening, &mut stream, peer, &mut permit);
        match Box::pin(told).await {
            Some(caller) => {
                let forwarder = std::mem::replace(&mut peer, caller);
                via = forwarder.tcp().filter(|_| peer != forwarder);
            }
            None => return,
        }
    }
    let began = worker.clock.mono();
    if let Some((mut conn, tls)) = shaken(worker, listening, stream, peer).await {
        conn.via = via;
        conn.secured.shaken_in = conn.worker.clock.mono().saturating_since(began);
        if let Err(reason) = conn.takes_place(permit) {
            return Box::pin(turn_away(&conn, tls, reason)).await;
        }
        match conn.secured.protocol() {
            Protocol::H2 => Box::pin(h2::run(&conn, tls)).await,
            Protocol::Tcp => Box::pin(tcp::run(&conn, tls)).await,
            _ => h1::run(&conn, tls).await,
        }
    }
    drop(counted);
}

/// Secures a connection while it has a place among the handshakes.
async fn shaken(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    stream: Stream,
    peer: Peer,
) -> Option<(Box<Connection>, Box<Wire>)> {
    let source = peer.ip().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let shaking = worker.fleets.shaken.begin((source, 0).into(), listening.handshakes_per_source)?;
    tokio::select! {
        biased;
        () = shaking.ends() => None,
        secured = Box::pin(handshake::secure(worker, listening, stream, peer)) => secured,
    }
}

/// Serves one connection over QUIC to its end.
pub(crate) async fn quic(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    arrived: Arrived,
    permit: ConnectionPermit,
) {
    let counted = Counted::new(&listening.open);
    let began = worker.clock.mono();
    if let Some((mut conn, quic, known)) = Box::pin(handshake::secure_quic(worker, listening, arrived)).await
    {
        conn.secured.shaken_in = conn.worker.clock.mono().saturating_since(began);
        match conn.takes_place(permit) {
            Ok(()) => Box::pin(h3::run(&conn, quic)).await,
            Err(reason) => {
                let told = if conn.listening.tells_shed { reason.as_str() } else { "" };
                close(&quic, ::h3::error::Code::H3_EXCESSIVE_LOAD, told.as_bytes());
            }
        }
        drop(known);
    }
    drop(counted);
}

/// One call on its connection: where it comes from, and where its answer goes.
pub(crate) struct Exchange<'a, 'b, R, W> {
    pub(crate) conn: &'a Connection,
    pub(crate) asker: Asker,
    pub(crate) body: Inlet<'b, R>,
    pub(crate) out: Outlet<'b, W>,
    pub(crate) now: Now,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Exchange<'_, '_, R, W> {
    /// Serves the call; false when its answer broke off, so that nothing more may follow on an HTTP/1 connection.
    pub(crate) async fn serve(&mut self, head: Result<Call, NotCanonical>, timer: &Timer<'_>) -> bool {
        self.conn.begins_call();
        let mut trail = Trail::start(self.asker.protocol(), &self.conn.worker);
        let permit = self.conn.permit.as_ref();
        permit.into_iter().for_each(ConnectionPermit::begin);
        let named = head.as_ref().map_or(Ok(None), |call| bearer::named(self.conn, call));
        let (named, stepped) = match (named, head) {
            (Err(refusal), Ok(call)) => {
                let turned_down = bearer::turned_down(self.conn, call, &refusal, self.now, &mut trail);
                (None, Err(Box::pin(turned_down).await))
            }
            (named, head) => {
                let named = named.unwrap_or_default();
                let conn = named.as_deref().unwrap_or(self.conn);
                let stepped = self.steps(conn, head, timer, &mut trail).await;
                (named, stepped)
            }
        };
        // Who a token names calls as if over a connection of its own.
        let conn = named.as_deref().unwrap_or(self.conn);
        let whole = match stepped {
            Ok(()) => true,
            Err(stop) => {
                timer.set(self.conn.tells_until());
                let stop = self.blamed(stop);
                let refusing = Box::pin(self.refuse(&stop, conn, &mut trail));
                timer.within(pin!(refusing)).await.unwrap_or(false)
            }
        };
        let now = trail.end(conn, self.now, (self.body.taken(), self.out.sent()));
        permit.into_iter().for_each(|permit| permit.end(now));
        self.conn.ends_call();
        whole
    }

    async fn steps(
        &mut self,
        conn: &Connection,
        head: Result<Call, NotCanonical>,
        timer: &Timer<'_>,
        trail: &mut Trail,
    ) -> Result<(), Stop> {
        conn.is_taken_in()?;
        let call = match head {
            Ok(call) => call, // what is judged is what the upstream receives
            Err(flaw) => return Err(Box::pin(not_canonical(conn, flaw, self.now)).await.into()),
        };
        let call = trail.call(call, &conn.worker);
        if conn.listening.callers.is_some() {
            conn.is_held().await?;
        }
        let changes = Changes::of(conn); // read before the verdict, so that a change after it is seen
        let permitted = authorize(conn, call, self.now).await?; // decided and recorded as its strength demands
        let (mut timeouts, budget) = trail.permitted(&permitted, conn);
        if self.asker.protocol() == CallProtocol::Tcp {
            timeouts.idle = conn.listening.timers.idle; // its stillness is that of the connection
        }
        self.hands_on(&permitted, conn)?; // unless the route answers itself, or takes no such body
        let (status, notes) = trail.running();
        let clocks = {
            let ends = conn.secured.ends; // no call outlives the identity that was permitted
            let clocks = Clocks::start(timer, &*conn.worker.clock, self.now.mono, timeouts, budget, ends)
                .noting(notes);
            let call = permitted.call();
            let is_streaming = call.protocol() == CallProtocol::Grpc || call.upgrade().is_some();
            let is_paced = !is_streaming && call.protocol() != CallProtocol::Tcp;
            let clocks = if is_paced { clocks.paced() } else { clocks };
            if permitted.reads_time() { clocks.looking(self.now.mono) } else { clocks }
        };
        let ended = {
            let mut way = Way { conn, clocks: &clocks, body: &mut self.body, out: &mut self.out, status };
            let forwarding = pin!(forward(&permitted, &mut way));
            Vigil::over(&permitted, conn, changes).within(&clocks, forwarding).await // judged again on change
        };
        ended.map_err(|stop| match stop {
            Stop::Fault(fault) => self.placed(fault, &permitted, conn),
            stop => stop,
        })
    }

    /// A place that is refused is a denial, on record as any (OUT1, OUT5).
    #[cold]
    fn placed(&self, fault: Fault, permitted: &Permitted<Call>, conn: &Connection) -> Stop {
        let Some(reason) = fault.refused_place().filter(|_| !self.out.is_begun()) else {
            return fault.into();
        };
        let cause = chain(&fault);
        tracing::warn!(event = "place_refused", decision = %permitted.decision(), cause, "a call was permitted and leads to a place that it must not reach");
        conn.worker.judge.withdraw(conn, permitted, (reason, cause), conn.worker.clock.now()).into()
    }

    /// Whether the route takes the call and hands it on.
    fn hands_on(&mut self, permitted: &Permitted<Call>, conn: &Connection) -> Result<(), Stop> {
        if let Some(mark) = conn.worker.mark()
            && permitted.call().header(HOP).any(|hops| hops == mark.as_bytes())
        {
            return Err(Fault::Loop.into());
        }
        let Some(upstreams) = permitted.upstreams() else { return Ok(()) };
        if let Some(limit) = &upstreams.rate {
            conn.accounts.take(limit, &conn.secured, self.now.mono).map_err(Fault::Rate)?;
        }
        if upstreams.route.priority == Priority::Low
            && let Some(strain) = conn.worker.load.gives_up(Step::New)
        {
            return Err(Fault::Overload(strain).into());
        }
        let handling = &upstreams.route.handling;
        if handling.bars_websocket && permitted.call().body() == BodyLength::None {
            self.body = Inlet::Empty; // what follows the head of a call that wanted to become another thing
        }
        if let Some(location) = handling.canonical_location(permitted.call()) {
            return Err(Stop::Reply(Box::new(Reply::to(location))));
        }
        if let Some(reply) = &handling.reply {
            return Err(Stop::Reply(Box::new(Reply::of(permitted.call(), handling, reply))));
        }
        let call = permitted.call();
        let most = match call.protocol() {
            CallProtocol::Grpc => handling.max_body,
            _ => handling.max_body.or(conn.listening.max_body),
        };
        if let Some(most) = most
            && call.upgrade().is_none()
            && call.protocol() != CallProtocol::Tcp
        {
            if matches!(call.body(), BodyLength::Known(length) if length > most.into()) {
                return Err(Fault::Body(TOO_LARGE).into());
            }
            self.body.limit(most);
        }
        Ok(())
    }

    /// A call that ran out of time while its caller owed the rest of its body is the caller's fault.
    fn blamed(&mut self, stop: Stop) -> Stop {
        let is_late = matches!(stop, Stop::Fault(Fault::Deadline)) && !self.out.is_begun();
        if is_late && self.body.is_awaited() { Fault::Body(SLOW).into() } else { stop }
    }

    /// Tells the caller why there is no answer, or breaks off the one that began.
    async fn refuse(&mut self, stop: &Stop, conn: &Connection, trail: &mut Trail) -> bool {
        // A body that nobody takes ends an HTTP/1 connection.
        let close = !self.body.is_over();
        let refusal = match stop {
            Stop::Reply(reply) => {
                *trail.status() = reply.status;
                return reply.tell(self.conn.alternative(), close, &mut self.out).await.is_ok();
            }
            Stop::Denied(denied) => {
                trail.denied(denied, conn);
                // What a token says of its bearer says nothing of the connection.
                let is_of_conn = std::ptr::eq(conn, self.conn) && !denied.reason.is_about_a_token();
                if is_of_conn && denied.reason.class() == ReasonClass::Unauthenticated {
                    self.conn.lapsed.store(true, Ordering::Relaxed);
                }
                denied.flaw.into_iter().for_each(|flaw| self.conn.worker.meters.gate_refused(flaw.rule));
                Refusal::of_denied(denied.reason, denied.flaw, denied.decision)
            }
            Stop::Fault(fault) => {
                trail.fault(fault);
                if let Fault::Body(flaw) = fault {
                    self.conn.worker.meters.gate_refused(flaw.rule);
                }
                fault.shed().into_iter().for_each(|reason| self.conn.worker.meters.shed(reason));
                let refusal = Refusal::of_fault(fault, trail.decision());
                if self.conn.listening.tells_shed { refusal } else { refusal.silent() }
            }
        };
        if self.asker.protocol() == CallProtocol::Tcp {
            *trail.status() = refusal.status;
            return false; // the connection is closed without a byte (PA-08)
        }
        if self.out.is_begun() {
            let (code, message, reset) = refusal.cut();
            trail.told_grpc(code);
            self.out.cut(code, message, reset);
            return false;
        }
        *trail.status() = refusal.status;
        trail.told_grpc(refusal.cut().0);
        refusal.tell(self.asker, self.conn.worker.reveal, close, &mut self.out).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
