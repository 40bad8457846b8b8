//! A connection of HTTP/2 that all its streams share (see `stream`).
//!
//! What a stream says goes to the buffer of the connection, which is written once all streams that could go on have done so;
//! what arrives for a stream waits in its lane, within its window. The calls of a caller run in the task of its connection;
//! the connection to an endpoint has a task of its own, its driver (see `asking`).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use base_ports::Mono;
use bytes::{Buf, Bytes, BytesMut};
use enforcer_codec::h2::{AnswerHead, Connection, Encoder, Ended, Event, Reason, RequestHead, Room};
use enforcer_codec::{Limits, NotCanonical};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::asking::Driven;
use crate::fault::Broken;

/// A caller that reads nothing is not read either, once so much waits for it (H2-04).
pub(crate) const FULL: usize = 96 * 1024;

/// A part of a body that large is rarely the last one: there is room for more behind it.
const PART: usize = 4 * 1024;
/// So much room.
const AHEAD: usize = 32 * 1024;

/// A connection and its streams.
#[derive(Debug)]
pub(crate) struct Link(pub(super) Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) conn: Connection<Lane>,
    /// Streams that wait for the connection, in the order in which they came.
    pub(super) waiting: Vec<u32>,
    /// Something was written since they were woken.
    has_written: bool,
    /// What was handed down is on its way.
    is_flushed: bool,
    /// Of a connection to an endpoint.
    pub(super) driven: Option<Box<Driven>>,
}

/// What waits for a stream, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(super) body: BytesMut,
    /// The head of an answer, and whether nothing follows it.
    pub(super) head: Option<Box<(AnswerHead, bool)>>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) waits: bool,
}

/// A request that arrived.
pub(crate) struct Arrival {
    pub(crate) stream: u32,
    pub(crate) head: Result<RequestHead, NotCanonical>,
    /// No body follows.
    pub(crate) over: bool,
}

impl Link {
    /// A connection whose first byte is to come.
    pub(crate) fn new(limits: Limits, is_proved: bool, now: Mono) -> Self {
        Self::of(Connection::server(limits, is_proved, since_start(now)), None)
    }

    pub(super) fn of(conn: Connection<Lane>, driven: Option<Box<Driven>>) -> Self {
        let (waiting, has_written, is_flushed) = (Vec::new(), false, true);
        Self(Mutex::new(State { conn, waiting, has_written, is_flushed, driven }))
    }

    /// Takes bytes of the peer; whether any stream got something.
    pub(crate) fn take(
        &self,
        mut bytes: &[u8],
        now: Mono,
        mut arrived: impl FnMut(Arrival),
    ) -> Result<bool, Ended> {
        let state = &mut *self.0.lock();
        let State { conn, waiting, .. } = state;
        let (mut has_moved, now) = (false, since_start(now));
        while let Some(event) = conn.receive(&mut bytes, now)? {
            has_moved |= !matches!(event, Event::Room { .. } | Event::Settings);
            match event {
                Event::Request { stream, head, over } => arrived(Arrival { stream, head, over }),
                Event::Answer { stream, head, over } => {
                    if let Some(stream) = conn.stream(stream) {
                        stream.lane.head = Some(Box::new((head, over)));
                        wake(&mut stream.lane.reader);
                    }
                }
                Event::Data { stream, bytes, .. } => {
                    if let Some(stream) = conn.stream(stream) {
                        let body = &mut stream.lane.body;
                        if body.is_empty() && bytes.len() >= PART {
                            body.reserve(AHEAD);
                        }
                        body.extend_from_slice(bytes);
                        wake(&mut stream.lane.reader);
                    }
                }
                Event::Trailers { stream, fields } => {
                    if let Some(stream) = conn.stream(stream) {
                        stream.lane.trailers = Some(fields);
                        wake(&mut stream.lane.reader);
                    }
                }
                Event::Reset { stream } => {
                    if let Some(stream) = conn.stream(stream) {
                        stream.lane.wake();
                    }
                }
                Event::Room { stream: 0 } => wake_all(conn, waiting),
                Event::Room { stream } => {
                    if let Some(stream) = conn.stream(stream) {
                        wake(&mut stream.lane.writer);
                    }
                }
                Event::Settings => {
                    wake_all(conn, waiting);
                    conn.streams().for_each(|stream| wake(&mut stream.lane.writer));
                    state.driven.iter_mut().for_each(|driven| driven.call_openers());
                }
                Event::Leaving => {
                    conn.streams().for_each(|stream| stream.lane.wake());
                    state.driven.iter_mut().for_each(|driven| driven.call_openers());
                }
            }
        }
        Ok(has_moved)
    }

