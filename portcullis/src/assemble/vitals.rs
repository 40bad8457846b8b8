//! What the process says of itself once a second: whether the ledger takes records, and a few product-wide numbers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Tasks, task};
use base_telemetry::{Condition, Health, Metrics};
use ca_agent::Agent;
use policies_decisions::{Alarm, Ledger};

const PERIOD: Duration = Duration::from_secs(1);
/// Looks in a minute.
const MINUTE: usize = 60;
/// With more panics in a minute the process is not ready (WK-04).
const MOST: u64 = 10;
const CALM: &str = "none panics again and again";

/// How many panics there were at each look of the last minute.
#[derive(Debug, Default)]
struct Storm(VecDeque<u64>);

impl Storm {
    /// How many there were within a minute, when there are `all` now.
    fn in_a_minute(&mut self, all: u64) -> u64 {
        self.0.push_back(all);
        if self.0.len() > MINUTE + 1 {
            self.0.pop_front();
        }
        all.saturating_sub(self.0.front().copied().unwrap_or(all))
    }
}

/// Keeps the ledger's condition and the gauges true.
pub(super) fn watch(
    ledger: Ledger,
    agent: Option<Arc<Agent>>,
    condition: Condition,
    health: Health,
    metrics: &Metrics,
    tasks: &Tasks,
) {
    let (calm, mut storm) = (health.condition("tasks"), Storm::default());
    calm.set(true, CALM);
    let gauge = |name, help| metrics.gauge(name, help, &[]).with(&[]);
    let counter = |name, help| metrics.counter(name, help, &[]).with(&[]);
    metrics
        .gauge("portcullis_build_info", "Version and commit of this binary", &["version", "commit"])
        .with(&[crate::about::VERSION, crate::about::COMMIT.unwrap_or("unknown")])
        .set(1);
    let ready = gauge("portcullis_ready", "1 when every condition of readiness is met");
    let bytes = gauge("portcullis_ledger_bytes", "Bytes of all files of the ledger");
    let damaged =
        gauge("portcullis_ledger_damaged", "Ranges of records found unreadable since the start (PC6021)");
    let aside = gauge(
        "portcullis_ledger_quarantined",
        "Records that could not be read, were set aside, and are still within retention (PC6021)",
    );
    let size = gauge("portcullis_ledger_tree_size", "Records that the last signed checkpoint covers");
    let age =
        gauge("portcullis_ledger_checkpoint_age_seconds", "How long records wait for a signed checkpoint");
    let silent = gauge(
        "portcullis_ledger_streams_silent",
        "Enforcers that neither closed nor were heard of for 30 s (PC5010)",
    );
    let failed =
        gauge("portcullis_ledger_self_check_failed", "1 while a closed segment is not what it was (PC5012)");
    let rejected = counter("portcullis_sds_rejected", "Secrets that an Envoy was sent and refused");
    let panics = counter("portcullis_panics", "Panics contained in a task");
    let help = "From a new or changed entry to when its SVID is on the streams of the Workload API";
    let entries = metrics.histogram("portcullis_entry_to_svid_seconds", help, &[]).with(&[]);
    let mut was_late = false;
    tasks.spawn("vitals", async move {
        loop {
            let stats = ledger.stats();
            match stats.is_writable {
                true => condition.set(true, "writable"),
                false => condition.set(false, "the disk takes no records"),
            }
            ready.set(i64::from(health.is_ready()));
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            bytes.set(whole(stats.stored_bytes));
            damaged.set(whole(stats.damaged as u64));
            aside.set(whole(stats.quarantined));
            size.set(whole(stats.tree_size));
            let alarms = ledger.alarms();
            let is_silent = |alarm: &&Alarm| matches!(alarm, Alarm::Silent { .. });
            silent.set(whole(alarms.iter().filter(is_silent).count() as u64));
            failed.set(i64::from(alarms.iter().any(|alarm| matches!(alarm, Alarm::SelfCheck(_)))));
            age.set(whole(stats.unsigned_for.as_secs()));
            let is_late = alarms.iter().any(|alarm| matches!(alarm, Alarm::Unsigned(_)));
            if is_late && !was_late {
                tracing::error!(
                    event = "ledger_unsigned",
                    code = "PC5011",
                    "no checkpoint is signed for 30 s"
                );
            }
            was_late = is_late;
            let refused = agent.as_ref().map_or(0, |agent| agent.status().rejected);
            rejected.add(refused.saturating_sub(rejected.get()));
            let waited = agent.as_ref().map(|agent| agent.take_delays()).unwrap_or_default();
            waited.into_iter().for_each(|took| entries.observe(took));
            let all = task::panics();
            panics.add(all.saturating_sub(panics.get()));
            match storm.in_a_minute(all) {
                ..=MOST => calm.set(true, CALM),
                count => calm.set(false, format!("{count} tasks panicked within a minute")),
            }
            tokio::time::sleep(PERIOD).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wk_04_panics_count_for_a_minute() {
        let mut storm = Storm::default();
        assert_eq!(storm.in_a_minute(3), 0, "what was before is not counted");
        assert_eq!(storm.in_a_minute(13), 10);
        assert!((0..MINUTE - 2).all(|_| storm.in_a_minute(14) == 11));
        assert_eq!(storm.in_a_minute(14), 11, "a minute after the first look");
        assert_eq!(storm.in_a_minute(14), 1, "the ten are older than a minute");
        assert_eq!(storm.in_a_minute(14), 0);
    }
}
