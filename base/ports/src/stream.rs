//! A byte stream to or from another process, over TCP or a Unix socket.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, tcp, unix},
};

/// A byte stream of either kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub enum ReadHalf<'a> {
    /// Of TCP.
    Tcp(tcp::ReadHalf<'a>),
    /// Of a Unix socket.
    Unix(unix::ReadHalf<'a>),
}

/// The writing half of a [`Stream`].
#[derive(Debug)]
pub enum WriteHalf<'a> {
    /// Of TCP.
    Tcp(tcp::WriteHalf<'a>),
    /// Of a Unix socket.
    Unix(unix::WriteHalf<'a>),
}

impl Stream {
    /// The address on this side, for TCP.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Halves for reading and writing at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Stream::Tcp(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }

    /// Nothing arrived while nobody asked: neither bytes nor an end. Mostly without a system call.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let ready = match self {
            Stream::Tcp(stream) => stream.poll_read_ready(&mut context),
            Stream::Unix(stream) => stream.poll_read_ready(&mut context),
        };
        match ready {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            Poll::Ready(Ok(())) => {
                let seen = match self {
                    Stream::Tcp(stream) => stream.try_read(&mut [0; 1]),
                    Stream::Unix(stream) => stream.try_read(&mut [0; 1]),
                };
                matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! reads {
    ($($kind:ty),*) => {$(
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
                    Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
                }
            }
        }
    )*};
}

macro_rules! writes {
    ($($kind:ty),*) => {$(
        impl AsyncWrite for $kind {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
                    Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
                    Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Tcp(stream) => stream.is_write_vectored(),
                    Self::Unix(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    )*};
}

reads!(Stream, ReadHalf<'_>);
writes!(Stream, WriteHalf<'_>);
