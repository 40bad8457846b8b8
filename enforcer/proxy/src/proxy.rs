//! The data plane as its owner sees it: start, addresses, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Ports, ProxyConfig, ProxyError};

/// The running data plane. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<(Arc<str>, SocketAddr)>,
}

impl Proxy {
    /// Binds every listener for every worker and starts the workers.
    ///
    /// # Errors
    /// When a socket cannot be bound or a thread cannot be started.
    pub fn start(config: ProxyConfig, ports: Ports) -> Result<Self, ProxyError> {
        drop((config, ports));
        Ok(Self { addresses: Vec::new() })
    }

    /// Names and real addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.addresses.clone()
    }

    /// Stops accepting, lets running calls end within `timeout`, then cuts the rest.
    pub async fn drain(&self, timeout: Duration) {
        let _ = timeout;
    }
}
