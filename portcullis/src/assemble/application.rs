//! Whether the application behind a sidecar is there (SC-03): a pair is ready when a call can reach the application, not
//! when two gateways are. Asked by connecting, about as often as an active check would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Net, NetAddr, Tasks};
use base_telemetry::Health;
use enforcer_traffic::ClusterSpec;

use super::configuration::Configuration;
use crate::config::Enforcer;

const NAME: &str = "application";
/// Between two looks while it is missing, and while it is there.
const PERIODS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How long a connection to it may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the condition true, as the configuration in force has it. Without a listener of profile `sidecar-in` there is none.
pub(super) fn watch(configuration: &Arc<Configuration>, net: Arc<dyn Net>, health: Health, tasks: &Tasks) {
    let configuration = Arc::clone(configuration);
    let wanted = move || configuration.in_force().enforcer.as_ref().map(behind).unwrap_or_default();
    // It is there from the first sidecar on, and met without one.
    let mut condition = (!wanted().is_empty()).then(|| health.condition_of_others(NAME));
    tasks.spawn("application", async move {
        loop {
            let wanted = wanted();
            let missing = missing(&wanted, &*net).await;
            if !wanted.is_empty() || condition.is_some() {
                let condition = condition.get_or_insert_with(|| health.condition_of_others(NAME));
                match &missing {
                    Some(missing) => condition.set(false, format!("nothing listens at {missing}")),
                    None => condition.set(true, "listens"),
                }
            }
            tokio::time::sleep(if missing.is_some() { PERIODS.0 } else { PERIODS.1 }).await;
        }
    });
}

/// Where the application of sidecars listens: for each cluster on this host that their routes lead to, its endpoints.
fn behind(enforcer: &Enforcer) -> Vec<Vec<NetAddr>> {
    let inner = |name: &str| {
        let listener = enforcer.listeners.iter().find(|listener| listener.name == name);
        listener.is_some_and(|listener| listener.is_sidecar && listener.callers.is_none())
    };
    if !enforcer.listeners.iter().any(|listener| inner(&listener.name)) {
        return Vec::new();
    }
    let routes = enforcer.routes.iter().filter(|route| route.listener.as_deref().is_none_or(inner));
    let names: BTreeSet<&str> =
        routes.flat_map(|route| &route.to).filter(|to| to.weight > 0).map(|to| to.cluster.as_str()).collect();
    let named = |spec: &&ClusterSpec| names.contains(spec.name.as_str());
    enforcer.clusters.iter().filter(named).filter(|spec| spec.tls.is_none()).filter_map(here).collect()
}

/// The endpoints of a cluster, when all of them are on this host.
fn here(spec: &ClusterSpec) -> Option<Vec<NetAddr>> {
    let is_here = |address: &NetAddr| address.tcp().is_none_or(|address| address.ip().is_loopback());
    let addresses: Vec<_> = spec.endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect();
    (spec.named.is_empty() && !addresses.is_empty() && addresses.iter().all(is_here)).then_some(addresses)
}

/// The first place where something is to listen and nothing does; of a cluster one endpoint is enough.
async fn missing(wanted: &[Vec<NetAddr>], net: &dyn Net) -> Option<String> {
    for cluster in wanted {
        let mut is_there = false;
        for address in cluster {
            is_there = matches!(tokio::time::timeout(PATIENCE, net.dial(address)).await, Ok(Ok(_)));
            if is_there {
                break;
            }
        }
        if !is_there {
            return Some(cluster.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        }
    }
    None
}
