//! Bodies on their way: an inlet they come from, an outlet they go to, and one loop that moves them.
//!
//! The same loop carries requests up and answers down, whatever HTTP version either side speaks. A side that cannot
//! take more stops the other one: nothing is read ahead beyond one buffer (back-pressure).

mod asking;
mod h3;
mod inlet;
mod link;
mod outlet;
mod raw;
mod relay;
mod replay;
mod stream;
mod tee;

pub(crate) use asking::{Asked, Moved, Over};
pub(crate) use h3::{H3Inlet, H3Outlet, H3Request, first};
pub(crate) use inlet::{H1Inlet, Inlet, Piece, SLOW, TOO_LARGE};
pub(crate) use link::{Arrival, FULL, Link};
pub(crate) use outlet::{H1Outlet, Outlet};
pub(crate) use relay::{RelayError, relay};
pub(crate) use stream::{StreamInlet, StreamOutlet};
pub(crate) use tee::Copied;

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// One of two handles to a connection, so that it can be read and written by turns within one task.
#[derive(Debug)]
pub(crate) struct Half<'a, S>(pub(crate) &'a Mutex<&'a mut S>);

impl<S> Clone for Half<'_, S> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Half<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Half<'_, S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.0.lock()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.0.lock()).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_shutdown(context)
    }
}

/// A head and what usually comes with it.
const SCRATCH: usize = 32 * 1024;

/// A buffer that all connections of a worker read heads into; what arrived is copied out in its exact size, so an idle
/// connection holds none and a head keeps no more memory alive than it has bytes (MM-02).
#[derive(Debug)]
pub(crate) struct Scratch(Mutex<Box<[u8]>>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(vec![0; SCRATCH].into()))
    }

    /// Reads what has arrived and appends it. 0 is the end.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &self,
        io: &mut S,
        buffer: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_read(io, context, |bytes| {
            buffer.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// Reads what has arrived and gives it to `then`. None is the end.
    pub(crate) fn poll_read<S: AsyncRead + Unpin, T>(
        &self,
        io: &mut S,
        context: &mut Context<'_>,
        then: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut scratch = self.0.lock();
        let mut read = ReadBuf::new(&mut scratch);
        ready!(Pin::new(io).poll_read(context, &mut read))?;
        Poll::Ready(Ok(then(read.filled())))
    }
}

/// Reads into the buffer itself, as bodies are. 0 is the end.
pub(crate) fn poll_read_buf<S: AsyncRead + Unpin>(
    io: &mut S,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // INVARIANT: `read_buf` keeps no state between polls, so it may be made anew for each.
    pin!(io.read_buf(buffer)).poll(context)
}
