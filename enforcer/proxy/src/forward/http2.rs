//! Over an HTTP/2 endpoint; the only way for gRPC, whose status comes in trailers (RPC-03).

use std::pin::pin;

use bytes::Bytes;
use enforcer_codec::{Answer, BodyLength, Call, CallProtocol, Scheme, grpc};
use enforcer_traffic::Trigger;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::Response;
use http::response::Parts;
use tokio::io::{AsyncRead, AsyncWrite, Empty, Sink};

use super::{Pick, Told, Way, both, unless_gone};
use crate::body::{H2Inlet, H2Outlet, Inlet, Outlet, RelayError, relay};
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
        let mut stream = pick.endpoint.lend_h2(&conn.worker, pick.terms()).await?;
        pick.connected(stream.place.identity());
        let left = clocks.left(clocks.now())?;
        let mut request =
            told.with_identity(|extra| pick.call().to_h2_request(left, extra)).map_err(Fault::Untold)?;
        if pick.endpoint.is_secured() && pick.call().scheme() == Scheme::Http {
            request = Call::under_tls(request).map_err(Fault::Untold)?;
        }
        let (carried, is_told) = match stream.sender.send_request(request, body.is_over()) {
            Ok((response, up)) => (told.converse(response, up, body, out, status).await, true),
            Err(error) => (Err(told.broke(Broken::H2(error))), false),
        };
        let Err(Fault::Upstream { source, address }) = carried else {
            stream.place.serves();
            return carried;
        };
        stream.give_up(&source);
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
    /// The body up, the answer down, on a stream whose request was sent.
    async fn converse<R, W>(
        &self,
        response: ResponseFuture,
        up: SendStream<Bytes>,
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
                let waiting = pin!(async { response.await.map_err(|error| self.broke(Broken::H2(error))) });
                unless_gone(out, waiting).await?
            };
            let Some(stream) = self.begin_h2(head, out, status)? else {
                return Ok(());
            };
            let mut inlet = Inlet::<Empty>::H2(stream);
            relay(&mut inlet, out, self.clocks()).await.map_err(|error| self.ended(error))
        });
        if body.is_over() {
            return down.await;
        }
        let mut upstream = Outlet::<Sink>::H2(H2Outlet::request(up));
        let up = pin!(async {
            relay(body, &mut upstream, self.clocks()).await?;
            self.clocks().sent();
            Ok::<(), RelayError>(())
        });
        both(up, down).await.map(drop)
    }

    /// Starts the answer with the head of the upstream's; its body, when one follows.
    fn begin_h2<W: AsyncWrite + Unpin>(
        &self,
        head: Response<RecvStream>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<Option<H2Inlet>, Fault> {
        let (parts, stream) = head.into_parts();
        let over = stream.is_end_stream();
        let mut body = (!over).then(|| H2Inlet::new(stream));
        let peek = || body.as_mut().map_or(Ok(None), H2Inlet::peek_status);
        let follows = self.begin_framed(parts, over, peek, out, status)?;
        Ok(body.filter(|_| follows))
    }

    /// Starts the answer with the head of an upstream's that came in frames; whether a body follows. `peek` tells the
    /// status of gRPC when that is all there is in the body.
    pub(super) fn begin_framed<W: AsyncWrite + Unpin>(
        &self,
        parts: Parts,
        over: bool,
        peek: impl FnOnce() -> Result<Option<u8>, Broken>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<bool, Fault> {
        let is_grpc = self.pick.call().protocol() == CallProtocol::Grpc;
        if is_grpc && !speaks_grpc(&parts) {
            return Err(Fault::NotGrpc { status: parts.status.as_u16() });
        }
        let answer =
            Answer::from_h2(parts, over, self.asked()).map_err(|flaw| self.broke(Broken::Gate(flaw)))?;
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

fn speaks_grpc(head: &Parts) -> bool {
    let kind = head.headers.get(http::header::CONTENT_TYPE);
    head.status == 200 && kind.is_some_and(|kind| grpc::is_grpc(kind.as_bytes()))
}
