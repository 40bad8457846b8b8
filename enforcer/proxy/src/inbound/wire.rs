//! The bytes of a caller's connection: under TLS, or of the local application as they are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base_net::Stream;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// A connection of a caller.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "always boxed, and TLS is the rule")]
pub(crate) enum Wire {
    /// TLS.
    Tls(TlsStream<Stream>),
    /// As it is; what was read of it to see what it speaks is read again first.
    Plain {
        /// The socket.
        stream: Stream,
        /// What was read ahead.
        ahead: BytesMut,
    },
}

impl Wire {
    /// TLS takes no more than so many bytes before they are written.
    pub(crate) fn limit_buffer(&mut self, most: usize) {
        if let Self::Tls(stream) = self {
            stream.get_mut().1.set_buffer_limit(Some(most));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Plain { stream, ahead } if ahead.is_empty() => Pin::new(stream).poll_read(context, buffer),
            Self::Plain { ahead, .. } => {
                let length = ahead.len().min(buffer.remaining());
                buffer.put_slice(ahead.get(..length).unwrap_or_default());
                ahead.advance(length);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Plain { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Plain { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Plain { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}
