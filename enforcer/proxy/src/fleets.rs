//! What all workers know together: the state of every cluster's endpoints, and what its routes may still retry.
//!
//! Workers come here when a view comes into force, never for a call. A cluster of the same name goes on with what was
//! known of its endpoints, so a reload neither forgets who is shut out nor loses count.

use std::collections::HashMap;
use std::sync::Arc;

use base_ports::{Mono, Rng};
use enforcer_traffic::fleet::{Fleet, FleetSettings};
use enforcer_traffic::{Cluster, RateLimit, RateSettings, RetryBudget};
use parking_lot::Mutex;

/// One per process.
#[derive(Debug, Default)]
pub(crate) struct Fleets {
    clusters: Mutex<HashMap<Arc<str>, Known>>,
    budgets: Mutex<HashMap<Arc<str>, Arc<RetryBudget>>>,
    rates: Mutex<HashMap<Taker, Arc<RateLimit>>>,
}

/// Whose calls have a rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Taker {
    /// By its place in the configuration.
    Listener(usize),
    /// By its name.
    Route(Arc<str>),
}

/// The cluster that the fleet was made for last, and the fleet.
type Known = (Arc<Cluster>, Arc<Fleet>);

impl Fleets {
    /// The state of a cluster; made by the first worker that asks for it.
    pub(crate) fn of(&self, cluster: &Arc<Cluster>, rng: &dyn Rng, now: Mono) -> Arc<Fleet> {
        let mut known = self.clusters.lock();
        let before = known.get(&cluster.name);
        if let Some((of, fleet)) = before
            && (Arc::ptr_eq(of, cluster) || of.spec == cluster.spec)
        {
            return Arc::clone(fleet);
        }
        let spec = &cluster.spec;
        let before = before.map(|(_, fleet)| &**fleet);
        let settings = FleetSettings { is_checked: spec.check.is_some(), ..spec.fleet.clone() };
        let fleet = Arc::new(Fleet::new(settings, &spec.endpoints, before, rng.u64(), now));
        known.insert(Arc::clone(&cluster.name), (Arc::clone(cluster), Arc::clone(&fleet)));
        fleet
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

    /// Forgets what no worker uses any more.
    pub(crate) fn sweep(&self) {
        self.clusters.lock().retain(|_, (_, fleet)| Arc::strong_count(fleet) > 1);
        self.budgets.lock().retain(|_, budget| Arc::strong_count(budget) > 1);
        self.rates.lock().retain(|_, limit| Arc::strong_count(limit) > 1);
    }
}
