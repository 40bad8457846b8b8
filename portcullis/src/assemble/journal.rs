//! How long the journal takes (IC-05): the store, with a clock beside every commit.

use std::sync::Arc;

use base_ports::Clock;
use base_store::{Committed, Entry, Revision, Store, StoreError, Transaction, Watch};
use base_telemetry::{Histogram, Metrics};

/// A store that tells how long its commits took.
#[derive(Debug)]
pub(super) struct Timed {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    commits: Histogram,
}

impl Timed {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Arc<Self> {
        let help = "From a change of the state to when it is on disk; changes that come together are written together";
        let commits = metrics.histogram("portcullis_journal_commit_seconds", help, &[]).with(&[]);
        Arc::new(Self { store, clock, commits })
    }
}

impl Store for Timed {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.store.get(key)
    }

    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.range(prefix, after, limit)
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn commit(&self, transaction: Transaction) -> Committed {
        let (clock, commits, began) = (Arc::clone(&self.clock), self.commits.clone(), self.clock.now().mono);
        let committed = self.store.commit(transaction);
        Box::pin(async move {
            let revision = committed.await?;
            commits.observe(clock.now().mono.saturating_since(began));
            Ok(revision)
        })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(prefix, from)
    }
}
