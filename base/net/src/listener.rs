//! A bound socket that listens, with the socket options every listener of ours has (LT-01, LT-13).

use crate::{
    Bind, Peer, Stream,
    unix::{self, SocketFile},
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};
use tokio::net::{TcpListener, UnixListener};

/// Connections the kernel holds for us before we accept them.
pub(crate) const BACKLOG: i32 = 4096;

const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

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
        file: Option<SocketFile>,
    },
}

/// A socket that listens there already, inside the tokio runtime that will accept on it.
pub(crate) fn listening(socket: OwnedFd, bind: Bind) -> io::Result<Listener> {
    let about = SockRef::from(&socket);
    about.set_nonblocking(true)?;
    let socket = match bind {
        Bind::Tcp(_) => {
            about.set_tcp_keepalive(&KEEPALIVE)?;
            Kind::Tcp(TcpListener::from_std(socket.into())?)
        }
        Bind::Unix { .. } => Kind::Unix { listener: UnixListener::from_std(socket.into())?, file: None },
    };
    Ok(Listener { socket, bind })
}

/// Binds a datagram socket for QUIC; when it `shares` its port, others that do so get a part of what arrives.
///
/// # Errors
/// The address is in use, not ours, or not permitted.
pub fn bind_datagram(address: SocketAddr, shares: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shares)?;
    // Or none of them could give its connections sockets of their own, see `connected_datagram`.
    socket.set_reuse_address(shares)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// A datagram socket on the address of another, which it shares, for what `peer` sends alone: the kernel prefers it.
///
/// # Errors
/// The address cannot be shared, or a descriptor cannot be had.
pub fn connected_datagram(shared: &UdpSocket, local: SocketAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    SockRef::from(shared).set_reuse_address(true)?;
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(local))?;
    socket.connect(&SockAddr::from(peer))?;
    Ok(socket.into())
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
                Ok(Listener { socket: Kind::Unix { listener, file: Some(file) }, bind: bind.clone() })
            }
        }
    }

    /// Whoever takes it removes the file of the socket.
    pub(crate) fn take_file(&mut self) -> Option<SocketFile> {
        match &mut self.socket {
            Kind::Tcp(_) => None,
            Kind::Unix { file, .. } => file.take(),
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

/// Keepalive is set on the listening socket: Linux hands it down to what is accepted, which saves a call each.
fn tcp(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
