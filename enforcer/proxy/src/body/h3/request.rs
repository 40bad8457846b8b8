//! What goes up to an HTTP/3 endpoint.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::client;
use h3::error::Code;
use http::HeaderMap;

use crate::fault::Broken;
use crate::quic::{Sending, Stopped};

/// The body of a request to an HTTP/3 upstream, whose head has been sent.
pub(crate) struct H3Request {
    stream: client::RequestStream<Sending, Bytes>,
    stopped: Option<Stopped>,
    is_ended: bool,
}

impl H3Request {
    pub(crate) fn new(stream: client::RequestStream<Sending, Bytes>, stopped: Stopped) -> Self {
        Self { stream, stopped: Some(stopped), is_ended: false }
    }

    pub(crate) async fn data(&mut self, bytes: Bytes) -> Result<(), Broken> {
        Ok(self.stream.send_data(bytes).await?)
    }

    /// Ends it.
    pub(crate) async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        if self.is_ended {
            return Ok(());
        }
        if let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) {
            self.stream.send_trailers(trailers).await?;
        }
        self.stream.finish().await?;
        self.is_ended = true;
        Ok(())
    }

    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Broken> {
        let Some(stopped) = &mut self.stopped else { return Poll::Pending };
        let code = ready!(stopped.as_mut().poll(context));
        self.stopped = None;
        // Without a code the connection is lost, which the answer tells, or all has arrived.
        if code.is_some() { Poll::Ready(Broken::Ended) } else { Poll::Pending }
    }
}

impl Drop for H3Request {
    fn drop(&mut self) {
        if !self.is_ended {
            self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}

impl fmt::Debug for H3Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H3Request").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}
