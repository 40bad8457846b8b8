//! Other trust domains: the way to their bundle endpoints, and what metrics say of them.
//!
//! When to fetch and what is taken is decided by the authority; the network is in `fetch`.

use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use base_telemetry::Metrics;
use ca_authority::Authority;

const PERIOD: Duration = Duration::from_secs(1);
const STATES: [&str; 4] = ["current", "stale", "empty", "none"];

/// Fetches from now on, and keeps the gauges true.
pub(super) fn start(authority: &Arc<Authority>, metrics: &Metrics, tasks: &Tasks) {
    tasks.spawn("federation", Arc::clone(authority).follow_federation());
    let domains = metrics.gauge(
        "portcullis_federated_domains",
        "Other trust domains by how their bundle stands: current, stale, empty, or none held",
        &["state"],
    );
    let domains = STATES.map(|state| (state, domains.with(&[state])));
    let age = metrics.gauge(
        "portcullis_bundle_age_seconds",
        "Since when the federated bundle was not seen that was not seen for longest",
        &[],
    );
    let age = age.with(&[]);
    let authority = Arc::clone(authority);
    tasks.spawn("federation gauges", async move {
        loop {
            let (now, all) = (authority.time(), authority.federations());
            for (state, gauge) in &domains {
                let count = all.iter().filter(|relation| relation.state(now) == *state).count();
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            let ages =
                all.iter().filter_map(|relation| Some(now.saturating_since(relation.held.as_ref()?.at)));
            let oldest = ages.max().unwrap_or_default();
            age.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
            tokio::time::sleep(PERIOD).await;
        }
    });
}
