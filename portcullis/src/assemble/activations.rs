//! What the policy store tells and asks of the ledger: every activation is a record, and snapshots that records name
//! are kept (ST3, ST4).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Clock;
use policies_decisions::{Ledger, Query};
use policies_engine::{ActivationRecord, Principal, Record};
use policies_store::{Activation, Activations, Old, Pinned};

/// Records of several workers reach the ledger nearly in order of their time; this far apart they do.
const DISORDER: Duration = Duration::from_secs(10);

/// The ledger, as the policy store sees it.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
}

impl Activations for Records {
    fn note(&self, activation: Activation) {
        let Activation { versions: Some(versions), outcome, by, detail, time } = activation else { return };
        let record = ActivationRecord {
            versions,
            outcome: outcome.as_str().to_owned(),
            principal: by.as_deref().and_then(Principal::parse),
            detail,
            time,
        };
        if let Err(error) = self.ledger.append(Record::Activation(record)) {
            tracing::error!(event = "activation_not_recorded", %error, "an activation is not on record");
        }
    }
}

impl Pinned for Records {
    fn named(&self, old: &[Old]) -> BTreeSet<u64> {
        old.iter().filter(|old| self.names(old)).map(|old| old.snapshot).collect()
    }
}

impl Records {
    /// Snapshots in force only grow with time: the first records of a later one end the search.
    fn names(&self, old: &Old) -> bool {
        let since = ("since".to_owned(), old.since.to_string());
        let Ok(query) = Query::parse(&[since], self.clock.now().wall) else { return true };
        let (mut is_named, mut later) = (false, None);
        let walked = self.ledger.walk(&query, |decided| {
            let judged = decided.snapshot;
            is_named = judged == Some(old.snapshot);
            if judged.is_some_and(|judged| judged > old.snapshot) {
                let first = *later.get_or_insert(decided.time);
                if decided.time.saturating_since(first) > DISORDER {
                    return ControlFlow::Break(());
                }
            }
            if is_named { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match walked {
            Ok(walked) => is_named || !walked.damaged.is_empty(),
            Err(error) => {
                tracing::debug!(event = "records_unreadable", %error, "a snapshot is kept, because records cannot be read");
                true
            }
        }
    }
}
