//! Where a body comes from.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use enforcer_codec::h1::{BodyDecoder, BodyEvent};
use enforcer_codec::{Limits, NotCanonical};
use http::HeaderMap;
use tokio::io::AsyncRead;

use super::h3::H3Inlet;
use super::poll_read_buf;
use super::raw::RawIn;
use super::replay::Replay;
use super::stream::StreamInlet;
use super::tee::{Copied, Tee};
use crate::fault::Broken;

const READ: usize = 16 * 1024;
const BULK_READ: usize = 64 * 1024;

/// A body that is larger than its route takes (RT-04).
pub(crate) const TOO_LARGE: NotCanonical = NotCanonical {
    rule: "RT-04",
    status: 413,
    close: true,
    detail: "the body is larger than the route takes",
};

/// A body whose end did not arrive within the time of its call (H1-32).
pub(crate) const SLOW: NotCanonical =
    NotCanonical { rule: "H1-32", status: 408, close: true, detail: "the body took too long to arrive" };

pub(super) fn is_over(taken: usize, most: u32) -> bool {
    most != u32::MAX && usize::try_from(most).is_ok_and(|most| taken > most)
}

/// The body of a message, as it arrives.
#[derive(Debug)]
pub(crate) enum Inlet<'a, R> {
    /// There is none.
    Empty,
    H1(H1Inlet<'a, R>),
    Stream(StreamInlet<'a>),
    H3(Box<H3Inlet>),
    /// One that can be sent again.
    Replay(Box<Replay<'a, R>>),
    /// One that is read twice.
    Tee(Box<Tee<'a, R>>),
    /// The copy of another call's.
    Copied(Copied),
}

/// A body on an HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct H1Inlet<'a, R> {
    io: R,
    buffer: &'a mut BytesMut,
    decoder: BodyDecoder,
    /// The caller waits for `100 Continue` before it sends.
    expects_continue: bool,
    taken: usize,
    /// `u32::MAX` is any.
    most: u32,
}

/// The next part of a body.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Bytes, never none; `last` when nothing follows, trailers included.
    Data { bytes: Bytes, last: bool },
    /// Trailers; nothing follows.
    Trailers(Box<HeaderMap>),
    /// Nothing follows.
    End,
}

impl Piece {
    /// Bytes of the body.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => bytes.len(),
            Self::Trailers(_) | Self::End => 0,
        }
    }

    /// The gRPC status that trailers tell.
    pub(super) fn grpc_status(&self) -> Option<u8> {
        let Self::Trailers(trailers) = self else { return None };
        trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok())
    }
}

impl<'a, R: AsyncRead + Unpin> H1Inlet<'a, R> {
    pub(crate) fn new(io: R, buffer: &'a mut BytesMut, decoder: BodyDecoder, expects_continue: bool) -> Self {
        Self { io, buffer, decoder, expects_continue, taken: 0, most: u32::MAX }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        loop {
            match self.decoder.decode(self.buffer)? {
                Some(BodyEvent::Data(bytes)) => {
                    self.taken = self.taken.saturating_add(bytes.len());
                    if is_over(self.taken, self.most) {
                        return Poll::Ready(Err(TOO_LARGE.into()));
                    }
                    return Poll::Ready(Ok(Piece::Data { bytes, last: self.decoder.is_done() }));
                }
                Some(BodyEvent::Trailers(trailers)) => {
                    return Poll::Ready(Ok(Piece::Trailers(Box::new(trailers))));
                }
                Some(BodyEvent::End) => return Poll::Ready(Ok(Piece::End)),
                None => {}
            }
            self.buffer.reserve(if self.taken > 8 * READ { BULK_READ } else { READ });
            if ready!(poll_read_buf(&mut self.io, self.buffer, context))? == 0 {
                self.decoder.finish()?;
                return Poll::Ready(Ok(Piece::End));
            }
        }
    }
}

/// A trailer section that arrived.
pub(super) fn trailers(mut trailers: HeaderMap) -> Result<Piece, NotCanonical> {
    bounded(&trailers)?;
    enforcer_codec::headers::strip_trailers(&mut trailers);
    Ok(Piece::Trailers(Box::new(trailers)))
}

/// Refuses a trailer section of HTTP/2 that is over the limits which its twin on HTTP/1 has (hardening.md 1).
fn bounded(trailers: &HeaderMap) -> Result<(), NotCanonical> {
    let limits = Limits::default();
    let bytes = trailers.iter().fold(0_usize, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len()).saturating_add(value.len())
    });
    if trailers.len() <= limits.trailers && bytes <= limits.trailer_bytes {
        return Ok(());
    }
    Err(NotCanonical { rule: "H1-18", status: 431, close: false, detail: "the trailer section is too large" })
}

impl<'a, R: AsyncRead + Unpin> Inlet<'a, R> {
    /// Keeps what goes by from now on, as far as it is kept; answers what turns true when it is too much. None when
    /// there is no body.
    pub(crate) fn keep(&mut self) -> Option<Arc<AtomicBool>> {
        if matches!(self, Self::Empty) {
            return None;
        }
        let is_spent = Arc::default();
        let body = std::mem::replace(self, Self::Empty);
        *self = Self::Replay(Box::new(Replay::new(body, Arc::clone(&is_spent))));
        Some(is_spent)
    }

    /// Copies what goes by from now on for another call; none when there is no body.
    pub(crate) fn copy(&mut self) -> Option<Copied> {
        if matches!(self, Self::Empty) {
            return None;
        }
        let (tee, copied) = Tee::new(std::mem::replace(self, Self::Empty));
        *self = Self::Tee(Box::new(tee));
        Some(copied)
    }

