//! A byte stream to or from another process, over TCP or a Unix socket.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

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

/// A stream that belongs to no runtime, on its way from one to another.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix stream socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes it out of its runtime.
    ///
    /// # Errors
    /// When the runtime cannot give it up.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Detached::Unix(stream.into_std()?),
        })
    }
}

impl Detached {
    /// Puts it into the runtime of the caller.
    ///
    /// # Errors
    /// When the runtime cannot take it.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Detached::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Detached::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
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

/// Reads like the stream inside, for an enumeration of streams: `forward_reads!(Wire: Plain, Tls)`.
#[macro_export]
macro_rules! forward_reads {
    ($kind:ty: $($variant:ident),+) => {
        impl ::tokio::io::AsyncRead for $kind {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
                buffer: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => ::std::pin::Pin::new(stream).poll_read(context, buffer),)+
                }
            }
        }
    };
}

/// Writes like the stream inside, for an enumeration of streams: `forward_writes!(Wire: Plain, Tls)`.
#[macro_export]
macro_rules! forward_writes {
    ($kind:ty: $($variant:ident),+) => {
        impl ::tokio::io::AsyncWrite for $kind {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
                bytes: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => ::std::pin::Pin::new(stream).poll_write(context, bytes),)+
                }
            }

            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
                parts: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => ::std::pin::Pin::new(stream).poll_write_vectored(context, parts),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => ::std::pin::Pin::new(stream).poll_flush(context),)+
                }
            }

            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => ::std::pin::Pin::new(stream).poll_shutdown(context),)+
                }
            }
        }
    };
}

forward_reads!(Stream: Tcp, Unix);
forward_reads!(ReadHalf<'_>: Tcp, Unix);
forward_writes!(Stream: Tcp, Unix);
forward_writes!(WriteHalf<'_>: Tcp, Unix);
