//! Judges sampled decisions a second time by stock Cedar, off the path of calls (OR3). A difference is an alarm: it is
//! counted, logged with code PC9001, put on record, and the conditions behind it are left to stock Cedar from then on.
//! A version in shadow that takes too long is ended (SH3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base_ports::{Clock, Tasks};
use base_telemetry::Metrics;
use policies_decisions::Ledger;
use policies_engine::{AdministrationRecord, Costly, Mismatch, Record, Sample, Samples};
use policies_store::PolicyStore;
use tokio::sync::{mpsc, watch};

/// Samples that wait; what comes while these are judged is dropped.
const WAITING: usize = 4;

/// The second judge rests so many times as long as a judgement took: it takes less than half a percent of a core,
/// however many policies there are.
const REST: u32 = 200;

#[derive(Debug)]
struct Queue {
    samples: mpsc::Sender<Sample>,
    costly: watch::Sender<Option<Costly>>,
}

impl Samples for Queue {
    fn offer(&self, sample: Sample) {
        if self.samples.try_send(sample).is_err() {
            tracing::trace!(event = "sample_dropped", "enough samples wait already");
        }
    }

    fn costly(&self, costly: Costly) {
        self.costly.send_replace(Some(costly));
    }
}

/// Starts the second judge; `found` counts the differences, for the publisher of the policies. `store` ends what takes
/// too long.
pub(super) fn start(
    ledger: &Ledger,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    tasks: &Tasks,
    found: Arc<AtomicU64>,
    store: Option<Arc<PolicyStore>>,
) -> Arc<dyn Samples> {
    let counter = |name, help| metrics.counter(name, help, &[]).with(&[]);
    let checks =
        counter("portcullis_policy_oracle_checks", "Decisions that stock Cedar judged a second time");
    let mismatches = counter("portcullis_policy_oracle_mismatch", "Decisions on which stock Cedar differed");
    let (queue, mut waiting) = mpsc::channel::<Sample>(WAITING);
    let (ledger, clock) = (ledger.clone(), Arc::clone(clock));
    tasks.spawn("doubt", async move {
        while let Some(sample) = waiting.recv().await {
            let began = clock.mono();
            let judged = tokio::task::spawn_blocking(move || sample.recheck()).await;
            let rest = clock.mono().saturating_since(began) * REST;
            checks.inc();
            if let Ok(Some(mismatch)) = judged {
                mismatches.inc();
                found.fetch_add(1, Ordering::Relaxed);
                alarm(&mismatch, &ledger, clock.as_ref());
            }
            tokio::time::sleep(rest).await;
        }
    });
    let costly = watch::Sender::new(None);
    if let Some(store) = store {
        let mut told: watch::Receiver<Option<Costly>> = costly.subscribe();
        tasks.spawn("costly shadow", async move {
            while told.changed().await.is_ok() {
                let costly = *told.borrow_and_update();
                if let Some(costly) = costly {
                    store.end_costly_shadow(costly).await;
                }
            }
        });
    }
    Arc::new(Queue { samples: queue, costly })
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
