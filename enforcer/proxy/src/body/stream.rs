//! A stream over HTTP/2: the body of a message, and the answer to a caller, on the connection that all its streams share.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use enforcer_codec::h2::{Encoder, Reason};
use enforcer_codec::headers::Extra;
use http::HeaderMap;
use tokio::io::ReadBuf;

use super::asking::Asked;
use super::inlet::{Piece, TOO_LARGE, is_over, trailers};
use super::link::{Link, put_fields, register};
use super::outlet::status;
use crate::fault::Broken;

/// The body of a request, or of an answer of an endpoint.
#[derive(Debug)]
pub(crate) struct StreamInlet<'a> {
    link: &'a Link,
    id: u32,
    /// A stream that is reset after an answer has come whole takes nothing of it away.
    is_answer: bool,
    /// What follows is no body.
    is_tunnel: bool,
    is_over: bool,
    taken: usize,
    /// `u32::MAX` is any.
    most: u32,
}

impl<'a> StreamInlet<'a> {
    pub(crate) fn new(link: &'a Link, id: u32, is_tunnel: bool) -> Self {
        Self { link, id, is_answer: false, is_tunnel, is_over: false, taken: 0, most: u32::MAX }
    }

    /// The body of the answer to a request that was sent.
    pub(crate) fn of_answer(asked: &Asked<'a>) -> Self {
        let (link, id) = asked.stream();
        Self { is_answer: true, ..Self::new(link, id, false) }
    }

    /// The gRPC status of an answer whose body is nothing but trailers, when these are there already (RY-04).
    pub(crate) fn peek_status(&self) -> Result<Option<u8>, Broken> {
        let state = &mut *self.link.0.lock();
        let stream = state.conn.stream(self.id).ok_or(Broken::Ended)?;
        if let Some(reason) = stream.reset().filter(|_| !stream.is_whole()) {
            return Err(Broken::Stream(reason));
        }
        let trailers = stream.lane.trailers.as_ref().filter(|_| stream.lane.body.is_empty());
        Ok(trailers.and_then(|trailers| trailers.get("grpc-status")?.to_str().ok()?.parse().ok()))
    }

    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if self.is_over {
            return Poll::Ready(Ok(Piece::End));
        }
        let state = &mut *self.link.0.lock();
        let over = state.is_over();
        let stream = state.conn.stream(self.id).ok_or(Broken::Ended)?;
        if let Some(reason) = stream.reset().filter(|_| !(self.is_answer && stream.is_whole())) {
            return Poll::Ready(Err(Broken::Stream(reason)));
        }
        if !stream.lane.body.is_empty() {
            let bytes = stream.lane.body.split().freeze();
            self.is_over = !stream.is_open() && stream.lane.trailers.is_none();
            self.taken = self.taken.saturating_add(bytes.len());
            if is_over(self.taken, self.most) {
                return Poll::Ready(Err(TOO_LARGE.into()));
            }
            return Poll::Ready(Ok(Piece::Data { bytes, last: self.is_over }));
        }
        if stream.is_open() {
            over?;
            register(&mut stream.lane.reader, context);
            return Poll::Pending;
        }
        self.is_over = true;
        Poll::Ready(Ok(match stream.lane.trailers.take() {
            Some(found) => trailers(found)?,
            None => Piece::End,
        }))
    }

    /// The next bytes as they come; none when nothing follows. Trailers have no meaning in a tunnel.
    pub(super) fn poll_bytes(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let conn = &mut self.link.0.lock().conn;
        let stream = conn.stream(self.id).ok_or(io::ErrorKind::NotConnected)?;
        if stream.reset().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let length = stream.lane.body.len().min(buffer.remaining());
        if length > 0 {
            buffer.put_slice(&stream.lane.body.split_to(length));
            conn.release(self.id, length);
        } else if stream.is_open() {
            register(&mut stream.lane.reader, context);
            return Poll::Pending;
        } else {
            self.is_over = true;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn limit(&mut self, most: u32) {
        self.most = most;
    }

    /// A body that is over earns no credit for its stream; the connection gets it when the call ends.
    pub(super) fn release(&self, bytes: usize) {
        if !self.is_over {
            self.link.release(self.id, bytes);
        }
    }

    /// What arrived and was not released yet.
    pub(super) fn holds(&self) -> usize {
        self.link.0.lock().conn.stream(self.id).map_or(0, |stream| stream.held())
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.taken == 0
    }
}

/// The answer to a request. The stream ends with it.
#[derive(Debug)]
pub(crate) struct StreamOutlet<'a> {
    link: &'a Link,
    id: u32,
    /// The caller speaks gRPC, and must get a status in any case.
    grpc: bool,
    is_begun: bool,
    /// Nothing can follow.
    is_ended: bool,
    /// Bytes of its body.
    sent: u64,
}

impl<'a> StreamOutlet<'a> {
    pub(crate) fn new(link: &'a Link, id: u32, grpc: bool) -> Self {
        Self { link, id, grpc, is_begun: false, is_ended: false, sent: 0 }
    }

    pub(super) fn begin(
        &mut self,
        status: u16,
        over: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), Broken> {
        (self.is_begun, self.is_ended) = (true, over);
        self.link.answer(self.id, status, over, fields)
    }

    /// A whole answer of our own, which needs no status of gRPC.
    pub(super) async fn send(
        &mut self,
        status: u16,
        fields: &[Extra<'_>],
        body: &[u8],
    ) -> Result<(), Broken> {
        self.grpc = false;
        self.begin(status, body.is_empty(), |encoder, out| {
            for (name, value) in fields {
                encoder.field(name.as_bytes(), value, out);
            }
            let mut length = itoa::Buffer::new();
            encoder.field(b"content-length", length.format(body.len()).as_bytes(), out);
        })?;
        if body.is_empty() { Ok(()) } else { self.data(Bytes::copy_from_slice(body), true).await }
    }

    pub(super) fn data(&mut self, bytes: Bytes, last: bool) -> impl Future<Output = Result<(), Broken>> {
        // A gRPC body is never the end: a status follows, ours if need be.
        let last = last && !self.grpc;
        self.is_ended = last;
        self.link.data(self.id, bytes, last)
    }

    /// Sends bytes of a tunnel, as many as there is room for.
    pub(super) fn poll_bytes(&self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let sent = ready!(self.link.poll_part(self.id, bytes, false, context));
        Poll::Ready(sent.map_err(|_gone| io::ErrorKind::ConnectionReset.into()))
    }

    pub(super) fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        if self.is_ended {
            return Ok(());
        }
        self.is_ended = true;
        let own;
        let trailers = match trailers.filter(|trailers| !trailers.is_empty()) {
            None if self.grpc => {
                own = status(13, "the upstream ended without a status");
                Some(&own)
            }
            given => given,
        };
        self.link.finish(self.id, trailers)
    }

    pub(super) fn cut(&mut self, code: u8, message: &'static str, reset: Reason) {
        let conn = &mut self.link.0.lock().conn;
        let word =
            |encoder: &mut Encoder, out: &mut Vec<u8>| put_fields(&status(code, message), encoder, out);
        let is_told = self.grpc && conn.trailers(self.id, word).is_ok();
        if !is_told {
            conn.reset(self.id, reset);
        }
    }

    pub(super) fn sent(&mut self) -> &mut u64 {
        &mut self.sent
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        self.link.poll_gone(self.id, context)
    }
}

impl Drop for StreamOutlet<'_> {
    fn drop(&mut self) {
        self.link.0.lock().conn.remove(self.id);
    }
}
