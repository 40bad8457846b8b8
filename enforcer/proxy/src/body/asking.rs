//! The connection to an HTTP/2 endpoint, which calls of many callers share: they open streams on it, its driver moves the bytes.
//!
//! Whatever a call says wakes the driver, which writes what all calls of a turn have said with one write. When the connection
//! is over, every call on it hears why.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use base_ports::Mono;
use bytes::Bytes;
use enforcer_codec::Limits;
use enforcer_codec::h2::{AnswerHead, Connection, Encoder, Opens, Reason};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Scratch;
use super::link::{Link, State, register, since_start, wake};
use crate::fault::Broken;

/// What a connection to an endpoint has besides.
#[derive(Debug, Default)]
pub(super) struct Driven {
    driver: Option<Waker>,
    /// Calls that wait until another one is over.
    openers: Vec<Waker>,
    over: Option<Over>,
    /// A call has said something since the driver looked.
    has_asked: bool,
    /// No further call will come.
    is_unwanted: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is gone, for whatever reason.
    Lost,
    /// The endpoint broke a rule, and was told.
    Broke(Reason),
}

/// A request that was sent. Dropping it ends the stream, which resets what is not complete.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    link: &'a Link,
    id: u32,
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct H2Outlet<'a> {
    link: &'a Link,
    id: u32,
}

impl Driven {
    pub(super) fn call_openers(&mut self) {
        self.openers.drain(..).for_each(Waker::wake);
    }
}

impl State {
    /// Whether the connection is over.
    pub(super) fn is_over(&self) -> Result<(), Broken> {
        match self.driven.as_ref().and_then(|driven| driven.over) {
            None => Ok(()),
            Some(Over::Lost) => Err(Broken::Ended),
            Some(Over::Broke(reason)) => Err(Broken::Stream(reason)),
        }
    }

    /// A call has said something.
    pub(super) fn asked(&mut self) {
        if let Some(driven) = &mut self.driven {
            driven.has_asked = true;
        }
        self.said();
    }

    /// Something may be there to be written. The task of a caller looks by itself.
    pub(super) fn said(&mut self) {
        if let Some(driven) = &mut self.driven
            && !self.conn.pending().is_empty()
        {
            wake(&mut driven.driver);
        }
    }
}

impl Link {
    /// A connection to an endpoint, which has said nothing yet.
    pub(crate) fn to_endpoint(limits: Limits, now: Mono) -> Self {
        Self::of(Connection::client(limits, since_start(now)), Some(Box::default()))
    }

    /// Ready when a stream can be opened; false when never again.
    pub(crate) fn poll_open(&self, context: &mut Context<'_>) -> Poll<bool> {
        let state = &mut *self.0.lock();
        match (state.is_over(), state.conn.opens()) {
            (Err(_), _) | (Ok(()), Opens::Never) => Poll::Ready(false),
            (Ok(()), Opens::Now) => Poll::Ready(true),
            (Ok(()), Opens::Later) => {
                if let Some(driven) = &mut state.driven {
                    driven.openers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Sends the head of a request; `over` when no body follows, `is_bodiless` when the answer has none.
    pub(crate) fn ask(
        &self,
        over: bool,
        is_bodiless: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<Asked<'_>, Broken> {
        let state = &mut *self.0.lock();
        state.is_over()?;
        let id = state.conn.open(over, is_bodiless, fields).map_err(|_closed| Broken::Ended)?;
        state.asked();
        Ok(Asked { link: self, id })
    }

    /// No further call will come: the connection ends with its last stream.
    pub(crate) fn let_go(&self) {
        if let Some(driven) = &mut self.0.lock().driven {
            driven.is_unwanted = true;
            wake(&mut driven.driver);
        }
    }

    /// No stream can be opened any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.lock().conn.opens() == Opens::Never
    }

    /// Whether a call is under way.
    pub(crate) fn has_calls(&self) -> bool {
        self.0.lock().conn.streams().next().is_some()
    }

    /// Asks the endpoint whether it is there.
    pub(crate) fn ping(&self) {
        self.0.lock().conn.ping();
    }

    /// Moves bytes both ways. Ready when the connection is over, without an error when nobody wants it any more.
    pub(crate) fn poll_drive<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        scratch: &Scratch,
        now: impl Fn() -> Mono,
        moved: &mut Moved,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Over>> {
        if let Some(driven) = &mut self.0.lock().driven {
            register(&mut driven.driver, context);
            moved.asked |= std::mem::take(&mut driven.has_asked);
        }
        loop {
            let is_full = self.is_full();
            let mut has_read = false;
            if !is_full {
                let read = scratch.poll_read(io, context, |bytes| match bytes {
                    [] => Err(Over::Lost),
                    bytes => self.take(bytes, now(), |_| {}).map_err(|ended| Over::Broke(ended.reason)),
                });
                match read {
                    Poll::Ready(Ok(taken)) => {
                        moved.answered |= taken?;
                        (has_read, moved.heard) = (true, true);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Over::Lost)),
                    Poll::Pending => {}
                }
            }
            match self.poll_write(io, context) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Over::Lost)),
                Poll::Ready(Ok(_)) if is_full => {}
                _ if has_read => {}
                _ => break,
            }
        }
        let state = &mut *self.0.lock();
        let is_unwanted = state.driven.as_ref().is_some_and(|driven| driven.is_unwanted);
        let is_spent = is_unwanted || state.conn.is_left();
        if is_spent && state.conn.streams().next().is_none() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// The connection is over: whoever is on it hears that.
    pub(crate) fn ended(&self, over: Over) {
        let state = &mut *self.0.lock();
        state.conn.streams().for_each(|stream| stream.lane.wake());
        if let Some(driven) = &mut state.driven {
            driven.over = Some(over);
            driven.call_openers();
        }
    }
}

/// What went by.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Bytes of the endpoint.
    pub(crate) heard: bool,
    /// Something for a call.
    pub(crate) answered: bool,
    /// Something of a call.
    pub(crate) asked: bool,
}

impl<'a> Asked<'a> {
    /// The head of the answer, and whether nothing follows it.
    pub(crate) async fn head(&self) -> Result<Box<(AnswerHead, bool)>, Broken> {
        poll_fn(|context| {
            let state = &mut *self.link.0.lock();
            let over = state.is_over();
            let stream = state.conn.stream(self.id).ok_or(Broken::Ended)?;
            if let Some(head) = stream.lane.head.take() {
                return Poll::Ready(Ok(head));
            }
            if let Some(reason) = stream.reset() {
                return Poll::Ready(Err(Broken::Stream(reason)));
            }
            over?;
            register(&mut stream.lane.reader, context);
            Poll::Pending
        })
        .await
    }

    /// The stream of it.
    pub(crate) fn stream(&self) -> (&'a Link, u32) {
        (self.link, self.id)
    }

    /// Where the body of the request goes.
    pub(crate) fn outlet(&self) -> H2Outlet<'a> {
        H2Outlet { link: self.link, id: self.id }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let state = &mut *self.link.0.lock();
        state.conn.remove(self.id);
        state.said();
        if let Some(driven) = &mut state.driven {
            driven.call_openers();
            if driven.is_unwanted {
                wake(&mut driven.driver);
            }
        }
    }
}

impl H2Outlet<'_> {
    pub(super) fn data(&mut self, bytes: Bytes, last: bool) -> impl Future<Output = Result<(), Broken>> {
        self.link.data(self.id, bytes, last)
    }

    pub(super) fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        self.link.finish(self.id, trailers.filter(|trailers| !trailers.is_empty()))
    }

    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        self.link.poll_gone(self.id, context)
    }
}
