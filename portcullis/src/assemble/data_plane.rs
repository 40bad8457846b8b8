//! The data plane: its ports, and its start.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base_ports::{Clock, Rng, SystemNet, Tasks};
use base_telemetry::Metrics;
use ca_identity::tls::Trust;
use enforcer_proxy::{Dns, Names, Ports, Proxy, ViewHandle};
use policies_decisions::Ledger;
use policies_store::PolicyStore;

use super::{doubt, gauges, view};
use crate::config::{Config, Enforcer};
use crate::messages::Message;

/// Where names lead; never to the ports of this process that are not for calls.
pub(super) fn names(config: &Config, clock: &Arc<dyn Clock>) -> Arc<Names> {
    let server = config.enforcer.as_ref().and_then(|enforcer| enforcer.resolver);
    let dns = server.map_or_else(Dns::of_system, Dns::at);
    let ca = config.ca.as_ref().and_then(|ca| ca.listen);
    let own = config.admin.listen.iter().copied().chain(ca).collect();
    Names::new(Arc::new(dns), Arc::clone(clock), own)
}

#[expect(clippy::too_many_arguments, reason = "the one place where the data plane gets all its ports")]
pub(super) fn start(
    config: &Config,
    enforcer: &Enforcer,
    trust: &Arc<Trust>,
    ledger: &Ledger,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    view: Arc<ViewHandle>,
    mismatches: Arc<AtomicU64>,
    store: Option<Arc<PolicyStore>>,
    names: Arc<Names>,
    tasks: &Tasks,
) -> Result<Proxy, Message> {
    let lanes = ledger.clone();
    let ports = Ports {
        view,
        trust: Arc::clone(trust),
        lane: Arc::new(move |worker| lanes.lane(worker)),
        samples: doubt::start(ledger, clock, metrics, tasks, mismatches, store),
        metrics: Arc::clone(metrics),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
        net: Arc::new(SystemNet),
        names,
        gauges: Arc::new(gauges::SystemGauges::new(enforcer.max_memory)),
    };
    Proxy::start(view::settings(config, enforcer, &**rng)?, ports).map_err(|error| {
        Message::error("PC4001", format!("data plane: {error}")).next("portcullis config validate")
    })
}
