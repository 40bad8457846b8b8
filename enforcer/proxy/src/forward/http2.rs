//! Over an HTTP/2 endpoint; the only way for gRPC, whose status comes in trailers (RPC-03).

use std::pin::pin;
use std::time::Duration;

use enforcer_codec::h2::AnswerHead;
use enforcer_codec::{Answer, BodyLength, CallProtocol, NotCanonical, grpc};
use enforcer_traffic::Trigger;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, Empty, Sink};

use super::{Pick, Told, Way, both, unless_gone};
use crate::body::{Asked, Inlet, Link, Outlet, RelayError, StreamInlet, relay};
use crate::fault::{Broken, Fault};

pub(super) async fn carry<R, W>(pick: &Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Way { conn, clocks, body, out, status } = way;
    let told = Told::of(pick);
    let mut repeated = false;
    loop {
        pick.connecting();
        let stream = pick.endpoint.lend_h2(&conn.worker, pick.terms()).await?;
        pick.connected(stream.place.identity());
        let left = clocks.left(clocks.now())?;
        let (carried, is_told) = match told.ask_h2(stream.link(), left, body.is_over())? {
            Some(asked) => (told.converse(asked, body, out, status).await, true),
            None => (Err(told.broke(Broken::Ended)), false),
        };
        let Err(Fault::Upstream { source, address }) = carried else {
            stream.place.serves();
            return carried;
        };
        if let Some(alert) = stream.rejected() {
            return Err(Fault::TlsRejected { address, alert });
        }
        let harmless = !is_told || told.is_harmless(&source, stream.place.is_used);
        if repeated || !harmless || !body.is_untouched() || out.is_begun() {
            return Err(Fault::Upstream { source, address });
        }
        repeated = true;
    }
}

impl Told<'_> {
    /// Sends the head of the request; none when the connection takes no more.
    fn ask_h2<'l>(
        &self,
        link: &'l Link,
        left: Option<Duration>,
        over: bool,
    ) -> Result<Option<Asked<'l>>, Fault> {
        let (call, is_secured) = (self.pick.call(), self.pick.endpoint.is_secured());
        let is_head = *call.http_method() == Method::HEAD;
        self.with_identity(|extra| {
            let fields = call.write_h2(is_secured, left, extra).map_err(Fault::Untold)?;
            Ok(link.ask(over, is_head, fields).ok())
        })
    }

    /// The body up, the answer down, on a stream whose request was sent.
    async fn converse<R, W>(
        &self,
        asked: Asked<'_>,
        body: &mut Inlet<'_, R>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let down = pin!(async {
            let head = {
                let waiting = pin!(async { asked.head().await.map_err(|broken| self.broke(broken)) });
                unless_gone(out, waiting).await?
            };
            let Some(body) = self.begin_h2(&asked, *head, out, status)? else { return Ok(()) };
            let mut inlet = Inlet::<Empty>::Stream(body);
            relay(&mut inlet, out, self.clocks()).await.map_err(|error| self.ended(error))
        });
        if body.is_over() {
            return down.await;
        }
        let mut upstream = Outlet::<Sink>::H2(asked.outlet());
        let up = pin!(async {
            relay(body, &mut upstream, self.clocks()).await?;
            self.clocks().sent();
            Ok::<(), RelayError>(())
        });
        both(up, down).await.map(drop)
    }

    /// Starts the answer with the head of the upstream's; its body, when one follows.
    fn begin_h2<'l, W: AsyncWrite + Unpin>(
        &self,
        asked: &Asked<'l>,
        (head, over): (AnswerHead, bool),
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<Option<StreamInlet<'l>>, Fault> {
        let body = StreamInlet::of_answer(asked);
        let answer = Answer::from_h2(head, over, self.asked());
        let follows = self.begin_framed(answer, over, || body.peek_status(), out, status)?;
        Ok(Some(body).filter(|_| follows))
    }

    /// Starts the answer with the head of an upstream's that came in frames; whether a body follows. `peek` tells the
    /// status of gRPC when that is all there is in the body.
    pub(super) fn begin_framed<W: AsyncWrite + Unpin>(
        &self,
        answer: Result<Answer, NotCanonical>,
        over: bool,
        peek: impl FnOnce() -> Result<Option<u8>, Broken>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<bool, Fault> {
        let is_grpc = self.pick.call().protocol() == CallProtocol::Grpc;
        let answer = answer.map_err(|flaw| self.broke(Broken::Gate(flaw)))?;
        if is_grpc && !speaks_grpc(&answer) {
            return Err(Fault::NotGrpc { status: answer.status() });
        }
        let follows = !over && answer.body() != BodyLength::None;
        let grpc = answer.header("grpc-status").next().filter(|_| is_grpc && over);
        let mut code = grpc.and_then(|code| str::from_utf8(code).ok()?.parse().ok());
        if is_grpc && self.pick.chance.may_repeat() && follows {
            code = peek().map_err(|broken| self.broke(broken))?;
        }
        self.judge(&answer, code.map_or(Trigger::Status(answer.status()), Trigger::Grpc))?;
        let answer = self.edited(answer);
        *status = answer.status();
        // The deadline that a gRPC caller named holds for its streams too.
        self.clocks().answered(answer.body() == BodyLength::Streamed && !is_grpc);
        let begun = self.with_decision(|extra| out.begin(&answer, over, extra));
        begun.map_err(Fault::Caller)?;
        Ok(follows)
    }
}

fn speaks_grpc(answer: &Answer) -> bool {
    answer.status() == 200 && answer.header("content-type").next().is_some_and(grpc::is_grpc)
}
