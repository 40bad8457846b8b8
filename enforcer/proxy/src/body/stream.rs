//! A stream of a caller over HTTP/2: its body and its answer, on the connection that all its streams share.
//!
//! Streams and connection run in one task. What a stream says goes to the buffer of the connection, which is written once all
//! streams that could go on have done so; what arrives for a stream waits in its lane, within its window.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use enforcer_codec::h2::{Encoder, Ended, Event, Reason, RequestHead, Room, Server};
use enforcer_codec::headers::Extra;
use enforcer_codec::{Limits, NotCanonical};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::inlet::{Piece, TOO_LARGE, is_over, trailers};
use super::outlet::status;
use crate::fault::Broken;

/// A caller that reads nothing is not read either, once so much waits for it (H2-04).
pub(crate) const FULL: usize = 96 * 1024;

/// A part of a body that large is rarely the last one: there is room for more behind it.
const PART: usize = 4 * 1024;
/// So much room.
const AHEAD: usize = 32 * 1024;

/// A connection and its streams.
#[derive(Debug)]
pub(crate) struct Link(Mutex<State>);

#[derive(Debug)]
struct State {
    server: Server<Lane>,
    /// Streams that wait for the connection, in the order in which they came.
    waiting: Vec<u32>,
    /// Something was written since they were woken.
    has_written: bool,
    /// What was handed down is on its way.
    is_flushed: bool,
}

/// What waits for a stream, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    body: BytesMut,
    trailers: Option<HeaderMap>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    waits: bool,
}

/// A request that arrived.
pub(crate) struct Arrival {
    pub(crate) stream: u32,
    pub(crate) head: Result<RequestHead, NotCanonical>,
    /// No body follows.
    pub(crate) over: bool,
}

impl Link {
    /// A connection whose first byte is to come. `now` is of the clock that [`Self::take`] gets.
    pub(crate) fn new(limits: Limits, is_proved: bool, now: Duration) -> Self {
        let server = Server::new(limits, is_proved, now);
        Self(Mutex::new(State { server, waiting: Vec::new(), has_written: false, is_flushed: true }))
    }

    /// Takes bytes of the caller.
    pub(crate) fn take(
        &self,
        mut bytes: &[u8],
        now: Duration,
        mut arrived: impl FnMut(Arrival),
    ) -> Result<(), Ended> {
        let State { server, waiting, .. } = &mut *self.0.lock();
        while let Some(event) = server.receive(&mut bytes, now)? {
            match event {
                Event::Request { stream, head, over } => arrived(Arrival { stream, head, over }),
                Event::Data { stream, bytes, .. } => {
                    if let Some(stream) = server.stream(stream) {
                        let body = &mut stream.lane.body;
                        if body.is_empty() && bytes.len() >= PART {
                            body.reserve(AHEAD);
                        }
                        body.extend_from_slice(bytes);
                        wake(&mut stream.lane.reader);
                    }
                }
                Event::Trailers { stream, fields } => {
                    if let Some(stream) = server.stream(stream) {
                        stream.lane.trailers = Some(fields);
                        wake(&mut stream.lane.reader);
                    }
                }
                Event::Reset { stream } => {
                    if let Some(stream) = server.stream(stream) {
                        wake(&mut stream.lane.reader);
                        wake(&mut stream.lane.writer);
                    }
                }
                Event::Room { stream: 0 } => wake_all(server, waiting),
                Event::Room { stream } => {
                    if let Some(stream) = server.stream(stream) {
                        wake(&mut stream.lane.writer);
                    }
                }
                Event::Settings => {
                    wake_all(server, waiting);
                    server.streams().for_each(|stream| wake(&mut stream.lane.writer));
                }
            }
        }
        Ok(())
    }

    /// Writes what there is to write. When all is written, streams that waited for that go on: true when there
    /// are any.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let State { server, waiting, has_written, is_flushed } = &mut *self.0.lock();
        loop {
            // While the socket takes nothing, what follows is gathered here, not in small records below.
            if !*is_flushed {
                ready!(Pin::new(&mut *io).poll_flush(context))?;
                *is_flushed = true;
            }
            if server.pending().is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut *io).poll_write(context, server.pending()))?;
            server.wrote(written);
            (*has_written, *is_flushed) = (true, false);
        }
        let goes_on = std::mem::take(has_written) && !waiting.is_empty();
        if goes_on {
            wake_all(server, waiting);
        }
        Poll::Ready(Ok(goes_on))
    }

    /// What waits to be written.
    pub(crate) fn pending(&self) -> usize {
        self.0.lock().server.pending().len()
    }

    /// The caller takes nothing of what we say.
    pub(crate) fn is_full(&self) -> bool {
        self.pending() > FULL
    }

    /// The caller has begun to speak HTTP/2.
    pub(crate) fn is_greeted(&self) -> bool {
        self.0.lock().server.is_greeted()
    }

    /// The caller has acknowledged our settings.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.lock().server.is_heard()
    }

    /// The caller owes the rest of its greeting, or of a header block.
    pub(crate) fn is_head_open(&self) -> bool {
        let server = &self.0.lock().server;
        !server.is_greeted() || server.is_head_open()
    }

    /// Asks the caller to go.
    pub(crate) fn leave(&self) {
        self.0.lock().server.leave();
    }

    /// No call is left and none can come.
    pub(crate) fn is_left(&self) -> bool {
        self.0.lock().server.is_left()
    }

    /// Ends the connection with that word.
    pub(crate) fn end(&self, reason: Reason) {
        self.0.lock().server.end(reason);
    }

    /// Gives back what only a busy connection needs.
    pub(crate) fn trim(&self) {
        let State { server, waiting, .. } = &mut *self.0.lock();
        server.trim();
        waiting.shrink_to_fit();
    }

    fn answer(
        &self,
        id: u32,
        status: u16,
        over: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), Broken> {
        self.0.lock().server.answer(id, status, over, fields).map_err(Broken::Stream)
    }
}

