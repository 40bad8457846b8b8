//! A connection of HTTP/2 that all its streams share (see `stream`).
//!
//! Streams and connection run in one task. What a stream says goes to the buffer of the connection, which is written once all
//! streams that could go on have done so; what arrives for a stream waits in its lane, within its window.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use enforcer_codec::h2::{Encoder, Ended, Event, Reason, RequestHead, Server};
use enforcer_codec::{Limits, NotCanonical};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

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
    pub(super) server: Server<Lane>,
    /// Streams that wait for the connection, in the order in which they came.
    pub(super) waiting: Vec<u32>,
    /// Something was written since they were woken.
    has_written: bool,
    /// What was handed down is on its way.
    is_flushed: bool,
}

/// What waits for a stream, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(super) body: BytesMut,
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

    pub(super) fn answer(
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

pub(super) fn register(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
}
