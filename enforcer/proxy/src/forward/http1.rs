//! Over an HTTP/1 endpoint.
//!
//! Head and body leave with one write when the body is there already. A kept connection that turns out dead before it
//! gave any byte of an answer is replaced once, when the request can be told again without harm (RY-05).

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use enforcer_codec::h1::{self, BodyDecoder, Framing, ResponseHead};
use enforcer_codec::{Answer, BodyLength, Call, Limits};
use enforcer_traffic::Trigger;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tries::is_idempotent;
use super::{Pick, Told, Way, both, unless_gone};
use crate::body::{H1Inlet, H1Outlet, Inlet, Outlet, Piece, RelayError, relay};
use crate::fault::{Broken, Fault};
use crate::pool::{H1Link, read_head};

/// So much of a body may leave together with its head.
const FIRST: usize = 16 * 1024;

pub(super) async fn carry<R, W>(pick: &Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let told = Told::of(pick);
    if pick.call().upgrade().is_some() {
        return Box::pin(told.switch(way.body, way.out, way.status)).await;
    }
    let mut flight = BytesMut::with_capacity(1024);
    told.with_identity(|extra| pick.call().write_h1(&mut flight, extra));
    if !poll_fn(|context| Poll::Ready(fill(&mut flight, pick.call(), way.body, context))).await? {
        return Box::pin(told.carry_on(flight, way.body, way.out, way.status)).await;
    }
    let (mut link, head) = {
        let asking = pin!(told.ask(&flight));
        unless_gone(way.out, asking).await?
    };
    let keep = head.keep_alive();
    let H1Link { stream, buffer, .. } = &mut link;
    let mut inlet = told.begin(head, stream, buffer, way.out, way.status)?;
    relay(&mut inlet, way.out, way.clocks).await.map_err(|error| told.ended(error))?;
    if keep {
        pick.endpoint.keep_h1(link, way.clocks.now());
    }
    Ok(())
}

