//! Judges sampled decisions a second time by stock Cedar, off the path of calls (OR3). A difference is an alarm: it is
//! counted, logged with code PC9001, put on record, and the conditions behind it are left to stock Cedar from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base_ports::{Clock, Tasks};
use base_telemetry::Metrics;
use policies_decisions::Ledger;
use policies_engine::{AdministrationRecord, Mismatch, Record, Sample, Samples};
use tokio::sync::mpsc;

/// Samples that wait; what comes while these are judged is dropped.
const WAITING: usize = 64;

#[derive(Debug)]
struct Queue(mpsc::Sender<Sample>);

impl Samples for Queue {
    fn offer(&self, sample: Sample) {
        if self.0.try_send(sample).is_err() {
            tracing::trace!(event = "sample_dropped", "enough samples wait already");
        }
    }
}

/// Starts the second judge; `found` counts the differences, for the publisher of the policies.
pub(super) fn start(
    ledger: &Ledger,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    tasks: &Tasks,
    found: Arc<AtomicU64>,
) -> Arc<dyn Samples> {
    let counter = |name, help| metrics.counter(name, help, &[]).with(&[]);
    let checks =
        counter("portcullis_policy_oracle_checks", "Decisions that stock Cedar judged a second time");
    let mismatches = counter("portcullis_policy_oracle_mismatch", "Decisions on which stock Cedar differed");
    let (queue, mut waiting) = mpsc::channel::<Sample>(WAITING);
    let (ledger, clock) = (ledger.clone(), Arc::clone(clock));
    tasks.spawn("doubt", async move {
        while let Some(sample) = waiting.recv().await {
            let judged = tokio::task::spawn_blocking(move || sample.recheck()).await;
            checks.inc();
            if let Ok(Some(mismatch)) = judged {
                mismatches.inc();
                found.fetch_add(1, Ordering::Relaxed);
                alarm(&mismatch, &ledger, clock.as_ref());
            }
        }
    });
    Arc::new(Queue(queue))
}

fn alarm(mismatch: &Mismatch, ledger: &Ledger, clock: &dyn Clock) {
    let Mismatch { principal, action, resource, ours, stock, moved } = mismatch;
    tracing::error!(
        event = "oracle_mismatch",
        code = "PC9001",
        %principal,
        action = action.as_str(),
        %resource,
        ?ours,
        ?stock,
        "the engine and stock Cedar differ; stock Cedar judges these policies from now on, please report this"
    );
    let details = [
        ("caller", principal.to_string()),
        ("action", action.as_str().to_owned()),
        ("resource", resource.to_string()),
        ("engine", format!("{} ({}) {}", ours.effect, ours.reason, ours.determining.join(", "))),
        ("stock", format!("{} ({}) {}", stock.effect, stock.reason, stock.determining.join(", "))),
        ("moved", moved.join(", ")),
    ];
    let record = AdministrationRecord {
        operation: "oracle-mismatch".to_owned(),
        principal: None,
        details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        time: clock.now(),
    };
    if let Err(error) = ledger.append(Record::Administration(record)) {
        tracing::error!(event = "oracle_mismatch_lost", %error, "a mismatch is not on record");
    }
}
