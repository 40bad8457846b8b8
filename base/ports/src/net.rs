//! The network as a parameter: where a component dials. The real one, and a scripted one that refuses, stays silent or
//! leads elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// A connection on its way. Dropping it gives the attempt up.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Where a component reaches others.
pub trait Net: Send + Sync + fmt::Debug + 'static {
    /// Begins to connect; how long that may take is the caller's word.
    fn dial(&self, address: SocketAddr) -> Dialing;
}

/// The network of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNet;

impl Net for SystemNet {
    fn dial(&self, address: SocketAddr) -> Dialing {
        Box::pin(TcpStream::connect(address))
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

/// A network that tests script. An address nobody scripted is reached as it is. Clones share the script.
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

    /// Every dial so far, in order.
    #[must_use]
    pub fn dials(&self) -> Vec<SocketAddr> {
        self.0.lock().dials.clone()
    }
}

impl Net for ManualNet {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let mut script = self.0.lock();
        script.dials.push(address);
        match script.routes.get(&address).copied() {
            None => SystemNet.dial(address),
            Some(Route::Lead(other)) => SystemNet.dial(other),
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
        assert!(net.dial(real).await.is_ok());
        net.script(made_up, Route::Lead(real));
        assert_eq!(net.dial(made_up).await.unwrap().peer_addr().unwrap(), real);
        net.script(made_up, Route::Refuse);
        assert_eq!(net.dial(made_up).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        net.script(made_up, Route::Silence);
        let silent = tokio::time::timeout(Duration::from_millis(20), net.dial(made_up)).await;
        assert!(silent.is_err());
        assert_eq!(net.dials(), [real, made_up, made_up, made_up]);
    }
}
