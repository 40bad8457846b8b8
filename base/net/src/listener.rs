//! A bound socket that listens, with the socket options every listener of ours has (LT-01, LT-13).

use crate::{
    Bind, Peer, Stream,
    unix::{self, SocketFile},
};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::net::{TcpListener, UnixListener};

/// Connections the kernel holds for us before we accept them.
pub(crate) const BACKLOG: i32 = 4096;

/// A bound socket that listens. Must be made inside the tokio runtime that will accept on it.
#[derive(Debug)]
pub struct Listener {
    socket: Kind,
    bind: Bind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    /// The file goes with the listener that made it.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A Unix socket that already listens, on its way to another thread that accepts on it too.
#[derive(Debug)]
pub struct SharedSocket {
    socket: OwnedFd,
    bind: Bind,
}

impl SharedSocket {
    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> &Bind {
        &self.bind
    }

    /// Listens on it, inside the tokio runtime that will accept.
    ///
    /// # Errors
    /// The descriptor cannot be copied or watched.
    pub fn listen(&self) -> io::Result<Listener> {
        let listener = UnixListener::from_std(self.socket.try_clone()?.into())?;
        Ok(Listener { socket: Kind::Unix { listener, _file: None }, bind: self.bind.clone() })
    }
}

/// Binds a datagram socket for QUIC, without a second owner of its port.
///
/// # Errors
/// The address is in use, not ours, or not permitted.
pub fn bind_datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Listener {
    /// Binds and listens. With `reuse_port` several listeners, one per worker, share a TCP address.
    ///
    /// A stale Unix socket file is removed; the caller holds the lock of its state directory, so that no second
    /// instance does the same at that moment. The file goes when the listener is dropped.
    ///
    /// # Errors
    /// The address is in use, not ours, not permitted; an abstract or over-long Unix path, a directory that
    /// everybody may write, a file there that is no socket.
    pub fn bind(bind: &Bind, reuse_port: bool) -> io::Result<Listener> {
        match bind {
            Bind::Tcp(address) => {
                let listener = tcp(*address, reuse_port)?;
                let bind = Bind::Tcp(listener.local_addr()?);
                Ok(Listener { socket: Kind::Tcp(listener), bind })
            }
            Bind::Unix { path, mode } => {
                let (listener, file) = unix::listen(path, *mode)?;
                Ok(Listener { socket: Kind::Unix { listener, _file: Some(file) }, bind: bind.clone() })
            }
        }
    }

    /// The same socket for other threads, when it is a Unix socket: its connections go to whoever accepts first.
    ///
    /// # Errors
    /// The descriptor cannot be copied; TCP listeners share a port by `reuse_port` instead.
    pub fn share(&self) -> io::Result<SharedSocket> {
        match &self.socket {
            Kind::Tcp(_) => Err(io::ErrorKind::Unsupported.into()),
            Kind::Unix { listener, .. } => {
                Ok(SharedSocket { socket: listener.as_fd().try_clone_to_owned()?, bind: self.bind.clone() })
            }
        }
    }

    /// Where it listens, with the port it was given.
    #[must_use]
    pub fn bound(&self) -> &Bind {
        &self.bind
    }

    /// The TCP address it listens on, with the port it was given.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self.bind {
            Bind::Tcp(address) => Some(address),
            Bind::Unix { .. } => None,
        }
    }

    /// The next connection, with the options of ours set. Cancel-safe.
    ///
    /// # Errors
    /// Whatever the kernel says; [`accept_loop`](crate::accept_loop) knows what each means.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Kind::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer =
                    Peer::Unix { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

/// Keepalive is set on the listening socket: Linux hands it down to what is accepted, which saves a call each.
fn tcp(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
