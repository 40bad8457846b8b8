//! The bytes of a caller's connection: under TLS, or of the local application as they are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base_net::Stream;
use base_ports::{forward_reads, forward_writes};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// A connection of a caller. What was read of it to see what it speaks is read again first.
#[derive(Debug)]
pub(crate) struct Wire {
    io: Io,
    ahead: BytesMut,
}

/// Where the bytes come from.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "always boxed, and TLS is the rule")]
pub(crate) enum Io {
    /// TLS.
    Tls(TlsStream<Stream>),
    /// As it is.
    Plain(Stream),
}

forward_reads!(Io: Tls, Plain);
forward_writes!(Io: Tls, Plain);

impl Wire {
    /// With what was read ahead.
    pub(crate) fn new(io: Io, ahead: BytesMut) -> Self {
        Self { io, ahead }
    }

    /// TLS takes no more than so many bytes before they are written.
    pub(crate) fn limit_buffer(&mut self, most: usize) {
        if let Io::Tls(stream) = &mut self.io {
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
        let Self { io, ahead } = self.get_mut();
        if !ahead.is_empty() {
            let length = ahead.len().min(buffer.remaining());
            buffer.put_slice(ahead.get(..length).unwrap_or_default());
            ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