fn wake_all(server: &mut Server<Lane>, waiting: &mut Vec<u32>) {
    for id in waiting.drain(..) {
        if let Some(stream) = server.stream(id) {
            stream.lane.waits = false;
            wake(&mut stream.lane.writer);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn register(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct StreamInlet<'a> {
    link: &'a Link,
    id: u32,
    is_over: bool,
    taken: usize,
    /// `u32::MAX` is any.
    most: u32,
}

impl<'a> StreamInlet<'a> {
    pub(crate) fn new(link: &'a Link, id: u32) -> Self {
        Self { link, id, is_over: false, taken: 0, most: u32::MAX }
    }

    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if self.is_over {
            return Poll::Ready(Ok(Piece::End));
        }
        let server = &mut self.link.0.lock().server;
        let stream = server.stream(self.id).ok_or(Broken::Ended)?;
        if let Some(reason) = stream.reset() {
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
            register(&mut stream.lane.reader, context);
            return Poll::Pending;
        }
        self.is_over = true;
        Poll::Ready(Ok(match stream.lane.trailers.take() {
            Some(found) => trailers(found)?,
            None => Piece::End,
        }))
    }

    pub(super) fn limit(&mut self, most: u32) {
        self.most = most;
    }

    /// A body that is over earns no credit for its stream; the connection gets it when the call ends.
    pub(super) fn release(&self, bytes: usize) {
        if !self.is_over {
            self.link.0.lock().server.release(self.id, bytes);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
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
}

impl<'a> StreamOutlet<'a> {
    pub(crate) fn new(link: &'a Link, id: u32, grpc: bool) -> Self {
        Self { link, id, grpc, is_begun: false, is_ended: false }
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

    pub(super) async fn data(&mut self, mut bytes: Bytes, last: bool) -> Result<(), Broken> {
        // A gRPC body is never the end: a status follows, ours if need be.
        let last = last && !self.grpc;
        poll_fn(|context| self.poll_data(&mut bytes, last, context)).await?;
        self.is_ended = last;
        Ok(())
    }

    fn poll_data(
        &self,
        bytes: &mut Bytes,
        last: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let State { server, waiting, .. } = &mut *self.link.0.lock();
        while !bytes.is_empty() {
            match server.room(self.id) {
                Room::Free(room) => {
                    let part = bytes.split_to(room.min(bytes.len()));
                    server.data(self.id, &part, last && bytes.is_empty()).map_err(Broken::Stream)?;
                }
                Room::Gone(reason) => return Poll::Ready(Err(Broken::Stream(reason))),
                blocked => {
                    let stream = server.stream(self.id).ok_or(Broken::Ended)?;
                    register(&mut stream.lane.writer, context);
                    if blocked == Room::Connection && !std::mem::replace(&mut stream.lane.waits, true) {
                        waiting.push(self.id);
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        if self.is_ended {
            return Ok(());
        }
        self.is_ended = true;
        let server = &mut self.link.0.lock().server;
        let own;
        let trailers = match trailers.filter(|trailers| !trailers.is_empty()) {
            None if self.grpc => {
                own = status(13, "the upstream ended without a status");
                Some(&own)
            }
            given => given,
        };
        let told = match trailers {
            Some(trailers) => server.trailers(self.id, |encoder, out| put_fields(trailers, encoder, out)),
            None => server.data(self.id, &[], true),
        };
        told.map_err(Broken::Stream)
    }

    pub(super) fn cut(&mut self, code: u8, message: &'static str, reset: Reason) {
        let server = &mut self.link.0.lock().server;
        let word =
            |encoder: &mut Encoder, out: &mut Vec<u8>| put_fields(&status(code, message), encoder, out);
        let is_told = self.grpc && server.trailers(self.id, word).is_ok();
        if !is_told {
            server.reset(self.id, reset);
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        let server = &mut self.link.0.lock().server;
        let Some(stream) = server.stream(self.id) else { return Poll::Pending };
        match stream.reset() {
            Some(reason) => Poll::Ready(Broken::Stream(reason)),
            None => {
                register(&mut stream.lane.writer, context);
                Poll::Pending
            }
        }
    }
}

impl Drop for StreamOutlet<'_> {
    fn drop(&mut self) {
        self.link.0.lock().server.remove(self.id);
    }
}

/// Appends the fields of a map.
pub(super) fn put_fields(map: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in map {
        encoder.field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}
