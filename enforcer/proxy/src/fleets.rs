//! What all workers know together: the state of every cluster's endpoints, and what its routes may still retry.
//!
//! Workers come here when a view comes into force, never for a call. A cluster of the same name goes on with what was
//! known of its endpoints, so neither a reload nor another answer for a name forgets who is shut out or loses count.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use base_ports::{Mono, Rng};
use enforcer_traffic::fleet::{Fleet, FleetSettings};
use enforcer_traffic::{Cluster, RateLimit, RateSettings, RetryBudget, lighter};
use parking_lot::Mutex;

use crate::Names;
use crate::injection::Injections;
use crate::listeners::Member;
use crate::load::Load;
use crate::report::EndpointReport;
use crate::shaken::Shaken;

/// One per process.
#[derive(Debug)]
pub(crate) struct Fleets {
    names: Arc<Names>,
    clusters: Mutex<HashMap<Arc<str>, Known>>,
    budgets: Mutex<HashMap<Arc<str>, Arc<RetryBudget>>>,
    rates: Mutex<HashMap<Taker, Arc<RateLimit>>>,
    /// By worker.
    loads: Vec<Arc<Load>>,
    /// The same workers, once all of them are there.
    members: OnceLock<Vec<Member>>,
    /// Whether calls are marked that are handed on: a listener is a sidecar's.
    pub(crate) marks: AtomicBool,
    /// The handshakes that run.
    pub(crate) shaken: Arc<Shaken>,
    /// Faults that operators put into calls.
    pub(crate) injections: Injections,
}

/// Whose calls have a rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Taker {
    /// By its number.
    Listener(usize),
    /// By its name.
    Route(Arc<str>),
}

/// A cluster as it was last.
#[derive(Debug)]
struct Known {
    written: Arc<Cluster>,
    /// The same with the endpoints that its names lead to.
    cluster: Arc<Cluster>,
    fleet: Arc<Fleet>,
}

impl Fleets {
    /// For so many workers and handshakes.
    pub(crate) fn new(names: &Arc<Names>, workers: usize, handshakes: usize) -> Arc<Self> {
        Arc::new(Self {
            names: Arc::clone(names),
            clusters: Mutex::default(),
            budgets: Mutex::default(),
            rates: Mutex::default(),
            marks: AtomicBool::new(false),
            loads: (0..workers).map(|_| Arc::default()).collect(),
            members: OnceLock::new(),
            shaken: Arc::new(Shaken::new(handshakes)),
            injections: Injections::default(),
        })
    }

    /// These are the workers; told once.
    pub(crate) fn meet(&self, members: Vec<Member>) {
        self.members.get_or_init(|| members);
    }

    /// The workers, in the order of their numbers.
    pub(crate) fn members(&self) -> &[Member] {
        self.members.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// A worker that has much less to do than the one of that number, with its load.
    pub(crate) fn lighter(&self, number: usize) -> Option<(&Member, &Arc<Load>)> {
        let other = lighter(number, self.loads.iter().map(|load| load.served()))?;
        self.members().get(other).zip(self.loads.get(other))
    }

    /// The load of each worker.
    pub(crate) fn loads(&self) -> Vec<Arc<Load>> {
        self.loads.clone()
    }

    /// The cluster with all its endpoints, and their state; made by the first worker that asks for it.
    pub(crate) fn of(&self, written: &Arc<Cluster>, rng: &dyn Rng, now: Mono) -> (Arc<Cluster>, Arc<Fleet>) {
        let mut known = self.clusters.lock();
        let is_named = !written.spec.named.is_empty();
        let endpoints = is_named.then(|| self.names.endpoints(written));
        let before = known.get(&written.name);
        if let Some(before) = before
            && (Arc::ptr_eq(&before.written, written) || before.written.spec == written.spec)
            && endpoints.as_ref().is_none_or(|endpoints| *endpoints == before.cluster.spec.endpoints)
        {
            let cluster = if is_named { &before.cluster } else { written };
            return (Arc::clone(cluster), Arc::clone(&before.fleet));
        }
        let cluster = match endpoints {
            None => Arc::clone(written),
            Some(endpoints) => Arc::new(written.resolved(endpoints)),
        };
        let spec = &cluster.spec;
        let before = before.map(|known| &*known.fleet);
        let settings = FleetSettings { is_checked: spec.check.is_some(), ..spec.fleet.clone() };
        let fleet = Arc::new(Fleet::new(settings, &spec.endpoints, before, rng.u64(), now));
        let (written, of, state) = (Arc::clone(written), Arc::clone(&cluster), Arc::clone(&fleet));
        known.insert(Arc::clone(&cluster.name), Known { written, cluster: of, fleet: state });
        (cluster, fleet)
    }

    /// The retries of a route.
    pub(crate) fn budget(&self, route: &Arc<str>) -> Arc<RetryBudget> {
        Arc::clone(self.budgets.lock().entry(Arc::clone(route)).or_default())
    }

    /// The calls that were taken. Where the settings are what they were, so are the calls.
    pub(crate) fn rate(&self, taker: Taker, settings: &RateSettings) -> Arc<RateLimit> {
        let mut rates = self.rates.lock();
        let known = rates.get(&taker).filter(|known| known.settings() == settings);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let limit = Arc::new(RateLimit::new(settings.clone()));
        rates.insert(taker, Arc::clone(&limit));
        limit
    }

    /// Every endpoint of the clusters in use, by the names of these.
    pub(crate) fn report(&self) -> Vec<EndpointReport> {
        let clusters = self.clusters.lock();
        let endpoints = clusters.values().flat_map(|known| {
            let states = known.cluster.spec.endpoints.iter().zip(known.fleet.endpoints());
            states.map(|(spec, state)| EndpointReport {
                cluster: Arc::clone(&known.cluster.name),
                address: spec.addr.clone(),
                protocol: spec.protocol,
                weight: spec.weight,
                priority: spec.priority,
                zone: spec.zone.clone(),
                is_open: state.is_open(),
                health: state.health(),
                in_flight: state.in_flight(),
            })
        });
        let mut endpoints: Vec<_> = endpoints.collect();
        endpoints.sort_by(|one, other| one.cluster.cmp(&other.cluster));
        endpoints
    }

    /// Forgets what no worker uses any more.
    pub(crate) fn sweep(&self) {
        self.clusters.lock().retain(|_, known| Arc::strong_count(&known.fleet) > 1);
        self.budgets.lock().retain(|_, budget| Arc::strong_count(budget) > 1);
        self.rates.lock().retain(|_, limit| Arc::strong_count(limit) > 1);
    }
}
