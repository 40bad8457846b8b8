//! The network as a parameter: where a component dials. The real one, and a scripted one that refuses, stays silent or
//! leads elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use crate::{Stream, socket_path};

/// A connection on its way. Dropping it gives the attempt up.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// Where another process listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NetAddr {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The file of a Unix stream socket.
    Unix(Arc<Path>),
}

impl NetAddr {
    /// The address, for TCP.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for NetAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for NetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a component reaches others.
pub trait Net: Send + Sync + fmt::Debug + 'static {
    /// Begins to connect; how long that may take is the caller's word. TCP comes with Nagle off, and a Unix socket is
    /// looked for only where nobody else could have put it ([`socket_path::check`]).
    fn dial(&self, address: &NetAddr) -> Dialing;

    /// A socket from which datagrams are sent to others.
    ///
    /// # Errors
    /// When it cannot be bound there.
    fn datagrams(&self, from: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(from)
    }
}

/// The network of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNet;

impl Net for SystemNet {
    fn dial(&self, address: &NetAddr) -> Dialing {
        match address.clone() {
            NetAddr::Tcp(address) => Box::pin(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }),
            NetAddr::Unix(path) => Box::pin(async move {
                socket_path::check(&path)?;
                Ok(Stream::Unix(UnixStream::connect(path).await?))
            }),
        }
    }
}

/// What a scripted network does with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Answers at once that nobody listens there.
    Refuse,
    /// Never answers, like a firewall that drops.
    Silence,
    /// Connects to another address instead.
    Lead(SocketAddr),
}

/// A network that tests script. A Unix socket, and an address nobody scripted is reached as it is. Clones share the script.
#[derive(Debug, Clone, Default)]
pub struct ManualNet(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    routes: HashMap<SocketAddr, Route>,
    dials: Vec<SocketAddr>,
}

impl ManualNet {
    /// A network in which everything is as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on dials of `address` go that way.
    pub fn script(&self, address: SocketAddr, route: Route) {
        self.0.lock().routes.insert(address, route);
    }

    /// Every dial of TCP so far, in order.
    #[must_use]
    pub fn dials(&self) -> Vec<SocketAddr> {
        self.0.lock().dials.clone()
    }
}

impl Net for ManualNet {
    fn dial(&self, address: &NetAddr) -> Dialing {
        let Some(address) = address.tcp() else { return SystemNet.dial(address) };
        let mut script = self.0.lock();
        script.dials.push(address);
        match script.routes.get(&address).copied() {
            None => SystemNet.dial(&address.into()),
            Some(Route::Lead(other)) => SystemNet.dial(&other.into()),
            Some(Route::Refuse) => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            Some(Route::Silence) => Box::pin(std::future::pending()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_scripted_network_refuses_stays_silent_and_leads_elsewhere() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = listener.local_addr().unwrap();
        let made_up: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let net = ManualNet::new();
        assert!(net.dial(&real.into()).await.is_ok());
        net.script(made_up, Route::Lead(real));
        let led = net.dial(&made_up.into()).await.unwrap();
        assert!(
            matches!(led, Stream::Tcp(tcp) if tcp.peer_addr().unwrap() == real && tcp.nodelay().unwrap())
        );
        net.script(made_up, Route::Refuse);
        assert_eq!(net.dial(&made_up.into()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        net.script(made_up, Route::Silence);
        let silent = tokio::time::timeout(Duration::from_millis(20), net.dial(&made_up.into())).await;
        assert!(silent.is_err());
        assert_eq!(net.dials(), [real, made_up, made_up, made_up]);
    }

    #[tokio::test]
    async fn lt_13_a_unix_socket_is_dialled_where_nobody_else_could_have_put_it() {
        use std::fs::{Permissions, set_permissions};
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let address = NetAddr::Unix(path.clone().into());
        assert_eq!(address.to_string(), format!("unix:{}", path.display()));
        assert_eq!(SystemNet.dial(&address).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (dialled, accepted) = tokio::join!(SystemNet.dial(&address), listener.accept());
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap().0);
        assert!(dialled.is_quiet());
        drop(accepted);
        // The runtime hears of it on its next turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!dialled.is_quiet(), "an end is heard");
        set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(SystemNet.dial(&address).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let nameless = NetAddr::Unix(Path::new("@app").into());
        assert_eq!(SystemNet.dial(&nameless).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
