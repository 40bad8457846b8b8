//! Connections to endpoints, kept per worker: no worker ever waits for another one's connection (PL-02).
//!
//! An endpoint is known by cluster, address and protocol and outlives the views that name it, so a reload drops no
//! connection. Under TLS a connection is lent only while the trust is in force under which it was opened, and other
//! expected peers make another endpoint (PL-01).

mod dial;
mod h1;
mod h2;
mod h3;
mod links;
mod originate;
mod quic;
mod wire;

pub(crate) use h1::{H1Link, read_head};
pub(crate) use h3::{Asked as H3Asked, Unasked};
pub(crate) use originate::Originator;
pub(crate) use quic::Datagrams;
pub(crate) use wire::Wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base_ports::NetAddr;
use enforcer_traffic::fleet::{EndpointState, Limits};
use enforcer_traffic::{Cluster, EndpointSpec, UpstreamProtocol};
use parking_lot::Mutex;

use crate::fault::Fault;
use crate::meter::{Counted, EndpointMeter};
use crate::worker::Worker;
use links::NoLink;
use wire::Standing;

/// All endpoints of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    endpoints: Mutex<HashMap<Key, Arc<Endpoint>>>,
    datagrams: Datagrams,
}

type Key = (Arc<str>, UpstreamProtocol, NetAddr);

/// One endpoint and this worker's connections to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: NetAddr,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) meter: EndpointMeter,
    /// What all workers know of it.
    pub(crate) state: Arc<EndpointState>,
    /// How connections are secured; none = they are plain.
    originator: Option<Originator>,
    /// The secured connections that may be open.
    secured: Mutex<Vec<Weak<Standing>>>,
    h1: h1::Idle,
    h2: h2::H2Links,
    /// So long an endpoint that owes an answer may be silent before it is asked whether it is there, ms (PL-03).
    ping_millis: AtomicU64,
    h3: h3::H3Links,
    reach: h3::Reach,
}

/// On which terms a connection is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Connecting takes no longer.
    pub(crate) limit: Duration,
    /// Over HTTP/3 or not at all, where HTTP/3 is spoken.
    pub(crate) requires_h3: bool,
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
        cluster: &Cluster,
        spec: &EndpointSpec,
        state: &Arc<EndpointState>,
        worker: &Worker,
    ) -> Arc<Endpoint> {
        let mut known = self.endpoints.lock();
        let key = (Arc::clone(&cluster.name), spec.protocol, spec.addr.clone());
        if let Some(endpoint) = known.get(&key).filter(|endpoint| endpoint.is_for(cluster, state)) {
            endpoint.ping_millis.store(millis(cluster.spec.ping_interval), Ordering::Relaxed);
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint {
            address: spec.addr.clone(),
            protocol: spec.protocol,
            meter: worker.meters.endpoint(&spec.addr.to_string()),
            state: Arc::clone(state),
            originator: cluster.spec.tls.as_ref().map(|settings| {
                let judged_by = (&worker.trust, &worker.clock);
                Originator::new(settings, judged_by, spec.protocol, &spec.addr)
            }),
            secured: Mutex::default(),
            h1: h1::Idle::default(),
            h2: h2::links(),
            ping_millis: AtomicU64::new(millis(cluster.spec.ping_interval)),
            h3: h3::links(),
            reach: h3::Reach::default(),
        });
        known.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Nothing is asked any more.
    pub(crate) async fn close(&self) {
        self.datagrams.close().await;
    }

    /// Closes what has been idle for too long and what is no longer trusted, and forgets endpoints that no view names
    /// any more.
    pub(crate) fn sweep(&self, worker: &Worker) {
        let now = worker.clock.mono();
        let mut known = self.endpoints.lock();
        known.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        for endpoint in known.values() {
            let generation = endpoint.generation(worker);
            endpoint.review(worker);
            endpoint.h1.sweep(now, generation);
            endpoint.h2.sweep(generation);
            endpoint.h3.sweep(generation);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Endpoint {
    /// Its connections are under TLS.
    pub(crate) fn is_secured(&self) -> bool {
        self.originator.is_some()
    }

    /// Its peers are servers outside all trust domains.
    pub(crate) fn is_external(&self) -> bool {
        self.originator.as_ref().is_some_and(Originator::is_external)
    }

    fn is_for(&self, cluster: &Cluster, state: &Arc<EndpointState>) -> bool {
        let settings = self.originator.as_ref().map(|originator| &originator.settings);
        Arc::ptr_eq(&self.state, state) && settings == cluster.spec.tls.as_ref()
    }

    /// The trust that connections must have been opened under to be lent; 0 where there is none to ask for.
    fn generation(&self, worker: &Worker) -> u64 {
        if self.is_secured() && !self.is_external() { worker.trust.generation() } else { 0 }
    }

    /// Ends secured connections whose identities no longer hold, running calls or not (OUT1).
    fn review(&self, worker: &Worker) {
        if self.originator.is_none() {
            return;
        }
        let (trusted, now) = (worker.trust.snapshot(), worker.trust.now());
        self.secured
            .lock()
            .retain(|standing| standing.upgrade().is_some_and(|standing| !standing.review(&trusted, now)));
    }

    /// Room for one more connection.
    fn open(&self, terms: &Terms) -> Result<Opened, Fault> {
        if !self.state.connect(&terms.limits) {
            return Err(Fault::Full);
        }
        Ok(Opened { state: Arc::clone(&self.state), _counted: Counted::new(&self.meter.connections) })
    }

    fn no_connection(&self, failed: &NoLink) -> Fault {
        match failed {
            NoLink::Full => Fault::Full,
            NoLink::Connect(error) => Fault::of_shared_dial(&self.address, error),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.state.disconnect();
    }
}
