//! QUIC connections and streams as HTTP/3 wants them: the transport traits of `h3` over quinn.
//!
//! The library holds what it has not understood yet without a bound, so every stream counts what was read since the
//! library gave something of it, and is refused above [`HELD`]. It also takes pseudo-header fields as they come, so what
//! arrives is looked at before (`enforcer_codec::h3`).

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use enforcer_codec::h3::Sections;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use parking_lot::Mutex;
use quinn::{ConnectionError, ReadError, WriteError};

use super::{close, varint};

/// A field section of 64 KiB, and room for what is around it.
const HELD: usize = 80 * 1024;
/// What the streams of a peer that carry no request may say in all (SETTINGS, priorities, QPACK).
const CONTROL: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

type Waiting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>;
type Pair = (quinn::SendStream, quinn::RecvStream);

/// A connection, of a caller or to an endpoint.
pub(crate) struct Transport {
    conn: quinn::Connection,
    pair: Option<Waiting<Pair>>,
    asking: Option<Waiting<Pair>>,
    incoming: Option<Waiting<quinn::RecvStream>>,
    opening: Option<Waiting<quinn::SendStream>>,
    intake: Arc<Intake>,
}

/// The request streams of a connection as they begin.
#[derive(Default)]
pub(crate) struct Intake {
    latest: Mutex<Option<Watch>>,
    is_closed: AtomicBool,
}

impl Intake {
    /// The watch over the request stream that was accepted or opened last.
    pub(crate) fn latest(&self) -> Option<Watch> {
        self.latest.lock().take()
    }

    /// One more.
    fn begin(&self, (sending, stream): Pair, sections: Sections) -> Both {
        let held = Arc::<AtomicUsize>::default();
        let stopped = sending.stopped();
        let stopped: Stopped = Box::pin(async move {
            match stopped.await {
                Ok(Some(code)) => Some(code.into_inner()),
                Ok(None) | Err(_) => None,
            }
        });
        *self.latest.lock() = Some(Watch { held: Held(Arc::clone(&held)), stopped });
        let receiving = Receiving { stream, held, most: HELD, sections: Some(sections) };
        Both { sending: Sending::new(sending), receiving }
    }

    /// Turns away what comes from now on; it may be asked again elsewhere.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Looks after one request stream.
pub(crate) struct Watch {
    held: Held,
    stopped: Stopped,
}

/// What the library has read of a stream and not given.
pub(crate) struct Held(Arc<AtomicUsize>);

/// The end of the interest of who receives.
pub(crate) type Stopped = Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

impl Watch {
    /// What is read needs the one, what is sent the other: ready when nobody wants it any more.
    pub(crate) fn parted(self) -> (Held, Stopped) {
        (self.held, self.stopped)
    }
}

impl Held {
    /// The library has given what it held.
    pub(crate) fn given(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Transport {
    pub(crate) fn new(conn: quinn::Connection) -> Self {
        Self { conn, pair: None, asking: None, incoming: None, opening: None, intake: Arc::default() }
    }

    pub(crate) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }
}

fn poll_waiting<T>(
    slot: &mut Option<Waiting<T>>,
    start: impl FnOnce() -> Waiting<T>,
    context: &mut Context<'_>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let ended = ready!(slot.get_or_insert_with(start).as_mut().poll(context));
    *slot = None;
    Poll::Ready(ended.map_err(lost))
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn lost_with(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
}

#[expect(
    clippy::expect_used,
    reason = "INVARIANT: quinn numbers streams below 2^62, which is all that is asked"
)]
fn id(stream: quinn::StreamId) -> StreamId {
    u64::from(stream).try_into().expect("a stream id of quinn")
}

impl quic::Connection<Bytes> for Transport {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let Self { conn, incoming, .. } = self;
        let start = || -> Waiting<_> {
            let conn = conn.clone();
            Box::pin(async move { conn.accept_uni().await })
        };
        poll_waiting(incoming, start, context).map_ok(|stream| Receiving {
            stream,
            held: Arc::default(),
            most: CONTROL,
            sections: None,
        })
    }

    fn poll_accept_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        let Self { conn, pair, .. } = self;
        let start = || -> Waiting<_> {
            let conn = conn.clone();
            Box::pin(async move { conn.accept_bi().await })
        };
        let (sending, stream) = loop {
            let (mut sending, mut stream) = ready!(poll_waiting(pair, start, context))?;
            if !self.intake.is_closed.load(Ordering::Relaxed) {
                break (sending, stream);
            }
            let code = varint(Code::H3_REQUEST_REJECTED.value());
            // Errors mean that the stream has ended already.
            stream.stop(code).ok();
            sending.reset(code).ok();
        };
        Poll::Ready(Ok(self.intake.begin((sending, stream), Sections::of_request())))
    }

    fn opener(&self) -> Opener {
        Opener { conn: self.conn.clone(), asking: None, intake: Arc::clone(&self.intake) }
    }
}

