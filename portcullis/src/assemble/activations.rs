//! What the policy store tells and asks of the ledger: every activation is a record, and snapshots that records name
//! are kept (ST3, ST4).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Clock;
use policies_decisions::{Ledger, Query};
use policies_engine::{ActivationRecord, AdministrationRecord, Principal, Record};
use policies_store::{Activation, Activations, Old, Pinned, ShadowEnded};

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

    fn shadow_ended(&self, ended: &ShadowEnded) {
        let details = [("version", ended.policies.to_string()), ("why", ended.why.clone())];
        let record = AdministrationRecord {
            operation: "policy.shadow_end".to_owned(),
            principal: None,
            details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            time: self.clock.now(),
        };
        if let Err(error) = self.ledger.append(Record::Administration(record)) {
            tracing::error!(event = "shadow_end_not_recorded", %error, "the end of a shadow is not on record");
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

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{Disk, ManualClock, MemoryDisk, SeededRng, UnixTime};
    use policies_decisions::LedgerConfig;
    use policies_engine::{
        Action, Audit, Decision, DecisionRecord, Numbers, Principal, Reason, Resource, Versions,
    };
    use policies_store::Outcome;

    const DAY: UnixTime = UnixTime::from_secs(1_764_000_000);

    fn versions(snapshot: u64) -> Arc<Versions> {
        Arc::new(Versions {
            numbers: Numbers { epoch: 1, snapshot, policies: 1 },
            manifest: [0; 32],
            schema: [0; 32],
            entities: [0; 32],
            routes: [0; 32],
            engine: "test".into(),
            declared: Arc::default(),
            homes: Arc::default(),
            tickets: Arc::default(),
        })
    }

    fn records() -> (Records, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(DAY));
        let (disk, settings) = (MemoryDisk::new(), LedgerConfig::new("/ledger", "example.org", "gw", "host"));
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let ledger = Ledger::open(settings, disk, clock.clone(), &SeededRng::new(1)).unwrap();
        (Records { ledger, clock: clock.clone() }, clock)
    }

    /// One decision that snapshot `snapshot` made, synced.
    async fn judged(records: &Records, snapshot: u64) {
        let decision = Decision::refusal(Reason::NoPolicy);
        let (caller, target) = (Principal::anonymous(), Resource::system());
        let now = records.clock.now();
        let mut record = DecisionRecord::new(decision, caller, Action::Grpc, target, now);
        record.versions = Some(versions(snapshot));
        record.audit = Audit::Durable;
        let (_, stored) = records.ledger.append(Record::Decision(Box::new(record))).unwrap();
        stored.await.unwrap();
    }

    #[tokio::test]
    async fn st3_snapshots_that_a_retained_record_names_are_kept_and_no_others() {
        let (records, clock) = records();
        for snapshot in [3, 5, 5, 8] {
            judged(&records, snapshot).await;
            clock.advance(DISORDER);
        }
        judged(&records, 8).await;
        let old: Vec<Old> = (1..=8).map(|snapshot| Old { snapshot, since: DAY }).collect();
        assert_eq!(records.named(&old), [3, 5, 8].into());
        let later = Old { snapshot: 3, since: DAY + DISORDER };
        assert_eq!(
            records.named(&[later]),
            [].into(),
            "only what was recorded since it was made is searched"
        );
    }

    #[tokio::test]
    async fn every_activation_is_a_record() {
        let (records, clock) = records();
        let note = |outcome, versions: Option<Arc<Versions>>| {
            let by = Some("User::\"corp/ann\"".to_owned());
            records.note(Activation { versions, outcome, by, detail: None, time: clock.now() });
        };
        note(Outcome::Activated, Some(versions(1)));
        note(Outcome::RolledBack, Some(versions(2)));
        note(Outcome::Refused, None);
        judged(&records, 2).await;
        assert_eq!(rows(&records, "activation").len(), 2);
    }

    fn rows(records: &Records, kind: &str) -> Vec<serde_json::Value> {
        let query = Query::parse(&[("kind".to_owned(), kind.to_owned())], records.clock.now().wall).unwrap();
        let page = records.ledger.query(&query).unwrap();
        page.rows.iter().map(|row| row.to_json(&policies_decisions::LogView::named("test"))).collect()
    }

    #[tokio::test]
    async fn sh3_a_shadow_that_ended_by_itself_is_on_record_with_the_reason() {
        let (records, clock) = records();
        let ended = ShadowEnded { policies: 42, at: clock.now().wall, why: "its 24 hours are over".into() };
        records.shadow_ended(&ended);
        judged(&records, 1).await;
        let [row] = rows(&records, "administration").try_into().unwrap();
        assert_eq!(row["body"]["operation"], "policy.shadow_end");
        assert!(row.to_string().contains("its 24 hours are over") && row.to_string().contains("42"), "{row}");
    }
}
