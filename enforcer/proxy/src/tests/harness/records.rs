//! A lane that keeps every record in memory, and fails, waits or panics when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use policies_engine::{Audit, AuditUnavailable, DecisionId, DecisionRecord, Lane, Receipt};

/// Records by id, in order.
#[derive(Debug, Default, Clone)]
pub(in crate::tests) struct Records {
    kept: Arc<Mutex<Vec<(DecisionId, DecisionRecord)>>>,
    /// Fails every record that must be kept before its effect.
    pub(in crate::tests) fails: Arc<AtomicBool>,
    /// Until this is over none of those is kept.
    pub(in crate::tests) waits: Arc<AtomicBool>,
    /// Panics once.
    pub(in crate::tests) panics: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

/// The lane of a worker, by its number.
pub(super) struct TestLane(pub(super) Records, pub(super) u16);

impl Lane for TestLane {
    fn record(&mut self, record: DecisionRecord) -> (DecisionId, Receipt) {
        let millis = u64::try_from(record.time.wall.as_millis()).unwrap();
        let seq = self.0.next.fetch_add(1, Ordering::Relaxed);
        let id = DecisionId::new(millis, u64::from(self.1), seq);
        let fails = self.0.fails.load(Ordering::Relaxed);
        assert!(!self.0.panics.swap(false, Ordering::Relaxed), "a panic on purpose");
        let receipt = match record.audit {
            Audit::BestEffort => Receipt::Taken,
            _ if fails => Receipt::Pending(Box::pin(async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err(AuditUnavailable("full".to_owned()))
            })),
            _ => {
                let waits = Arc::clone(&self.0.waits);
                Receipt::Pending(Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    while waits.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(())
                }))
            }
        };
        self.0.kept.lock().push((id, record));
        (id, receipt)
    }
}

impl Records {
    pub(in crate::tests) fn all(&self) -> Vec<(DecisionId, DecisionRecord)> {
        self.kept.lock().clone()
    }

    pub(in crate::tests) fn last(&self) -> (DecisionId, DecisionRecord) {
        self.kept.lock().last().cloned().expect("a record")
    }

    pub(in crate::tests) async fn wait(&self, count: usize) {
        for _ in 0..500 {
            if self.kept.lock().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("only {} records", self.kept.lock().len());
    }
}