    /// Writes what there is to write. When all is written, streams that waited for that go on: true when there
    /// are any.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let State { conn, waiting, has_written, is_flushed, .. } = &mut *self.0.lock();
        loop {
            // While the socket takes nothing, what follows is gathered here, not in small records below.
            if !*is_flushed {
                ready!(Pin::new(&mut *io).poll_flush(context))?;
                *is_flushed = true;
            }
            if conn.pending().is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut *io).poll_write(context, conn.pending()))?;
            conn.wrote(written);
            (*has_written, *is_flushed) = (true, false);
        }
        let goes_on = std::mem::take(has_written) && !waiting.is_empty();
        if goes_on {
            wake_all(conn, waiting);
        }
        Poll::Ready(Ok(goes_on))
    }

    /// What waits to be written.
    pub(crate) fn pending(&self) -> usize {
        self.0.lock().conn.pending().len()
    }

    /// The peer takes nothing of what we say.
    pub(crate) fn is_full(&self) -> bool {
        self.pending() > FULL
    }

    /// The caller has begun to speak HTTP/2.
    pub(crate) fn is_greeted(&self) -> bool {
        self.0.lock().conn.is_greeted()
    }

    /// The caller has acknowledged our settings.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.lock().conn.is_heard()
    }

    /// The caller owes the rest of its greeting, or of a header block.
    pub(crate) fn is_head_open(&self) -> bool {
        let conn = &self.0.lock().conn;
        !conn.is_greeted() || conn.is_head_open()
    }

    /// Asks the caller to go.
    pub(crate) fn leave(&self) {
        self.0.lock().conn.leave();
    }

    /// No call is left and none can come.
    pub(crate) fn is_left(&self) -> bool {
        self.0.lock().conn.is_left()
    }

    /// Ends the connection with that word.
    pub(crate) fn end(&self, reason: Reason) {
        self.0.lock().conn.end(reason);
    }

    /// Gives back what only a busy connection needs.
    pub(crate) fn trim(&self) {
        let State { conn, waiting, .. } = &mut *self.0.lock();
        conn.trim();
        waiting.shrink_to_fit();
    }

    /// Sends part of a body, as much as there is room for, never nothing.
    pub(super) fn poll_part(
        &self,
        id: u32,
        bytes: &[u8],
        last: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, Broken>> {
        let state = &mut *self.0.lock();
        state.is_over()?;
        let State { conn, waiting, .. } = state;
        match conn.room(id) {
            Room::Free(room) => {
                let part = bytes.get(..room).unwrap_or(bytes);
                let over = last && part.len() == bytes.len();
                conn.data(id, part, over).map_err(Broken::Stream)?;
                state.asked();
                Poll::Ready(Ok(part.len()))
            }
            Room::Gone(reason) => Poll::Ready(Err(Broken::Stream(reason))),
            blocked => {
                let stream = conn.stream(id).ok_or(Broken::Ended)?;
                register(&mut stream.lane.writer, context);
                if blocked == Room::Connection && !std::mem::replace(&mut stream.lane.waits, true) {
                    waiting.push(id);
                }
                Poll::Pending
            }
        }
    }

    /// Sends a part of a body whole. No `async fn`: each of those keeps a copy of the part (MM-01).
    pub(super) fn data(
        &self,
        id: u32,
        mut bytes: Bytes,
        last: bool,
    ) -> impl Future<Output = Result<(), Broken>> {
        poll_fn(move |context| {
            while !bytes.is_empty() {
                bytes.advance(ready!(self.poll_part(id, &bytes, last, context))?);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Ends a message, with trailers where there are any.
    pub(super) fn finish(&self, id: u32, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        let state = &mut *self.0.lock();
        state.is_over()?;
        let told = match trailers {
            Some(trailers) => state.conn.trailers(id, |encoder, out| put_fields(trailers, encoder, out)),
            None => state.conn.data(id, &[], true),
        };
        state.asked();
        told.map_err(Broken::Stream)
    }

    /// Ready when the peer has given the stream up.
    pub(super) fn poll_gone(&self, id: u32, context: &mut Context<'_>) -> Poll<Broken> {
        let state = &mut *self.0.lock();
        if let Err(over) = state.is_over() {
            return Poll::Ready(over);
        }
        let Some(stream) = state.conn.stream(id) else { return Poll::Pending };
        match stream.reset() {
            Some(reason) => Poll::Ready(Broken::Stream(reason)),
            None => {
                register(&mut stream.lane.writer, context);
                Poll::Pending
            }
        }
    }

    /// So much of a body was taken.
    pub(super) fn release(&self, id: u32, bytes: usize) {
        let state = &mut *self.0.lock();
        state.conn.release(id, bytes);
        state.said();
    }

    pub(super) fn answer(
        &self,
        id: u32,
        status: u16,
        over: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), Broken> {
        self.0.lock().conn.answer(id, status, over, fields).map_err(Broken::Stream)
    }
}

/// The time as the codec counts it.
pub(super) fn since_start(now: Mono) -> Duration {
    Duration::from_nanos(now.as_nanos())
}

impl Lane {
    pub(super) fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

/// Appends the fields of a map.
pub(super) fn put_fields(map: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in map {
        encoder.field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}

fn wake_all(conn: &mut Connection<Lane>, waiting: &mut Vec<u32>) {
    for id in waiting.drain(..) {
        if let Some(stream) = conn.stream(id) {
            stream.lane.waits = false;
            wake(&mut stream.lane.writer);
        }
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(super) fn register(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
}
