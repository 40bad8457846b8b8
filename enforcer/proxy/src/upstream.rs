//! Clusters and routes as one worker sees them: its connections, its balancers, its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base_ports::Mono;
use enforcer_codec::Call;
use enforcer_traffic::balance::{Ask, Balancer, Nobody};
use enforcer_traffic::fleet::{Busy, Entry, Fleet, Turn};
use enforcer_traffic::{Cluster, Labels, RateLimit, RetryBudget, Route, Split};
use parking_lot::Mutex;

use crate::authorize::Permitted;
use crate::fleets::Taker;
use crate::inbound::Connection;
use crate::meter::RouteMeter;
use crate::pool::Endpoint;
use crate::waiting::Waiting;
use crate::worker::Worker;

/// A cluster, as seen from one worker.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<Cluster>,
    /// The cluster that it is, or is a part of.
    whole: Arc<Cluster>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Calls of this worker that wait for a place at an endpoint.
    pub(crate) waiting: Waiting,
    balancer: Mutex<Balancer>,
}

/// An endpoint was taken by others between the choice and the call; so often another one is chosen.
const RACES: usize = 8;

/// Where the calls of a route go, as seen from one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    pub(crate) route: Arc<Route>,
    pub(crate) meter: Arc<RouteMeter>,
    /// What the route may still retry, on all workers.
    pub(crate) budget: Arc<RetryBudget>,
    /// How many calls it takes, on all workers; none = any number.
    pub(crate) rate: Option<Arc<RateLimit>>,
    to: Vec<Arc<Upstream>>,
    /// Where some of the calls go besides.
    mirror: Option<Arc<Upstream>>,
    split: Split,
    /// Of the hashes that keep callers at one of them; the same in every process.
    seed: u64,
    /// Weyl sequences of this worker and route: the next random share, of clusters and of the mirror.
    rolls: AtomicU64,
    mirror_rolls: AtomicU64,
}

impl Upstream {
    /// As `before` when nothing about it is other.
    pub(crate) fn of(written: &Arc<Cluster>, before: &[Arc<Self>], worker: &Worker) -> Arc<Self> {
        let (whole, fleet) = worker.fleets.of(written, &*worker.rng, worker.clock.mono());
        let is_same = |of: &&Arc<Self>| {
            Arc::ptr_eq(&of.whole, &whole)
                && Arc::ptr_eq(&of.fleet, &fleet)
                && of.cluster.subset == written.subset
        };
        match before.iter().find(is_same) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self::new(whole, fleet, &written.subset, worker)),
        }
    }

    fn new(whole: Arc<Cluster>, fleet: Arc<Fleet>, subset: &Labels, worker: &Worker) -> Self {
        // Where names lead is known only now, and with it who belongs to the part.
        let is_it = whole.subset == *subset;
        let cluster = if is_it { Arc::clone(&whole) } else { Arc::new(whole.part(subset)) };
        let endpoints = cluster.spec.endpoints.iter().zip(fleet.endpoints());
        let endpoint = |(spec, state)| worker.pools.endpoint(&cluster, spec, state, worker);
        let layout = Arc::clone(&cluster.layout);
        Self {
            endpoints: endpoints.map(endpoint).collect(),
            waiting: Waiting::new(fleet.limits().queued, worker.meters.queue(&cluster.name)),
            balancer: Mutex::new(Balancer::new(cluster.spec.balance, layout, worker.rng.u64())),
            cluster,
            whole,
            fleet,
        }
    }

    /// Chooses an endpoint for a call that came `now`, among those that it `may` go to, and counts the call in there.
    ///
    /// # Errors
    /// When none can be used.
    pub(crate) fn pick(
        &self,
        now: Mono,
        key: Option<u64>,
        may: impl Fn(&Endpoint, usize) -> bool,
    ) -> Result<(usize, &Arc<Endpoint>, Entry), Nobody> {
        let may = |place: usize| self.endpoints.get(place).is_some_and(|endpoint| may(endpoint, place));
        let ask = Ask { now, key, may };
        let mut balancer = self.balancer.lock();
        for _ in 0..RACES {
            let place = balancer.pick(&self.fleet, &ask)?;
            match (self.fleet.enter(place, balancer.panics(), now), self.endpoints.get(place)) {
                (Ok(entry), Some(endpoint)) => return Ok((place, endpoint, entry)),
                (Err(Busy::Cluster), _) => return Err(Nobody::Within),
                (Err(Busy::Endpoint | Busy::Shut), _) | (Ok(_), None) => {}
            }
        }
        Err(Nobody::Free)
    }

    /// Calls that the endpoints take at a time.
    pub(crate) fn slots(&self) -> u32 {
        let endpoints = u32::try_from(self.cluster.layout.places().count()).unwrap_or(u32::MAX);
        let limits = self.fleet.limits();
        limits.endpoint_in_flight.saturating_mul(endpoints).min(limits.in_flight)
    }

    /// What keeps the call at one endpoint.
    pub(crate) fn key(&self, permitted: &Permitted<Call>, conn: &Connection) -> Option<u64> {
        let hash_by = self.cluster.spec.hash_by.as_ref()?;
        let template = permitted.upstreams().and_then(|upstreams| upstreams.route.template.as_ref());
        hash_by.key(permitted.call(), template, &conn.secured.arrival(), self.cluster.seed)
    }

    /// An endpoint was shut out or let in again.
    #[cold]
    pub(crate) fn turned(&self, worker: &Worker, turn: Turn) {
        let (place, is_shut) = match turn {
            Turn::Shut { place, .. } => (place, true),
            Turn::Opened { place } => (place, false),
        };
        let Some(endpoint) = self.endpoints.get(place) else { return };
        let (cluster, address) = (&*self.cluster.name, &endpoint.address);
        worker.meters.circuit(cluster, &address.to_string(), is_shut);
        match turn {
            Turn::Shut { cause, for_, .. } => {
                let (cause, seconds) = (cause.as_str(), for_.as_secs_f32());
                tracing::warn!(event = "endpoint_shut", cluster, endpoint = %address, cause, seconds, "an endpoint takes no calls for a while");
            }
            Turn::Opened { .. } => {
                tracing::info!(event = "endpoint_open", cluster, endpoint = %address, "an endpoint takes calls again");
            }
        }
    }

    /// What is to be done from time to time: endpoints are compared, gauges set.
    pub(crate) fn tend(&self, worker: &Worker, now: Mono) {
        for turn in self.fleet.review(now) {
            self.turned(worker, turn);
        }
        if !self.cluster.subset.is_empty() {
            return;
        }
        let in_flight = self.fleet.endpoints().iter().map(|endpoint| u64::from(endpoint.in_flight())).sum();
        worker.meters.cluster(&self.cluster.name, in_flight, self.balancer.lock().panics());
    }
}