    /// Begins again with what was kept.
    pub(crate) fn rewind(&mut self) {
        if let Self::Replay(inlet) = self {
            inlet.rewind();
        }
    }

    /// The next part. Nothing is lost when the caller stops waiting.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        match self {
            Self::Empty => Poll::Ready(Ok(Piece::End)),
            Self::H1(inlet) => inlet.poll_piece(context),
            Self::Stream(inlet) => inlet.poll_piece(context),
            Self::H3(inlet) => inlet.poll_piece(context),
            Self::Replay(inlet) => inlet.poll_piece(context),
            Self::Tee(inlet) => inlet.poll_piece(context),
            Self::Copied(inlet) => inlet.poll_piece(context),
        }
    }

    /// The stream of HTTP/3 that the body comes from, if it does.
    pub(crate) fn h3(&mut self) -> Option<&mut H3Inlet> {
        match self {
            Self::H3(inlet) => Some(inlet),
            Self::Replay(inlet) => inlet.body().h3(),
            Self::Tee(inlet) => inlet.body().h3(),
            Self::Empty | Self::H1(_) | Self::Stream(_) | Self::Copied(_) => None,
        }
    }

    /// The bytes that follow, and what was read ahead of them, where they are no body but a tunnel.
    pub(crate) fn raw(&mut self) -> Option<(RawIn<'_, 'a, R>, BytesMut)> {
        match self {
            Self::H1(inlet) => Some((RawIn::Io(&mut inlet.io), std::mem::take(inlet.buffer))),
            Self::Stream(inlet) => Some((RawIn::Stream(inlet), BytesMut::new())),
            Self::Replay(_) | Self::Tee(_) | Self::Copied(_) | Self::Empty | Self::H3(_) => None,
        }
    }

    /// Takes no more than so many bytes.
    pub(crate) fn limit(&mut self, most: u32) {
        match self {
            Self::Empty | Self::Copied(_) => {}
            Self::H1(inlet) => inlet.most = most,
            Self::Stream(inlet) => inlet.limit(most),
            Self::H3(inlet) => inlet.most = most,
            Self::Replay(inlet) => inlet.limit(most),
            Self::Tee(inlet) => inlet.body().limit(most),
        }
    }

    /// The receiver took so many bytes: the sender may send as many again.
    pub(crate) fn release(&mut self, bytes: usize) -> Result<(), Broken> {
        match self {
            Self::Stream(inlet) => {
                inlet.release(bytes);
                Ok(())
            }
            Self::Empty | Self::H1(_) | Self::H3(_) | Self::Copied(_) => Ok(()),
            Self::Replay(inlet) => inlet.release(bytes),
            Self::Tee(inlet) => inlet.body().release(bytes),
        }
    }

    /// Bytes of memory that it takes, with a part of that length that its receiver did not take yet (OV-01). What QUIC
    /// keeps is bounded by its windows and not told.
    pub(super) fn holds(&mut self, part: usize) -> usize {
        match self {
            Self::Empty => 0,
            Self::H1(inlet) => inlet.buffer.capacity().saturating_add(part),
            Self::Stream(inlet) => inlet.holds(),
            Self::H3(_) => part,
            Self::Replay(inlet) => inlet.holds(part),
            Self::Tee(inlet) => inlet.body().holds(part),
            Self::Copied(inlet) => inlet.holds().saturating_add(part),
        }
    }

    /// Nothing follows.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(inlet) => inlet.decoder.is_done(),
            Self::Stream(inlet) => inlet.is_over(),
            Self::H3(inlet) => inlet.is_over,
            Self::Replay(inlet) => inlet.is_over(),
            Self::Tee(inlet) => inlet.of().is_over(),
            Self::Copied(inlet) => inlet.is_over(),
        }
    }

    /// Its sender owes more of it. Only of a body that nobody reads any more: a part that is there is lost.
    pub(crate) fn is_awaited(&mut self) -> bool {
        let is_tunnel = match self {
            Self::H1(inlet) => inlet.decoder.is_endless(),
            Self::Stream(inlet) => inlet.is_tunnel(),
            Self::Empty | Self::H3(_) | Self::Replay(_) | Self::Tee(_) | Self::Copied(_) => false,
        };
        !is_tunnel && !self.is_over() && self.poll_piece(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Bytes of it that were taken.
    pub(crate) fn taken(&self) -> u64 {
        let taken = match self {
            Self::Empty => 0,
            Self::H1(inlet) => inlet.taken,
            Self::Stream(inlet) => inlet.taken(),
            Self::H3(inlet) => inlet.taken,
            Self::Replay(inlet) => return inlet.taken(),
            Self::Tee(inlet) => return inlet.of().taken(),
            Self::Copied(inlet) => inlet.taken(),
        };
        u64::try_from(taken).unwrap_or(u64::MAX)
    }

    /// No byte of the body has been taken yet.
    pub(crate) fn is_untouched(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(inlet) => inlet.taken == 0,
            Self::Stream(inlet) => inlet.is_untouched(),
            Self::H3(inlet) => inlet.taken == 0,
            Self::Replay(inlet) => inlet.is_untouched(),
            Self::Tee(inlet) => inlet.of().is_untouched(),
            Self::Copied(inlet) => inlet.taken() == 0,
        }
    }

    /// The caller must be told to go on before it sends its body.
    pub(crate) fn awaits_continue(&self) -> bool {
        match self {
            Self::H1(inlet) => inlet.expects_continue && inlet.buffer.is_empty() && inlet.taken == 0,
            Self::Empty | Self::Stream(_) | Self::H3(_) | Self::Copied(_) => false,
            Self::Replay(inlet) => inlet.awaits_continue(),
            Self::Tee(inlet) => inlet.of().awaits_continue(),
        }
    }
}
