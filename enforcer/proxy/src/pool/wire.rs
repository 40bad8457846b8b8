//! The bytes of a connection to an endpoint: plain, or under TLS with an identity that is watched.
//!
//! An enum and not a trait object: the plain way costs a branch. A secured connection ends when its peer's certificate
//! does, or the own one, or when the peer is denied (CT-02), whoever reads from it at that moment.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use base_ports::{Stream, UnixTime, forward_reads, forward_writes, stream};
use ca_identity::tls::alert_in;
use ca_identity::{IdentitySnapshot, SpiffeId, VerifiedPeer};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Wire {
    /// As it is.
    Plain(Stream),
    /// TLS.
    Tls(Box<SecuredWire>),
}

/// A connection under TLS.
#[derive(Debug)]
pub(crate) struct SecuredWire {
    stream: TlsStream<Stream>,
    /// None of a server outside, which nobody's trust keeps open.
    standing: Option<Arc<Standing>>,
    /// Nothing of an answer came yet.
    is_unheard: bool,
}

/// What keeps a secured connection open, and what ended it.
#[derive(Debug)]
pub(crate) struct Standing {
    peer: VerifiedPeer,
    ends: UnixTime,
    /// The trust under which the handshake began (PL-01).
    pub(super) generation: u64,
    is_over: AtomicBool,
    reader: AtomicWaker,
    alert: OnceLock<String>,
}

impl Standing {
    pub(super) fn new(peer: VerifiedPeer, own_ends: UnixTime, generation: u64) -> Self {
        Self {
            ends: peer.expires.min(own_ends),
            peer,
            generation,
            is_over: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            alert: OnceLock::new(),
        }
    }

    /// Ends the connection when its identities no longer hold; true when they do not.
    pub(super) fn review(&self, trusted: &IdentitySnapshot, now: UnixTime) -> bool {
        let is_over = now > self.ends || trusted.check(&self.peer).is_err();
        if is_over && !self.is_over.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "upstream_identity_ended", peer = %self.peer.id, "a connection to an endpoint was cut: its identity expired or was revoked");
            self.reader.wake();
        }
        is_over
    }

    /// Ready once the connection is to end. One task asks.
    pub(super) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        self.reader.register(context.waker());
        if self.is_over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Who the peer is, as it has proved.
    pub(super) fn identity(&self) -> &SpiffeId {
        &self.peer.id
    }

    /// The alert by which the peer rejected us, by its name.
    pub(super) fn alert(&self) -> Option<&str> {
        self.alert.get().map(String::as_str)
    }
}

impl SecuredWire {
    pub(super) fn new(stream: TlsStream<Stream>, standing: Option<Arc<Standing>>) -> Self {
        Self { stream, standing, is_unheard: true }
    }

    /// What an error of the connection means. The alert of a peer that judged our certificate after our side of the
    /// handshake was over comes before any byte of an answer; a later one says nothing about what was done (TL-10).
    fn heard(&self, error: io::Error) -> io::Error {
        match alert_in(&error) {
            None => error,
            Some(alert) if self.is_unheard => {
                // HTTP/2 passes on only the kind of an error.
                if let Some(standing) = &self.standing {
                    standing.alert.set(alert).unwrap_or_default();
                }
                error
            }
            Some(alert) => io::Error::new(io::ErrorKind::ConnectionReset, alert),
        }
    }

    /// Writing failed. A peer that rejects us sends its alert and closes, so a write meets the closed socket while the
    /// alert lies unread, and HTTP/2 reads no more after a failed write.
    #[cold]
    fn unwritten(&mut self, failed: io::Error) -> io::Error {
        let (socket, session) = self.stream.get_mut();
        // Asked past the runtime, which learns only on its next turn that there is something to read.
        let Ok(held) = socket.as_fd().try_clone_to_owned() else { return failed };
        let mut held = std::fs::File::from(held);
        while let Ok(1..) = session.read_tls(&mut held) {
            if let Err(error) = session.process_new_packets() {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return if alert_in(&error).is_some() { self.heard(error) } else { failed };
            }
        }
        failed
    }
}

impl Wire {
    /// What stands behind a secured connection.
    pub(super) fn standing(&self) -> Option<&Arc<Standing>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secured) => secured.standing.as_ref(),
        }
    }

    /// Nothing arrived while nobody asked: neither bytes nor an end.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_quiet(),
            // Records that carry no data, such as tickets, are no end and no answer.
            Self::Tls(secured) => {
                let mut context = Context::from_waker(Waker::noop());
                let mut byte = [0; 1];
                Pin::new(&mut **secured).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }

    /// Halves for a body that goes up while the answer comes down.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(secured) => {
                let (read, write) = tokio::io::split(&mut **secured);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
        }
    }
}

impl AsyncRead for SecuredWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.standing.as_ref().is_some_and(|standing| standing.poll_over(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                self.is_unheard &= buffer.filled().len() == before;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.heard(error))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for SecuredWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        written.map_err(|failed| self.unwritten(failed))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        flushed.map_err(|failed| self.unwritten(failed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        written.map_err(|failed| self.unwritten(failed))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The reading half of a [`Wire`].
#[derive(Debug)]
pub(crate) enum ReadHalf<'a> {
    /// As it is.
    Plain(stream::ReadHalf<'a>),
    /// Of TLS.
    Tls(tokio::io::ReadHalf<&'a mut SecuredWire>),
}

/// The writing half of a [`Wire`].
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    /// As it is.
    Plain(stream::WriteHalf<'a>),
    /// Of TLS.
    Tls(tokio::io::WriteHalf<&'a mut SecuredWire>),
}

forward_reads!(Wire: Plain, Tls);
forward_reads!(ReadHalf<'_>: Plain, Tls);
forward_writes!(Wire: Plain, Tls);
forward_writes!(WriteHalf<'_>: Plain, Tls);