impl Upstreams {
    /// `all` are the clusters of the view, in their order.
    pub(crate) fn new(route: &Arc<Route>, all: &[Arc<Upstream>], worker: &Worker) -> Self {
        let taker = || Taker::Route(Arc::clone(&route.name));
        let rate = route.rate.as_ref().map(|rate| worker.fleets.rate(taker(), rate));
        let of = |cluster: &Cluster| all.get(cluster.index as usize).cloned();
        Self {
            route: Arc::clone(route),
            meter: worker.meters.route(&route.name, &route.service),
            budget: worker.fleets.budget(&route.name),
            rate,
            to: route.to.iter().filter_map(|(cluster, _)| of(cluster)).collect(),
            mirror: route.mirror.as_ref().and_then(|mirror| of(&mirror.to)),
            seed: enforcer_traffic::balance::hash(0, route.name.as_bytes()),
            split: Split::new(route.to.iter().map(|(_, weight)| *weight)),
            rolls: AtomicU64::new(worker.rng.u64()),
            mirror_rolls: AtomicU64::new(worker.rng.u64()),
        }
    }

    /// The cluster that takes the next call.
    pub(crate) fn choose(&self, call: &Call, conn: &Connection) -> Option<&Arc<Upstream>> {
        match self.to.as_slice() {
            [one] => Some(one),
            _ => {
                let key = self.route.split_by.as_ref();
                let template = self.route.template.as_ref();
                let key = key.and_then(|key| key.key(call, template, &conn.secured.arrival(), self.seed));
                self.to.get(self.split.pick(key.unwrap_or_else(|| roll(&self.rolls)))?)
            }
        }
    }

    /// The mirror, when it takes the next call.
    pub(crate) fn mirrors(&self) -> Option<&Arc<Upstream>> {
        let to = self.mirror.as_ref()?;
        self.route.mirror.as_ref()?.takes(roll(&self.mirror_rolls)).then_some(to)
    }
}

/// Steps by the golden ratio spread evenly over the line, so shares are exact after few calls already.
fn roll(rolls: &AtomicU64) -> u64 {
    rolls.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
}
