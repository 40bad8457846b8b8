//! Where a message goes: its head first, then its body.
//!
//! On HTTP/1 small parts are gathered and leave with one write; on HTTP/2 a part leaves when the receiver has room.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use enforcer_codec::h1::{self, Framing};
use enforcer_codec::h2::Reason;
use enforcer_codec::{Answer, BodyLength, Downstream, headers};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::asking::H2Outlet;
use super::h3::{H3Outlet, H3Request};
use super::link::put_fields;
use super::raw::RawOut;
use super::stream::StreamOutlet;
use crate::fault::Broken;

/// Up to here parts are gathered before they are written.
const GATHER: usize = 16 * 1024;

/// One direction of a call towards its receiver.
#[derive(Debug)]
pub(crate) enum Outlet<'a, W> {
    H1(H1Outlet<'a, W>),
    /// The body of a request to an HTTP/2 endpoint.
    H2(H2Outlet<'a>),
    Stream(StreamOutlet<'a>),
    H3(Box<H3Outlet>),
    /// The body of a request to an HTTP/3 upstream.
    Up(Box<H3Request>),
}

/// A message on an HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct H1Outlet<'a, W> {
    io: W,
    out: &'a mut BytesMut,
    framing: Framing,
    down: Option<Downstream>,
    trailers: bool,
    begun: bool,
    /// Bytes of it were written; before that another answer can take its place.
    has_left: bool,
    closes: bool,
    sent: u64,
}

impl<'a, W: AsyncWrite + Unpin> H1Outlet<'a, W> {
    /// For the answer to a request that came in like `down`; `trailers` when its caller takes them.
    pub(crate) fn answer(io: W, out: &'a mut BytesMut, down: Downstream, trailers: bool) -> Self {
        Self {
            io,
            out,
            framing: Framing::Empty,
            down: Some(down),
            trailers,
            begun: false,
            has_left: false,
            closes: false,
            sent: 0,
        }
    }

    /// For the rest of the body of a request whose head has been written.
    pub(crate) fn request(io: W, out: &'a mut BytesMut, framing: Framing) -> Self {
        Self {
            io,
            out,
            framing,
            down: None,
            trailers: true,
            begun: true,
            has_left: true,
            closes: false,
            sent: 0,
        }
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let chunked = self.framing == Framing::Chunked;
        if chunked {
            h1::write_chunk_start(self.out, bytes.len());
        }
        if self.out.len().saturating_add(bytes.len()) <= GATHER {
            self.out.extend_from_slice(bytes);
        } else {
            self.has_left = true;
            self.io.write_all_buf(&mut self.out.as_ref().chain(bytes)).await?;
            self.out.clear();
        }
        if chunked {
            h1::write_chunk_end(self.out);
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        if self.framing == Framing::Chunked {
            h1::write_last_chunk(self.out, trailers.filter(|_| self.trailers));
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        if !self.out.is_empty() {
            self.has_left = true;
            self.io.write_all(self.out).await?;
            self.out.clear();
        }
        Ok(self.io.flush().await?)
    }
}

impl<'a, W: AsyncWrite + Unpin> Outlet<'a, W> {
    /// It goes to a caller, and not to an upstream.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::H1(outlet) => outlet.down.is_some(),
            Self::Stream(_) | Self::H3(_) => true,
            Self::H2(_) | Self::Up(_) => false,
        }
    }

    /// Starts an answer with the head that the upstream gave. `over` when no body follows.
    pub(crate) fn begin(
        &mut self,
        answer: &Answer,
        over: bool,
        extra: &[headers::Extra<'_>],
    ) -> Result<(), Broken> {
        match self {
            Self::H1(outlet) => {
                if let Some(down) = outlet.down {
                    outlet.out.clear();
                    let sent = answer.write_h1(down, outlet.out, extra);
                    (outlet.framing, outlet.closes, outlet.begun) = (sent.framing, sent.close, true);
                }
                Ok(())
            }
            Self::H2(_) | Self::Up(_) => Err(Broken::Ended),
            Self::Stream(outlet) => {
                // RFC 8441 5: what HTTP/1 calls a switch is a success here, and the stream goes on.
                let (status, over) = match answer.is_switch() {
                    true => (200, false),
                    false => (answer.status(), over || answer.body() == BodyLength::None),
                };
                outlet.begin(status, over, |encoder, out| answer.write_h2(encoder, out, extra))
            }
            Self::H3(outlet) => {
                outlet.begin(answer.to_h2(extra), over || answer.body() == BodyLength::None);
                Ok(())
            }
        }
    }

    /// Sends a whole answer of our own: head and a body that fits one buffer.
    pub(crate) async fn send(
        &mut self,
        status: u16,
        fields: &[headers::Extra<'_>],
        body: &[u8],
        close: bool,
    ) -> Result<(), Broken> {
        self.count(body.len());
        match self {
            Self::H1(outlet) => {
                let close = close || outlet.down.is_none_or(|down| !down.keep_alive);
                outlet.out.clear();
                h1::write_response_head(
                    outlet.out,
                    status,
                    fields,
                    Framing::Length(body.len() as u64),
                    close,
                );
                outlet.out.extend_from_slice(body);
                (outlet.begun, outlet.closes) = (true, close);
                outlet.flush().await
            }
            Self::H2(_) | Self::Up(_) => Err(Broken::Ended),
            Self::Stream(outlet) => outlet.send(status, fields, body).await,
            Self::H3(outlet) => {
                outlet.is_plain();
                outlet.begin(head(status, fields, body.len()), body.is_empty());
                Box::pin(async {
                    if !body.is_empty() {
                        outlet.data(Bytes::copy_from_slice(body)).await?;
                    }
                    outlet.finish(None).await
                })
                .await
            }
        }
    }

    /// Sends a whole gRPC answer of our own.
    pub(crate) fn send_trailers_only(&mut self, head: Response<()>) -> Result<(), Broken> {
        match self {
            Self::H1(_) | Self::H2(_) | Self::Up(_) => Err(Broken::Ended),
            Self::Stream(outlet) => outlet.begin(head.status().as_u16(), true, |encoder, out| {
                put_fields(head.headers(), encoder, out);
            }),
            Self::H3(outlet) => {
                outlet.begin(head, true);
                Ok(())
            }
        }
    }

    /// Tells the caller to send its body.
    pub(crate) async fn proceed(&mut self) -> Result<(), Broken> {
        match self {
            Self::H1(outlet) => {
                outlet.io.write_all(h1::CONTINUE).await?;
                Ok(outlet.io.flush().await?)
            }
            Self::H2(_) | Self::Stream(_) | Self::H3(_) | Self::Up(_) => Ok(()),
        }
    }

    /// Takes part of the body; returns once the receiver has room for it. After the last part call [`Self::flush`].
    pub(crate) async fn data(&mut self, bytes: Bytes, last: bool) -> Result<(), Broken> {
        self.count(bytes.len());
        match self {
            Self::H1(outlet) if outlet.framing == Framing::Empty => Ok(()),
            Self::H1(outlet) => outlet.data(&bytes).await,
            Self::H2(outlet) => outlet.data(bytes, last).await,
            Self::Stream(outlet) => outlet.data(bytes, last).await,
            Self::H3(outlet) => Box::pin(outlet.data(bytes)).await,
            Self::Up(outlet) => Box::pin(outlet.data(bytes)).await,
        }
    }

    /// Ends the message. `open` when the last part did not say that it was the last.
    pub(crate) async fn finish(
        &mut self,
        trailers: Option<Box<HeaderMap>>,
        open: bool,
    ) -> Result<(), Broken> {
        match self {
            Self::H1(outlet) => {
                outlet.end(trailers.as_deref());
                outlet.flush().await
            }
            Self::H2(outlet) if open => outlet.finish(trailers.as_deref()),
            Self::H2(_) => Ok(()),
            Self::Stream(outlet) => outlet.finish(trailers.as_deref()),
            Self::H3(outlet) => Box::pin(outlet.finish(trailers.map(|trailers| *trailers))).await,
            Self::Up(outlet) => Box::pin(outlet.finish(trailers.map(|trailers| *trailers))).await,
        }
    }

    fn count(&mut self, length: usize) {
        let sent = match self {
            Self::H1(outlet) => &mut outlet.sent,
            Self::Stream(outlet) => outlet.sent(),
            Self::H3(outlet) => outlet.sent(),
            Self::H2(_) | Self::Up(_) => return,
        };
        *sent = sent.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Bytes of the body of an answer that were sent.
    pub(crate) fn sent(&mut self) -> u64 {
        match self {
            Self::H1(outlet) => outlet.sent,
            Self::Stream(outlet) => *outlet.sent(),
            Self::H3(outlet) => *outlet.sent(),
            Self::H2(_) | Self::Up(_) => 0,
        }
    }

    /// Writes what was gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        match self {
            Self::H1(outlet) => outlet.flush().await,
            Self::H2(_) | Self::Stream(_) | Self::Up(_) => Ok(()),
            Self::H3(outlet) => Box::pin(outlet.flush()).await,
        }
    }

    /// Tells the caller that its tunnel is open; what follows is the target's.
    pub(crate) fn connected(&mut self, fields: &[headers::Extra<'_>]) -> Result<(), Broken> {
        match self {
            Self::H1(outlet) => {
                h1::write_connected(outlet.out, fields);
                (outlet.begun, outlet.closes) = (true, true);
                Ok(())
            }
            Self::Stream(outlet) => outlet.begin(200, false, |encoder, out| {
                for (name, value) in fields {
                    encoder.field(name.as_bytes(), value, out);
                }
            }),
            Self::H2(_) | Self::H3(_) | Self::Up(_) => Err(Broken::Ended),
        }
    }

    /// The way to the caller itself, once what was gathered for it is out. From then on an answer counts as begun.
    pub(crate) async fn raw(&mut self) -> Result<RawOut<'_, 'a, W>, Broken> {
        match self {
            Self::H1(outlet) => {
                (outlet.begun, outlet.has_left) = (true, true);
                outlet.flush().await?;
                Ok(RawOut::Io(&mut outlet.io))
            }
            Self::Stream(outlet) => Ok(RawOut::Stream(outlet)),
            Self::H2(_) | Self::H3(_) | Self::Up(_) => Err(Broken::Ended),
        }
    }

    /// Ready when the receiver has given the message up.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        match self {
            Self::H1(_) => Poll::Pending,
            Self::H2(outlet) => outlet.poll_gone(context),
            Self::Stream(outlet) => outlet.poll_gone(context),
            Self::H3(outlet) => outlet.poll_gone(context),
            Self::Up(outlet) => outlet.poll_gone(context),
        }
    }

    /// Breaks an answer off whose head is out: gRPC gets a status, plain HTTP/2 a reset; HTTP/1 must be closed.
    pub(crate) fn cut(&mut self, code: u8, message: &'static str, reset: Reason) {
        match self {
            Self::H1(_) | Self::H2(_) | Self::Up(_) => {}
            Self::Stream(outlet) => outlet.cut(code, message, reset),
            Self::H3(outlet) => outlet.cut(code, message, reset),
        }
    }

    /// The head of the answer is out, so that no other one can take its place.
    pub(crate) fn is_begun(&self) -> bool {
        match self {
            Self::H1(outlet) => outlet.begun && outlet.has_left,
            Self::H2(_) | Self::Up(_) => true,
            Self::Stream(outlet) => outlet.is_begun(),
            Self::H3(outlet) => outlet.is_begun(),
        }
    }

    /// The connection must be closed after this answer.
    pub(crate) fn closes(&self) -> bool {
        match self {
            Self::H1(outlet) => outlet.closes || !outlet.begun,
            Self::H2(_) | Self::Stream(_) | Self::H3(_) | Self::Up(_) => false,
        }
    }
}

/// The head of an answer of our own.
fn head(status: u16, fields: &[headers::Extra<'_>], length: usize) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            head.headers_mut().insert(name, value);
        }
    }
    head.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    head
}

pub(super) fn status(code: u8, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code)));
    trailers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(message));
    trailers
}