/// Appends what is there of the body, as far as it fits; true when that is all of it.
fn fill<R: AsyncRead + Unpin>(
    flight: &mut BytesMut,
    call: &Call,
    body: &mut Inlet<'_, R>,
    context: &mut Context<'_>,
) -> Result<bool, Fault> {
    if matches!(body, Inlet::Empty) {
        end(flight, call);
        return Ok(true);
    }
    let limit = flight.len().saturating_add(FIRST);
    while flight.len() < limit {
        let piece = match body.poll_piece(context) {
            Poll::Ready(piece) => piece.map_err(Fault::of_caller)?,
            Poll::Pending => return Ok(false),
        };
        match piece {
            Piece::Data { bytes, last } => {
                match call.body() {
                    BodyLength::Streamed => h1::write_chunk(flight, &bytes),
                    _ => flight.extend_from_slice(&bytes),
                }
                body.release(bytes.len()).map_err(Fault::of_caller)?;
                if last {
                    end(flight, call);
                    return Ok(true);
                }
            }
            Piece::Trailers(trailers) => {
                if call.body() == BodyLength::Streamed {
                    h1::write_last_chunk(flight, Some(&trailers));
                }
                return Ok(true);
            }
            Piece::End => {
                end(flight, call);
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn end(flight: &mut BytesMut, call: &Call) {
    if call.body() == BodyLength::Streamed {
        h1::write_last_chunk(flight, None);
    }
}

impl Told<'_> {
    /// Writes a whole request and waits for the head of its answer.
    pub(super) async fn ask(&self, request: &[u8]) -> Result<(H1Link, ResponseHead), Fault> {
        let mut fresh = false;
        loop {
            let mut link = self.lend(fresh).await?;
            let head = match link.write(request).await {
                Ok(()) => link.head(&self.conn().worker, self.asked()).await,
                Err(error) => Err(error.into()),
            };
            match head {
                Ok(head) => return Ok((link, head)),
                Err(broken)
                    if link.is_used && !fresh && link.buffer.is_empty() && self.may_repeat(&broken) =>
                {
                    tracing::debug!(event = "stale_connection", endpoint = %self.pick.endpoint.address, "asked again");
                    fresh = true;
                }
                Err(broken) => return Err(self.broke(broken)),
            }
        }
    }

    /// Writes the first part of a request whose body goes on.
    async fn send(&self, part: &[u8]) -> Result<H1Link, Fault> {
        let mut link = self.lend(false).await?;
        let mut written = link.write(part).await;
        if written.is_err() && link.is_used {
            // Not fully written, so it was not processed.
            link = self.lend(true).await?;
            written = link.write(part).await;
        }
        written.map_err(|error| self.broke(error.into()))?;
        Ok(link)
    }

    /// Goes on after the first part: the body up, the answer down.
    async fn carry_on<R, W>(
        &self,
        first: BytesMut,
        body: &mut Inlet<'_, R>,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut link = self.send(&first).await?;
        let (mut read, write, buffer, parser) = link.split();
        let framing = match self.pick.call().body() {
            BodyLength::Known(length) => Framing::Length(length),
            BodyLength::Streamed => Framing::Chunked,
            BodyLength::None => Framing::Empty,
        };
        let mut gathered = BytesMut::new();
        let mut upstream = Outlet::H1(H1Outlet::request(write, &mut gathered, framing));
        let mut keep = false;
        let sent = {
            let up = pin!(async {
                relay(body, &mut upstream, self.clocks()).await?;
                self.clocks().sent();
                Ok::<(), RelayError>(())
            });
            let down = pin!(async {
                let head = {
                    let reading = pin!(async {
                        let head =
                            read_head(&self.conn().worker, &mut read, buffer, parser, self.asked()).await;
                        head.map_err(|broken| self.broke(broken))
                    });
                    unless_gone(out, reading).await?
                };
                keep = head.keep_alive();
                let mut inlet = self.begin(head, &mut read, buffer, out, status)?;
                relay(&mut inlet, out, self.clocks()).await.map_err(|error| self.ended(error))
            });
            both(up, down).await?
        };
        if keep && sent {
            self.pick.endpoint.keep_h1(link, self.clocks().now());
        }
        Ok(())
    }

    async fn lend(&self, fresh: bool) -> Result<H1Link, Fault> {
        let now = self.clocks().now();
        self.clocks().left(now)?;
        let endpoint = self.pick.endpoint;
        self.pick.connecting();
        let link = match if fresh { None } else { endpoint.kept_h1(&self.conn().worker, now) } {
            Some(link) => link,
            None => Box::pin(endpoint.dial_h1(&self.conn().worker, self.pick.terms())).await?,
        };
        self.pick.connected(link.identity());
        Ok(link)
    }

    /// A request that nobody answered may be sent again when that changes nothing, or when it was not fully sent.
    fn may_repeat(&self, broken: &Broken) -> bool {
        let unsent = matches!(broken, Broken::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        (is_idempotent(self.pick.call()) && broken.is_lost()) || unsent
    }

    /// Starts the answer with the head of the upstream's.
    pub(super) fn begin<'b, S, W>(
        &self,
        head: ResponseHead,
        read: S,
        buffer: &'b mut BytesMut,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<Inlet<'b, S>, Fault>
    where
        S: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let decoder = BodyDecoder::response(head.framing(), Limits::default());
        let answer = Answer::from_h1(head);
        self.judge(&answer, Trigger::Status(answer.status()))?;
        let answer = self.edited(answer);
        *status = answer.status();
        self.clocks().answered(answer.body() == BodyLength::Streamed);
        let over = decoder.is_done();
        let begun = self.with_decision(|extra| out.begin(&answer, over, extra));
        begun.map_err(Fault::Caller)?;
        Ok(if over { Inlet::Empty } else { Inlet::H1(H1Inlet::new(read, buffer, decoder, false)) })
    }
}
