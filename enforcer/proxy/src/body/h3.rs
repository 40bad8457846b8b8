//! Both directions of a request stream of HTTP/3.

mod request;

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use enforcer_codec::NotCanonical;
use enforcer_codec::h2::Reason;
use h3::client;
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::{HeaderMap, Response};

use super::inlet::{Piece, TOO_LARGE, is_over, trailers};
use super::outlet::status;
use crate::fault::Broken;
use crate::quic::{Held, Receiving, Sending, Stopped};
pub(crate) use request::H3Request;

/// HX-04: what is forwarded with a length must have it.
const LENGTH: NotCanonical = NotCanonical {
    rule: "HX-04",
    status: 400,
    close: false,
    detail: "content-length differs from the length of the body",
};

/// HX-02: our own look at the trailers found it, as that at the head did.
const TRAILERS: NotCanonical = NotCanonical {
    rule: "HX-02",
    status: 400,
    close: false,
    detail: "the trailers have pseudo-header fields",
};

/// Where a body on an HTTP/3 stream comes from.
enum Source {
    Caller(RequestStream<Receiving, Bytes>),
    Endpoint(client::RequestStream<Receiving, Bytes>),
}

impl Source {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        fn whole(data: Option<impl Buf>) -> Option<Bytes> {
            data.map(|mut data| data.copy_to_bytes(data.remaining()))
        }
        match self {
            Self::Caller(stream) => stream.poll_recv_data(context).map_ok(whole),
            Self::Endpoint(stream) => stream.poll_recv_data(context).map_ok(whole),
        }
    }

    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        match self {
            Self::Caller(stream) => stream.poll_recv_trailers(context),
            Self::Endpoint(stream) => stream.poll_recv_trailers(context),
        }
    }

    fn stop(&mut self, code: Code) {
        match self {
            Self::Caller(stream) => stream.stop_sending(code),
            Self::Endpoint(stream) => stream.stop_sending(code),
        }
    }
}

/// A body on an HTTP/3 stream.
pub(crate) struct H3Inlet {
    stream: Source,
    held: Held,
    /// Read ahead.
    first: Option<Piece>,
    declared: Option<u64>,
    data_is_over: bool,
    pub(super) is_over: bool,
    is_reset: bool,
    pub(super) taken: usize,
    /// `u32::MAX` is any.
    pub(super) most: u32,
}

impl H3Inlet {
    /// The body of a request; `declared` is the length that its head names.
    pub(crate) fn new(stream: RequestStream<Receiving, Bytes>, held: Held, declared: Option<u64>) -> Self {
        Self::of(Source::Caller(stream), held, declared)
    }

    /// The body of the answer of an upstream.
    pub(crate) fn of_endpoint(
        stream: client::RequestStream<Receiving, Bytes>,
        held: Held,
        declared: Option<u64>,
    ) -> Self {
        Self::of(Source::Endpoint(stream), held, declared)
    }

    fn of(stream: Source, held: Held, declared: Option<u64>) -> Self {
        held.given();
        Self {
            stream,
            held,
            first: None,
            declared,
            data_is_over: false,
            is_over: false,
            is_reset: false,
            taken: 0,
            most: u32::MAX,
        }
    }

    /// Looks whether there is a body at all. Cancel-safe.
    pub(crate) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.first.is_none() && !self.is_over {
            match ready!(self.poll_raw(context))? {
                Piece::End => {}
                piece => self.first = Some(piece),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The caller gave the call up.
    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// The rest is not wanted; the answer stands (RFC 9114, 4.1).
    pub(crate) fn stop(&mut self) {
        if !self.is_over {
            self.stream.stop(Code::H3_NO_ERROR);
        }
    }

    /// Whether nothing follows, as far as that is known without waiting.
    pub(crate) fn is_empty(&mut self) -> Result<bool, Broken> {
        // What is not there yet is polled again with a waker before anybody waits for it.
        match self.poll_first(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(looked) => looked.map(|()| self.is_over && self.first.is_none()),
            Poll::Pending => Ok(false),
        }
    }

    /// The gRPC status of a body that is nothing but trailers, when these are there already (RY-04).
    pub(crate) fn peek_status(&mut self) -> Result<Option<u8>, Broken> {
        self.is_empty()?;
        Ok(self.first.as_ref().and_then(Piece::grpc_status))
    }

    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let piece = match self.first.take() {
            Some(piece) => piece,
            None => ready!(self.poll_raw(context))?,
        };
        let declared =
            self.declared.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let is_end = match &piece {
            Piece::Data { bytes, .. } => {
                self.taken = self.taken.saturating_add(bytes.len());
                false
            }
            Piece::Trailers(_) | Piece::End => true,
        };
        if self.taken > declared || (is_end && self.declared.is_some() && self.taken != declared) {
            return Poll::Ready(Err(LENGTH.into()));
        }
        if is_over(self.taken, self.most) {
            return Poll::Ready(Err(TOO_LARGE.into()));
        }
        Poll::Ready(Ok(piece))
    }

    fn poll_raw(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        while !self.data_is_over {
            let data = match ready!(self.stream.poll_data(context)) {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Err(self.broke(error))),
            };
            self.held.given();
            match data {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return Poll::Ready(Ok(Piece::Data { bytes, last: false })),
                None => self.data_is_over = true,
            }
        }
        if self.is_over {
            return Poll::Ready(Ok(Piece::End));
        }
        let found = match ready!(self.stream.poll_trailers(context)) {
            Ok(found) => found,
            Err(error) => return Poll::Ready(Err(self.broke(error))),
        };
        self.is_over = true;
        Poll::Ready(match found {
            Some(found) => trailers(found).map_err(Broken::from),
            None => Ok(Piece::End),
        })
    }

