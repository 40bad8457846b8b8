//! What became of upgrades, for log, metric and status alike; and the processes before this one whose calls still last.

use base_ports::{Clock, SystemClock, UnixTime};
use base_telemetry::{Counter, Metrics};
use parking_lot::Mutex;

use super::word::{Peer, Word};

/// Upgrades as this process saw them.
#[derive(Debug)]
pub(crate) struct Upgrades {
    failures: Counter,
    successes: Counter,
    last: Mutex<Option<Attempt>>,
    before: Mutex<Vec<Peer>>,
}

/// The last upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) at: UnixTime,
    /// `succeeded`: this process took over; `failed`: it did not lose its place.
    pub(crate) result: &'static str,
    /// Why it failed.
    pub(crate) why: Option<String>,
}

impl Upgrades {
    pub(in crate::assemble) fn new(metrics: &Metrics) -> Self {
        let family = metrics.counter(
            "portcullis_upgrades",
            "Upgrades: this process took over from another, or another failed to take over from it",
            &["result"],
        );
        let [failures, successes] = ["failed", "succeeded"].map(|result| family.with(&[result]));
        Self { failures, successes, last: Mutex::new(None), before: Mutex::default() }
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Attempt> {
        self.last.lock().clone()
    }

    /// The processes before this one that have not ended.
    pub(super) fn before(&self) -> Vec<Peer> {
        let mut before = self.before.lock();
        before.retain(|peer| !peer.is_gone());
        before.clone()
    }

    /// These are to be told what changes.
    pub(super) fn follow(&self, before: Vec<Peer>) {
        *self.before.lock() = before;
    }

    /// They must not go on by what they know.
    pub(super) fn tell_changed(&self) {
        for peer in self.before.lock().drain(..) {
            // One that has ended needs not be told.
            peer.say(&Word::Changed, &[]).unwrap_or_default();
        }
    }

    pub(super) fn failed(&self, why: &str) {
        tracing::error!(event = "upgrade_failed", code = "PC0122", "this process goes on: {why}");
        self.failures.inc();
        self.note("failed", Some(why.to_owned()));
    }

    pub(super) fn succeeded(&self) {
        self.successes.inc();
        self.note("succeeded", None);
    }

    fn note(&self, result: &'static str, why: Option<String>) {
        *self.last.lock() = Some(Attempt { at: SystemClock.now().wall, result, why });
    }
}
