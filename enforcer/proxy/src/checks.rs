//! Active health checks (HC-01): every endpoint of a cluster that wants it is asked, once per process, whoever serves it.
//!
//! They run on the runtime of the owner, not on a worker's, and policies have no say in them. What they find stands in
//! the state that all workers share.

mod probe;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base_ports::{Clock, Net, Rng, Tasks};
use ca_identity::tls::Trust;
use enforcer_traffic::Cluster;
use enforcer_traffic::fleet::{CheckSettings, Checkup, Fleet};

use crate::fleets::Fleets;
use crate::pool::Originator;
use crate::{Names, Ports, ViewHandle};

/// Asks the endpoints of the view in force, until it is dropped.
pub(crate) struct Checks {
    view: Arc<ViewHandle>,
    fleets: Arc<Fleets>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    net: Arc<dyn Net>,
    trust: Arc<Trust>,
    names: Arc<Names>,
}

/// The checks of one cluster; they end with it.
type Running = HashMap<Arc<str>, (Arc<Cluster>, Arc<Fleet>, Tasks)>;

impl Checks {
    pub(crate) fn new(ports: &Ports, fleets: &Arc<Fleets>) -> Self {
        Self {
            view: Arc::clone(&ports.view),
            fleets: Arc::clone(fleets),
            clock: Arc::clone(&ports.clock),
            rng: Arc::clone(&ports.rng),
            net: Arc::clone(&ports.net),
            trust: Arc::clone(&ports.trust),
            names: Arc::clone(&ports.names),
        }
    }

    /// Follows the views for ever.
    pub(crate) async fn run(self) {
        let mut views = self.view.subscribe();
        let mut addresses = self.names.subscribe();
        let mut running = Running::new();
        loop {
            self.follow(&mut running);
            let told = tokio::select! {
                told = views.changed() => told,
                told = addresses.changed() => told,
            };
            // An error means that nobody can publish any more.
            if told.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Starts the checks that the view in force wants and ends those that it does not.
    fn follow(&self, running: &mut Running) {
        let view = self.view.current();
        let wanted: HashMap<_, _> =
            view.routes.clusters().iter().map(|cluster| (&*cluster.name, cluster)).collect();
        running.retain(|name, _| wanted.contains_key(&**name));
        for written in view.routes.clusters() {
            let (cluster, fleet) = self.fleets.of(written, &*self.rng, self.clock.mono());
            if running.get(&cluster.name).is_some_and(|(of, _, _)| of.spec == cluster.spec) {
                continue;
            }
            running.remove(&cluster.name);
            let Some(settings) = &cluster.spec.check else { continue };
            let tasks = Tasks::new("checks");
            for place in 0..cluster.spec.endpoints.len() {
                let (clock, rng, net) =
                    (Arc::clone(&self.clock), Arc::clone(&self.rng), Arc::clone(&self.net));
                let trust = Arc::clone(&self.trust);
                let (cluster, fleet) = (Arc::clone(&cluster), Arc::clone(&fleet));
                let examiner = Examiner { cluster, fleet, clock, rng, net, trust };
                tasks.spawn("check", examiner.run(place, settings.clone()));
            }
            running.insert(Arc::clone(&cluster.name), (cluster, fleet, tasks));
        }
    }
}

/// Asks one endpoint.
struct Examiner {
    cluster: Arc<Cluster>,
    fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    net: Arc<dyn Net>,
    trust: Arc<Trust>,
}

impl Examiner {
    async fn run(self, place: usize, settings: CheckSettings) {
        let Some(endpoint) = self.cluster.spec.endpoints.get(place) else { return };
        let judged_by = (&self.trust, &self.clock);
        let secured = |settings| Originator::new(settings, judged_by, endpoint.protocol, &endpoint.addr);
        let originator = self.cluster.spec.tls.as_ref().map(secured);
        let mut checkup = Checkup::default();
        loop {
            let asking = probe::ask(&*self.net, originator.as_ref(), endpoint, &settings.probe);
            let answer = tokio::time::timeout(settings.timeout, Box::pin(asking)).await;
            let failed = match answer {
                Ok(Ok(())) => None,
                Ok(Err(cause)) => Some(cause.to_string()),
                Err(slow) => Some(slow.to_string()),
            };
            let (cluster, address) = (&*self.cluster.name, &endpoint.addr);
            tracing::debug!(event = "checked", cluster, endpoint = %address, failed, "an endpoint was asked for its health");
            if let Some(health) = checkup.seen(failed.is_none()) {
                self.fleet.examined(place, health, self.clock.mono());
                tracing::debug!(event = "health_turned", cluster, endpoint = %address, ?health, "");
            }
            tokio::time::sleep(checkup.pause(&settings, self.rng.share())).await;
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").finish_non_exhaustive()
    }
}
