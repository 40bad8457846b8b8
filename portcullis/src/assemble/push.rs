//! The exporter of metrics (OB5): every so often, all that `/metrics` would tell goes to a collector by OTLP over HTTP. A push that
//! is not taken is counted and not told again: the next one says more, as all of it is counted from the start.

mod wire;

use std::sync::Arc;

use base_ports::{Clock, Tasks};
use base_telemetry::Metrics;

use super::collector::Collector;
use crate::config::Pushed;
use crate::messages::Message;

/// Starts the exporter. The first push comes at once, so that a new process is seen.
pub(super) fn start(
    pushed: &Pushed,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<(), Message> {
    let mut collector = Collector::new(&pushed.collector, "metrics")?;
    let interval = pushed.interval;
    let (metrics, clock) = (Arc::clone(metrics), Arc::clone(clock));
    let sent = metrics.counter(
        "portcullis_metrics_pushed",
        "Pushes of metrics, by what became of them.",
        &["result"],
    );
    let [ok, failed] = ["ok", "failed"].map(|result| sent.with(&[result]));
    let began = clock.now().wall;
    tasks.spawn("push", async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let body = wire::request(collector.resource(), metrics.read(), (began, clock.now().wall));
            if collector.send(body).await.is_ok() { &ok } else { &failed }.inc();
        }
    });
    Ok(())
}
