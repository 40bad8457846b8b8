//! Over an HTTP/1 endpoint.
//!
//! Head and body leave with one write when the body is there already. A kept connection that turns out dead before it
//! gave any byte of an answer is replaced once, when the request can be told again without harm (RY-05).

use std::future::poll_fn;
use std::task::Poll;

use bytes::BytesMut;
use enforcer_codec::h1::{self, BodyDecoder, Framing, ResponseHead};
use enforcer_codec::{Answer, Asked, BodyLength, Call, Limits};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Added, Pick, Way, both, unless_gone};
use crate::body::{H1Inlet, H1Outlet, Inlet, Outlet, Piece, RelayError, relay};
use crate::clocks::Clocks;
use crate::fault::{Broken, Fault};
use crate::inbound::Connection;
use crate::pool::{H1Link, read_head};

/// So much of a body may leave together with its head.
const FIRST: usize = 16 * 1024;

pub(super) async fn carry<R, W>(pick: &Pick, way: Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Way { conn, clocks, body, out, status } = way;
    let added = Added::of(pick);
    let mut flight = BytesMut::with_capacity(1024);
    added.with(conn, |extra| pick.call().write_h1(&mut flight, extra));
    let whole = fill(&mut flight, pick.call(), body).await?;
    let asked = Asked::by(pick.call().http_method());
    let told = Told { pick, conn, clocks, added: &added, asked };
    if whole {
        let (mut link, head) = unless_gone(out, told.ask(&flight)).await?;
        let keep = head.keep_alive();
        let H1Link { stream, buffer, .. } = &mut link;
        told.answer(head, stream, buffer, out, status).await?;
        if keep {
            pick.endpoint.keep_h1(link, conn.worker.clock.now().mono);
        }
        return Ok(());
    }
    let mut link = told.send(&flight).await?;
    let (mut read, write, buffer, parser) = link.split();
    let framing = match pick.call().body() {
        BodyLength::Known(length) => Framing::Length(length),
        BodyLength::Streamed => Framing::Chunked,
        BodyLength::None => Framing::Empty,
    };
    let mut gathered = BytesMut::new();
    let mut upstream = Outlet::H1(H1Outlet::request(write, &mut gathered, framing));
    let mut keep = false;
    let up = async {
        relay(body, &mut upstream, clocks).await?;
        clocks.sent();
        Ok::<(), RelayError>(())
    };
    let down = async {
        let reading = read_head(&conn.worker, &mut read, buffer, parser, asked);
        let head = unless_gone(out, async { reading.await.map_err(|broken| told.broke(broken)) }).await?;
        keep = head.keep_alive();
        told.answer(head, &mut read, buffer, out, status).await
    };
    let sent = both(up, down).await?;
    if keep && sent {
        pick.endpoint.keep_h1(link, conn.worker.clock.now().mono);
    }
    Ok(())
}

/// Appends what is there of the body, as far as it fits; true when that is all of it.
async fn fill<R: AsyncRead + Unpin>(
    flight: &mut BytesMut,
    call: &Call,
    body: &mut Inlet<'_, R>,
) -> Result<bool, Fault> {
    if matches!(body, Inlet::Empty) {
        end(flight, call);
        return Ok(true);
    }
    let limit = flight.len().saturating_add(FIRST);
    while flight.len() < limit {
        let piece = match poll_fn(|context| Poll::Ready(body.poll_piece(context))).await {
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

/// A call that is being told to its endpoint.
struct Told<'a> {
    pick: &'a Pick,
    conn: &'a Connection,
    clocks: &'a Clocks<'a>,
    added: &'a Added,
    asked: Asked,
}

impl Told<'_> {
    /// Writes a whole request and waits for the head of its answer.
    async fn ask(&self, request: &[u8]) -> Result<(H1Link, ResponseHead), Fault> {
        let mut fresh = false;
        loop {
            let mut link = self.lend(fresh).await?;
            let head = match link.stream.write_all(request).await {
                Ok(()) => link.head(&self.conn.worker, self.asked).await,
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
        let mut written = link.stream.write_all(part).await;
        if written.is_err() && link.is_used {
            // Not fully written, so it was not processed.
            link = self.lend(true).await?;
            written = link.stream.write_all(part).await;
        }
        written.map_err(|error| self.broke(error.into()))?;
        Ok(link)
    }

    async fn lend(&self, fresh: bool) -> Result<H1Link, Fault> {
        let now = self.conn.worker.clock.now().mono;
        self.clocks.left()?;
        self.pick.endpoint.lend_h1(&self.conn.worker, self.clocks.connect_limit(), now, fresh).await
    }

    /// A request that nobody answered may be sent again when that changes nothing, or when it was not fully sent.
    fn may_repeat(&self, broken: &Broken) -> bool {
        let unsent = matches!(broken, Broken::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        (self.pick.is_idempotent() && broken.is_lost()) || unsent
    }

    fn broke(&self, source: Broken) -> Fault {
        Fault::Upstream { address: self.pick.endpoint.address, source }
    }

    /// Relays the answer whose head was read.
    async fn answer<S, W>(
        &self,
        head: ResponseHead,
        read: &mut S,
        buffer: &mut BytesMut,
        out: &mut Outlet<'_, W>,
        status: &mut u16,
    ) -> Result<(), Fault>
    where
        S: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let decoder = BodyDecoder::response(head.framing(), Limits::default());
        let answer = Answer::from_h1(head);
        *status = answer.status();
        self.clocks.answered(answer.body() == BodyLength::Streamed);
        let mut inlet = Inlet::H1(H1Inlet::new(read, buffer, decoder, false));
        let over = inlet.is_over();
        self.added.for_caller(self.conn, |extra| out.begin(&answer, over, extra)).map_err(Fault::Caller)?;
        if over {
            return out.flush().await.map_err(Fault::Caller);
        }
        relay(&mut inlet, out, self.clocks).await.map_err(|error| match error {
            RelayError::From(broken) => self.broke(broken),
            RelayError::To(broken) => Fault::Caller(broken),
        })
    }
}
