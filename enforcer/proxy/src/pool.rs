//! Connections to endpoints, kept per worker: no worker ever waits for another one's connection (PL-02).
//!
//! An endpoint is known by address and protocol and outlives the views that name it, so a reload drops no connection.

mod dial;
mod h1;
mod h2;

pub(crate) use h1::{H1Link, read_head};

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base_ports::Mono;
use enforcer_traffic::{EndpointSpec, UpstreamProtocol};
use parking_lot::Mutex;

use crate::meter::{EndpointMeter, Meters};

/// All endpoints of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools(Mutex<HashMap<(UpstreamProtocol, SocketAddr), Arc<Endpoint>>>);

/// One endpoint and this worker's connections to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) meter: EndpointMeter,
    in_flight: AtomicU32,
    h1: h1::Idle,
    h2: h2::Links,
}

/// One call in flight at an endpoint while it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Endpoint>);

impl Pools {
    pub(crate) fn endpoint(&self, spec: &EndpointSpec, meters: &Meters) -> Arc<Endpoint> {
        let mut known = self.0.lock();
        let endpoint = known.entry((spec.protocol, spec.addr)).or_insert_with(|| {
            Arc::new(Endpoint {
                address: spec.addr,
                protocol: spec.protocol,
                meter: meters.endpoint(&spec.addr.to_string()),
                in_flight: AtomicU32::new(0),
                h1: h1::Idle::default(),
                h2: h2::Links::default(),
            })
        });
        Arc::clone(endpoint)
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
    /// Calls in flight from this worker.
    pub(crate) fn load(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call from now on.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

impl std::ops::Deref for InFlight {
    type Target = Arc<Endpoint>;
    fn deref(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
