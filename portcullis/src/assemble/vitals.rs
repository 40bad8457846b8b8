//! What the process says of itself once a second: whether the ledger takes records, and a few product-wide numbers.

use std::time::Duration;

use base_ports::{Tasks, task};
use base_telemetry::{Condition, Health, Metrics};
use policies_decisions::Ledger;

const PERIOD: Duration = Duration::from_secs(1);

/// Keeps the ledger's condition and the gauges true.
pub(super) fn watch(ledger: Ledger, condition: Condition, health: Health, metrics: &Metrics, tasks: &Tasks) {
    let gauge = |name, help| metrics.gauge(name, help, &[]).with(&[]);
    let counter = |name, help| metrics.counter(name, help, &[]).with(&[]);
    metrics
        .gauge("portcullis_build_info", "Version of this binary", &["version"])
        .with(&[env!("CARGO_PKG_VERSION")])
        .set(1);
    let ready = gauge("portcullis_ready", "1 when every condition of readiness is met");
    let records = counter("portcullis_ledger_records", "Records taken by the ledger since the start");
    let dropped = counter("portcullis_decision_log_dropped", "Records lost, each covered by a gap record");
    let panics = counter("portcullis_panics", "Panics contained in a task");
    tasks.spawn("vitals", async move {
        loop {
            let stats = ledger.stats();
            match stats.is_writable {
                true => condition.set(true, "writable"),
                false => condition.set(false, "the disk takes no records"),
            }
            ready.set(i64::from(health.is_ready()));
            records.add(stats.records.saturating_sub(records.get()));
            dropped.add(stats.lost.saturating_sub(dropped.get()));
            panics.add(task::panics().saturating_sub(panics.get()));
            tokio::time::sleep(PERIOD).await;
        }
    });
}
