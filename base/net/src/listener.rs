//! Listening sockets: TCP with one socket per worker, Unix with the mode and owner checks of LT-13.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::stream::{Peer, Stream};

/// Connections the kernel holds before we accept them.
const BACKLOG: i32 = 4_096;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// TCP; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Mode of the socket file.
        mode: u32,
    },
}

/// A bound socket, to be accepted from on the runtime it was bound on.
#[derive(Debug)]
pub struct Listener(Inner);

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

impl Listener {
    /// Binds. `reuse_port` lets several workers have a socket of their own on one port.
    ///
    /// # Errors
    /// What the operating system says; for Unix sockets also a path that is in use, is no socket, or lies in a
    /// directory that everybody can write.
    pub fn bind(bind: &Bind, reuse_port: bool) -> io::Result<Self> {
        match bind {
            Bind::Tcp(addr) => tcp(*addr, reuse_port).map(|listener| Self(Inner::Tcp(listener))),
            Bind::Unix { path, mode } => {
                let listener = unix(path, *mode)?;
                Ok(Self(Inner::Unix { listener, path: path.clone() }))
            }
        }
    }

    /// The address that was bound; `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Inner::Tcp(listener) => listener.local_addr().ok(),
            Inner::Unix { .. } => None,
        }
    }

    /// The next connection. Safe to cancel.
    ///
    /// # Errors
    /// What the operating system says; see [`crate::accept_loop`] for which of them matter.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Inner::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
            }
            Inner::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                Ok((Stream::Unix(stream), Peer::Unix { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() }))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Inner::Unix { path, .. } = &self.0 {
            // Gone already is as good; anything else shows at the next bind.
            drop(fs::remove_file(path));
        }
    }
}

fn tcp(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let refused = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let about = fs::metadata(parent)?;
        let (open, sticky) = (about.mode() & 0o002 != 0, about.mode() & 0o1000 != 0);
        if open && !sticky {
            return Err(refused(format!("directory `{}` can be written by everybody", parent.display())));
        }
    }
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path is taken by something that is no socket",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket"));
        }
        Ok(_stale) => fs::remove_file(path)?,
        Err(_absent) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_workers_share_a_port() {
        let first = Listener::bind(&Bind::Tcp(([127, 0, 0, 1], 0).into()), true).unwrap();
        let addr = first.local_addr().unwrap();
        Listener::bind(&Bind::Tcp(addr), true).unwrap();
        assert!(Listener::bind(&Bind::Tcp(addr), false).is_err());
    }

    #[tokio::test]
    async fn lt_13_a_unix_socket_has_its_mode_and_replaces_only_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let bind = Bind::Unix { path: path.clone(), mode: 0o600 };
        let listener = Listener::bind(&bind, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Listener::bind(&bind, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "stale");
        drop(Listener::bind(&bind, false).unwrap());
        fs::write(&path, "not a socket").unwrap();
        assert_eq!(Listener::bind(&bind, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Listener::bind(&bind, false).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_unix_peer_is_told_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let listener = Listener::bind(&Bind::Unix { path: path.clone(), mode: 0o600 }, false).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(peer, Peer::Unix { pid: Some(pid), .. } if pid == own));
    }
}
