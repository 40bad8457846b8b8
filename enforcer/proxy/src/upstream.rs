//! Clusters and routes as one worker sees them: its connections, its balancers, its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use enforcer_traffic::balance::Balancer;
use enforcer_traffic::{Cluster, Route, Split};
use parking_lot::Mutex;

use crate::meter::RouteMeter;
use crate::pool::Endpoint;
use crate::worker::Worker;

/// A cluster, as seen from one worker.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) balancer: Mutex<Balancer>,
}

/// Where the calls of a route go, as seen from one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    pub(crate) route: Arc<Route>,
    pub(crate) meter: Arc<RouteMeter>,
    to: Vec<Arc<Upstream>>,
    split: Split,
    /// A Weyl sequence of this worker and route: the next random share.
    rolls: AtomicU64,
}

impl Upstream {
    pub(crate) fn new(cluster: &Arc<Cluster>, worker: &Worker) -> Self {
        let endpoints = cluster.endpoints.iter();
        Self {
            cluster: Arc::clone(cluster),
            endpoints: endpoints.map(|spec| worker.pools.endpoint(spec, &worker.meters)).collect(),
            balancer: Mutex::new(Balancer::new(cluster.balancer, &cluster.endpoints, worker.rng.u64())),
        }
    }
}

impl Upstreams {
    /// `all` are the clusters of the view, in their order.
    pub(crate) fn new(route: &Arc<Route>, all: &[Arc<Upstream>], worker: &Worker) -> Self {
        let to = route.to.iter().filter_map(|(cluster, _)| all.get(cluster.index as usize));
        Self {
            route: Arc::clone(route),
            meter: worker.meters.route(&route.name, &route.service),
            to: to.cloned().collect(),
            split: Split::new(route.to.iter().map(|(_, weight)| *weight)),
            rolls: AtomicU64::new(worker.rng.u64()),
        }
    }

    /// The cluster that takes the next call.
    pub(crate) fn choose(&self) -> Option<&Arc<Upstream>> {
        match self.to.as_slice() {
            [one] => Some(one),
            _ => self.to.get(self.split.pick(self.roll())?),
        }
    }

    fn roll(&self) -> u64 {
        // Steps by the golden ratio spread evenly over the line, so shares are exact after few calls already.
        self.rolls.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}
