//! The bytes of a caller behind the head of an upgrade: its connection itself, or its stream of HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{StreamInlet, StreamOutlet};

/// Where they come from.
pub(crate) enum RawIn<'a, 'b, R> {
    Io(&'a mut R),
    Stream(&'a mut StreamInlet<'b>),
}

/// Where they go.
pub(crate) enum RawOut<'a, 'b, W> {
    Io(&'a mut W),
    Stream(&'a mut StreamOutlet<'b>),
}

impl<R: AsyncRead + Unpin> AsyncRead for RawIn<'_, '_, R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Io(io) => Pin::new(&mut **io).poll_read(context, buffer),
            Self::Stream(inlet) => inlet.poll_bytes(buffer, context),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for RawOut<'_, '_, W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Io(io) => Pin::new(&mut **io).poll_write(context, bytes),
            Self::Stream(outlet) => outlet.poll_bytes(bytes, context),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Io(io) => Pin::new(&mut **io).poll_flush(context),
            // The connection writes what its streams said once they have had their turn.
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Io(io) => Pin::new(&mut **io).poll_shutdown(context),
            Self::Stream(outlet) => {
                Poll::Ready(outlet.finish(None).map_err(|_gone| io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}