    fn broke(&mut self, error: StreamError) -> Broken {
        if matches!(error, StreamError::RemoteTerminate { code: Code::H3_MESSAGE_ERROR, .. }) {
            return TRAILERS.into();
        }
        self.is_reset |= matches!(error, StreamError::RemoteTerminate { .. });
        error.into()
    }
}

impl Drop for H3Inlet {
    /// An endpoint need not send the rest of an answer that nobody reads.
    fn drop(&mut self) {
        if !self.is_over && matches!(self.stream, Source::Endpoint(_)) {
            self.stream.stop(Code::H3_REQUEST_CANCELLED);
        }
    }
}

/// An answer on an HTTP/3 stream.
pub(crate) struct H3Outlet {
    stream: RequestStream<Sending, Bytes>,
    stopped: Option<Stopped>,
    grpc: bool,
    head: Head,
    /// The head is all there is.
    over: bool,
    /// A write was left before its end; nothing can follow it.
    writing: bool,
    /// What ends an answer that was cut.
    last_word: Option<HeaderMap>,
    ended: bool,
    is_reset: bool,
    /// Bytes of its body.
    sent: u64,
}

enum Head {
    None,
    /// To be sent with what comes next.
    Due(Response<()>),
    Sent,
}

impl H3Outlet {
    /// `grpc` when the caller speaks gRPC and must get a status in any case.
    pub(crate) fn answer(stream: RequestStream<Sending, Bytes>, stopped: Stopped, grpc: bool) -> Self {
        Self {
            stream,
            stopped: Some(stopped),
            grpc,
            head: Head::None,
            over: false,
            writing: false,
            last_word: None,
            ended: false,
            is_reset: false,
            sent: 0,
        }
    }

    /// Starts the answer. `over` when no body follows.
    pub(super) fn begin(&mut self, head: Response<()>, over: bool) {
        (self.head, self.over) = (Head::Due(head), over);
    }

    /// An answer of our own needs no status of gRPC.
    pub(super) fn is_plain(&mut self) {
        self.grpc = false;
    }

    pub(super) fn sent(&mut self) -> &mut u64 {
        &mut self.sent
    }

    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.head, Head::None)
    }

    /// The caller gave the call up.
    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        if self.writing {
            return Err(Broken::Ended);
        }
        if let Head::Due(head) = mem::replace(&mut self.head, Head::Sent) {
            self.writing = true;
            let sent = self.stream.send_response(head).await;
            self.wrote(sent)?;
        }
        Ok(())
    }

    pub(super) async fn data(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.flush().await?;
        self.writing = true;
        let sent = self.stream.send_data(bytes).await;
        self.wrote(sent)
    }

    pub(super) async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        self.flush().await?;
        if self.ended {
            return Ok(());
        }
        let trailers = match trailers {
            Some(trailers) if !trailers.is_empty() => Some(trailers),
            _ if self.grpc && !self.over => Some(status(13, "the upstream ended without a status")),
            _ => None,
        };
        if let Some(trailers) = trailers {
            self.writing = true;
            let sent = self.stream.send_trailers(trailers).await;
            self.wrote(sent)?;
        }
        let ended = self.stream.finish().await;
        self.wrote(ended)?;
        self.ended = true;
        Ok(())
    }

    fn wrote(&mut self, result: Result<(), StreamError>) -> Result<(), Broken> {
        self.writing = false;
        result.map_err(|error| {
            self.is_reset |= matches!(error, StreamError::RemoteTerminate { .. });
            error.into()
        })
    }

    /// Ends what was begun without more to come, and what was cut. Call when the call is over.
    pub(crate) async fn settle(&mut self) -> Result<(), Broken> {
        match self.last_word.take() {
            Some(word) => self.finish(Some(word)).await,
            None if self.over => self.finish(None).await,
            None => Ok(()),
        }
    }

    /// Breaks the answer off: with a status of gRPC where one can follow, with a reset otherwise.
    pub(super) fn cut(&mut self, code: u8, message: &'static str, reset: Reason) {
        if self.grpc && !self.writing && !self.ended {
            self.last_word = Some(status(code, message));
            return;
        }
        self.reset(match reset {
            Reason::CANCEL => Code::H3_REQUEST_CANCELLED,
            _ => Code::H3_INTERNAL_ERROR,
        });
    }

    fn reset(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            self.stream.stop_stream(code);
        }
    }

    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        let Some(stopped) = &mut self.stopped else {
            return Poll::Pending;
        };
        let code = ready!(stopped.as_mut().poll(context));
        self.stopped = None;
        match code {
            Some(_) => {
                self.is_reset = true;
                Poll::Ready(Broken::Ended)
            }
            // The connection is lost, which ends the call, or the caller has the whole answer.
            None => Poll::Pending,
        }
    }
}

impl Drop for H3Outlet {
    /// quinn ends a stream that is dropped as if it were complete.
    fn drop(&mut self) {
        self.reset(Code::H3_INTERNAL_ERROR);
    }
}

/// Waits for the first part of a body, or for the news that there is none.
pub(crate) async fn first(inlet: &mut H3Inlet) -> Result<(), Broken> {
    poll_fn(|context| inlet.poll_first(context)).await
}

impl fmt::Debug for H3Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H3Inlet").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl fmt::Debug for H3Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H3Outlet").field("ended", &self.ended).finish_non_exhaustive()
    }
}
