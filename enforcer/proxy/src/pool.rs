//! Connections to endpoints, kept per worker: no worker ever waits for another one's connection (PL-02).
//!
//! An endpoint is known by cluster, address and protocol and outlives the views that name it, so a reload drops no
//! connection.

mod dial;
mod h1;
mod h2;

pub(crate) use h1::{H1Link, read_head};

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Mono;
use enforcer_traffic::fleet::{EndpointState, Limits};
use enforcer_traffic::{EndpointSpec, UpstreamProtocol};
use parking_lot::Mutex;

use crate::fault::Fault;
use crate::meter::{Counted, EndpointMeter, Meters};

/// All endpoints of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools(Mutex<HashMap<Key, Arc<Endpoint>>>);

type Key = (Arc<str>, UpstreamProtocol, SocketAddr);

/// One endpoint and this worker's connections to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) meter: EndpointMeter,
    /// What all workers know of it.
    pub(crate) state: Arc<EndpointState>,
    h1: h1::Idle,
    h2: h2::Links,
}

/// On which terms a connection is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Connecting takes no longer.
    pub(crate) limit: Duration,
    /// What the cluster takes at most.
    pub(crate) limits: Limits,
}

/// An open connection, counted on this worker and in its cluster.
#[derive(Debug)]
struct Opened {
    state: Arc<EndpointState>,
    _counted: Counted,
}

impl Pools {
    pub(crate) fn endpoint(
        &self,
        cluster: &Arc<str>,
        spec: &EndpointSpec,
        state: &Arc<EndpointState>,
        meters: &Meters,
    ) -> Arc<Endpoint> {
        let mut known = self.0.lock();
        let key = (Arc::clone(cluster), spec.protocol, spec.addr);
        if let Some(endpoint) = known.get(&key).filter(|endpoint| Arc::ptr_eq(&endpoint.state, state)) {
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint {
            address: spec.addr,
            protocol: spec.protocol,
            meter: meters.endpoint(&spec.addr.to_string()),
            state: Arc::clone(state),
            h1: h1::Idle::default(),
            h2: h2::Links::default(),
        });
        known.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Closes what has been idle for too long, and forgets endpoints that no view names any more.
    pub(crate) fn sweep(&self, now: Mono) {
        let mut known = self.0.lock();
        known.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        for endpoint in known.values() {
            endpoint.h1.sweep(now);
            endpoint.h2.sweep();
        }
    }
}

impl Endpoint {
    /// Room for one more connection.
    fn open(&self, terms: &Terms) -> Result<Opened, Fault> {
        if !self.state.connect(&terms.limits) {
            return Err(Fault::Full);
        }
        Ok(Opened { state: Arc::clone(&self.state), _counted: Counted::new(&self.meter.connections) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.state.disconnect();
    }
}