impl quic::OpenStreams<Bytes> for Transport {
    type BidiStream = Both;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        let Self { conn, asking, intake, .. } = self;
        poll_asking(conn, asking, intake, context)
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let Self { conn, opening, .. } = self;
        let start = || -> Waiting<_> {
            let conn = conn.clone();
            Box::pin(async move { conn.open_uni().await })
        };
        poll_waiting(opening, start, context)
            .map_ok(Sending::new)
            .map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: error })
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        close(&self.conn, code, reason);
    }
}

/// Opens request streams, towards an endpoint, and closes a connection.
pub(crate) struct Opener {
    conn: quinn::Connection,
    asking: Option<Waiting<Pair>>,
    intake: Arc<Intake>,
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self { conn: self.conn.clone(), asking: None, intake: Arc::clone(&self.intake) }
    }
}

fn poll_asking(
    conn: &quinn::Connection,
    asking: &mut Option<Waiting<Pair>>,
    intake: &Intake,
    context: &mut Context<'_>,
) -> Poll<Result<Both, StreamErrorIncoming>> {
    let start = || -> Waiting<_> {
        let conn = conn.clone();
        Box::pin(async move { conn.open_bi().await })
    };
    poll_waiting(asking, start, context)
        .map_ok(|pair| intake.begin(pair, Sections::of_answer()))
        .map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: error })
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Both;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        let Self { conn, asking, intake } = self;
        poll_asking(conn, asking, intake, context)
    }

    fn poll_open_send(&mut self, _: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("the connection opens its own streams".into())))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        close(&self.conn, code, reason);
    }
}

/// What the peer sends on one stream.
pub(crate) struct Receiving {
    stream: quinn::RecvStream,
    held: Arc<AtomicUsize>,
    most: usize,
    /// Of a request stream.
    sections: Option<Sections>,
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // INVARIANT: `read_chunk` keeps no state between polls, so it may be made anew for each.
        let chunk = ready!(pin!(self.stream.read_chunk(CHUNK, true)).poll(context));
        let chunk = chunk.map_err(|error| match error {
            ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
            ReadError::ConnectionLost(error) => lost_with(error),
            other => StreamErrorIncoming::Unknown(Box::new(other)),
        })?;
        let Some(chunk) = chunk else {
            return Poll::Ready(Ok(None));
        };
        let held = self.held.fetch_add(chunk.bytes.len(), Ordering::Relaxed);
        let sections = self.sections.as_mut();
        let refused = if held > self.most {
            Some(Code::H3_EXCESSIVE_LOAD)
        } else if sections.is_some_and(|sections| sections.look(&chunk.bytes).is_err()) {
            Some(Code::H3_MESSAGE_ERROR)
        } else {
            None
        };
        let Some(error_code) = refused.map(|code| code.value()) else {
            return Poll::Ready(Ok(Some(chunk.bytes)));
        };
        self.stop_sending(error_code);
        Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }))
    }

    fn stop_sending(&mut self, error_code: u64) {
        // An error means that the stream has ended already.
        self.stream.stop(varint(error_code)).ok();
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

/// What the peer receives on one stream.
pub(crate) struct Sending {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
}

impl Sending {
    fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None }
    }
}

impl Drop for Sending {
    /// quinn ends a stream that is dropped as if it were complete, but half a frame breaks the connection.
    fn drop(&mut self) {
        if self.writing.is_some() {
            // An error means that the stream has ended already.
            self.stream.reset(varint(Code::H3_REQUEST_CANCELLED.value())).ok();
        }
    }
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(context, data.chunk()));
                data.advance(written.map_err(|error| match error {
                    WriteError::Stopped(code) => {
                        StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
                    }
                    WriteError::ConnectionLost(error) => lost_with(error),
                    other => StreamErrorIncoming::Unknown(Box::new(other)),
                })?);
            }
            self.writing = None;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("a write has not ended".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        // An error means that the stream has ended already.
        self.stream.reset(varint(code)).ok();
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

/// Both directions of a request stream.
pub(crate) struct Both {
    sending: Sending,
    receiving: Receiving,
}

impl quic::BidiStream<Bytes> for Both {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.sending, self.receiving)
    }
}

impl quic::RecvStream for Both {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.receiving.poll_data(context);
        // A message without a head has no answer in words (RFC 9114, 4.1.2).
        if let Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code })) = &polled
            && *error_code == Code::H3_MESSAGE_ERROR.value()
        {
            quic::SendStream::reset(&mut self.sending, *error_code);
        }
        polled
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receiving.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiving.recv_id()
    }
}

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.sending.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.sending.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.sending.send_id()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}
