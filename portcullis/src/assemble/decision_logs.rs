//! Decisions as logs of OpenTelemetry: a task that follows the ledger and posts each decision to a collector (decisions.md 12).
//!
//! They are a copy: the ledger keeps what was decided whatever becomes of this. A collector that takes nothing for a while
//! gets it later, read from the ledger again; what retention took by then, what it refuses, and what was decided while no
//! process ran is not sent, and the first two are counted. Calls and the ledger never wait for it.

mod wire;

use std::time::Duration;

use base_telemetry::{Counter, Metrics};
use policies_decisions::{Ledger, LedgerError, StoredRecord, Tail, TailItem};
use tokio::time::{Instant, timeout_at};

use super::collector::{Collector, Exporter, Refused};
use crate::config;
use crate::messages::Message;

/// Decisions of one request.
const MOST: usize = 512;
/// The first of them waits so long for others.
const GATHER: Duration = Duration::from_secs(1);
/// Between tries, from the first on.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of decisions.
struct Told {
    ok: Counter,
    lost: Counter,
}

/// Starts to send what is decided from now on. It ends when the ledger is closed and everything is sent.
///
/// # Errors
/// When the roots of the collector cannot be read.
pub(super) fn start(
    collector: &config::Collector,
    ledger: &Ledger,
    metrics: &Metrics,
) -> Result<Exporter, Message> {
    let sent = metrics.counter(
        "portcullis_decision_logs_sent",
        "Decisions for a collector of logs, by what became of them.",
        &["result"],
    );
    let told = Told { ok: sent.with(&["ok"]), lost: sent.with(&["lost"]) };
    let (tail, collector) = (ledger.tail(None, None), Collector::new(collector, "decisions")?);
    Ok(Exporter::start("decisions", run(tail, collector, told)))
}

async fn run(mut tail: Tail, mut collector: Collector, told: Told) {
    let mut next = tail.position();
    loop {
        let Gathered { decisions, lost, is_over } = gather(&mut tail, &mut next).await;
        told.lost.add(lost);
        if !decisions.is_empty() {
            deliver(&decisions, &mut collector, &told).await;
        }
        if is_over {
            return;
        }
    }
}

/// What came within a moment.
#[derive(Default)]
struct Gathered {
    decisions: Vec<StoredRecord>,
    /// Records of any kind that cannot be read any more.
    lost: u64,
    /// The ledger is closed.
    is_over: bool,
}

/// Takes what comes from index `next` on.
async fn gather(tail: &mut Tail, next: &mut u64) -> Gathered {
    let mut gathered = Gathered::default();
    let mut until = None;
    while gathered.decisions.len() < MOST {
        let item = match until {
            None => tail.next().await,
            Some(until) => match timeout_at(until, tail.next()).await {
                Ok(item) => item,
                Err(_late) => break,
            },
        };
        match item {
            Ok(Some(TailItem::Record(record))) => {
                *next = record.index + 1;
                if record.decision().is_some() {
                    gathered.decisions.push(*record);
                    until.get_or_insert_with(|| Instant::now() + GATHER);
                }
            }
            Ok(Some(TailItem::Resync { next: first })) => {
                gathered.lost += first.saturating_sub(*next);
                *next = first;
            }
            Ok(None) => {
                gathered.is_over = true;
                break;
            }
            Err(error) => {
                unreadable(&error).await;
                break;
            }
        }
    }
    gathered
}

/// The ledger cannot be read now: what it holds is sent once it can.
async fn unreadable(error: &LedgerError) {
    tracing::warn!(event = "export_waits", what = "decisions", %error, "it is tried again");
    tokio::time::sleep(LONGEST_PAUSE).await;
}

/// Sends these, however often it takes.
async fn deliver(decisions: &[StoredRecord], collector: &mut Collector, told: &Told) {
    let count = u64::try_from(decisions.len()).unwrap_or(u64::MAX);
    let mut pause = PAUSE;
    loop {
        let body = wire::request(collector.resource(), decisions);
        match collector.send(body).await {
            Ok(()) => return told.ok.add(count),
            Err(Refused::Ever) => return told.lost.add(count),
            Err(Refused::Now) => tokio::time::sleep(pause).await,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
