//! The records of this gateway, sent to the ledger of its authority as well (decisions.md 8).
//!
//! The own ledger is the spool: what is not acknowledged is read from it again, after a restart too (LS4). Records go as they
//! are, in their order, over a connection that shows the SVID of the gateway; an acknowledgement comes when they are on disk
//! there. Calls and the own ledger never wait for it. What retention takes before it was sent is counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Disk, Mono};
use base_telemetry::{Counter, Gauge, Metrics};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ca_identity::tls::Trust;
use parking_lot::Mutex;
use policies_decisions::{Ledger, Tail, TailItem};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::Ground;
use super::line::{Line, LineError};
use crate::config::{Config, Join};
use crate::messages::Message;

/// Where the first record stands that was not acknowledged.
const FILE: &str = "shipped";
/// Records of one request, and their bytes.
const MOST: usize = 256;
const BYTES: usize = 1 << 20;
/// The first of them waits so long for others.
const GATHER: Duration = Duration::from_millis(200);
/// The file is written this often; a restart sends no more than this again.
const WRITE: Duration = Duration::from_secs(5);
/// Between tries.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Where the authority said no: a person has to do something.
const REFUSED: Duration = Duration::from_secs(60);

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shipped {
    /// Where to.
    pub(crate) to: String,
    /// Index of the first record that was not acknowledged.
    pub(crate) next: u64,
    /// Why it does not go on; none while it does.
    pub(crate) problem: Option<String>,
}

/// What is told of it.
#[derive(Debug, Default)]
pub(crate) struct Shipping(Mutex<Shipped>);

impl Shipping {
    pub(crate) fn now(&self) -> Shipped {
        self.0.lock().clone()
    }
}

struct Sender {
    line: Line,
    trust: Arc<Trust>,
    ledger: Ledger,
    tail: Tail,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    written: Option<Mono>,
    told: Arc<Shipping>,
    waiting: Gauge,
    lost: Counter,
}

/// Sends what is on record until the tasks of `ground` end. `own` is the identity of the gateway.
///
/// # Errors
/// What was acknowledged cannot be read.
pub(in crate::assemble) fn start(
    config: &Config,
    join: &Join,
    own: &Arc<Trust>,
    ledger: &Ledger,
    (ground, metrics): (Ground<'_>, &Metrics),
) -> Result<Arc<Shipping>, Message> {
    let path = config.data_dir.join(FILE);
    let text = ground.disk.read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // Beyond the end stands what an older ledger in this place had.
    let end = ledger.stats().next_index;
    let next = text.and_then(|text| text.trim().parse().ok()).filter(|next| *next <= end).unwrap_or(0);
    let line = Line::new(join, &config.trust_domain, own);
    let line = line.map_err(|error| Message::error("PC9001", error))?;
    let told = Arc::new(Shipping(Mutex::new(Shipped { to: join.url(), next, problem: None })));
    let help = "Records of this gateway that the ledger of its authority has not acknowledged";
    let waiting = metrics.gauge("portcullis_decisions_unshipped", help, &[]).with(&[]);
    let help = "Records that were removed or damaged here before the ledger of the authority had them";
    let lost = metrics.counter("portcullis_decisions_unshippable", help, &[]).with(&[]);
    let sender = Sender {
        line,
        trust: Arc::clone(own),
        ledger: ledger.clone(),
        tail: ledger.tail(Some(next), None),
        path,
        disk: Arc::clone(ground.disk),
        clock: Arc::clone(ground.clock),
        written: None,
        told: Arc::clone(&told),
        waiting,
        lost,
    };
    ground.tasks.spawn("shipping", sender.run());
    Ok(told)
}

impl Sender {
    async fn run(mut self) {
        loop {
            let (leaves, next, is_over) = self.gather().await;
            if !leaves.is_empty() {
                self.deliver(&leaves).await;
            }
            self.acknowledged(next, is_over);
            if is_over {
                return;
            }
        }
    }

    /// What came within a moment, the index behind it, and whether the ledger is closed.
    async fn gather(&mut self) -> (Vec<Bytes>, u64, bool) {
        let (mut leaves, mut bytes, mut until) = (Vec::new(), 0, None);
        let mut next = self.told.now().next;
        while leaves.len() < MOST && bytes < BYTES {
            let item = match until {
                None => self.tail.next().await,
                Some(until) => match timeout_at(until, self.tail.next()).await {
                    Ok(item) => item,
                    Err(_late) => break,
                },
            };
            match item {
                Ok(Some(TailItem::Record(record))) => {
                    next = record.index.saturating_add(1);
                    bytes = bytes.saturating_add(record.leaf.len());
                    leaves.push(record.leaf);
                    until.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Ok(Some(TailItem::Resync { next: first })) => {
                    self.lost.add(first.saturating_sub(next));
                    tracing::error!(
                        event = "records_not_shipped",
                        from = next,
                        to = first,
                        "records are gone before they were sent"
                    );
                    next = first;
                }
                Ok(None) => return (leaves, next, true),
                Err(error) => {
                    self.tell(Some(format!("the own ledger cannot be read: {error}")));
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    break;
                }
            }
        }
        (leaves, next, false)
    }

    /// Sends these, however often it takes.
    async fn deliver(&self, leaves: &[Bytes]) {
        let leaves: Vec<_> = leaves.iter().map(|leaf| STANDARD.encode(leaf)).collect();
        let body = json!({ "leaves": leaves });
        let (mut pause, mut shown) = (PAUSE, None);
        loop {
            self.count();
            // A new SVID asks for a new connection; without one nobody would know whose records these are.
            let own = self.trust.snapshot().own.as_ref().map(|own| own.serial.clone());
            if own.is_none() {
                self.tell(Some("this gateway has no SVID yet".to_owned()));
                tokio::time::sleep(pause).await;
                continue;
            }
            if shown != own {
                self.line.reset().await;
                shown = own;
            }
            let wait = match self.line.post("/v1/decisions:append", &body).await {
                Ok(_) => return self.tell(None),
                Err(LineError::Unavailable(cause)) => {
                    self.tell(Some(format!("it does not answer: {cause}")));
                    pause
                }
                Err(LineError::Refused { detail, .. }) => {
                    self.tell(Some(format!("it refuses the records of this gateway: {detail}")));
                    REFUSED
                }
            };
            tokio::time::sleep(wait).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Everything before `next` is on disk there.
    fn acknowledged(&mut self, next: u64, is_over: bool) {
        self.told.0.lock().next = next;
        self.count();
        let now = self.clock.now().mono;
        let is_due = self.written.is_none_or(|written| now.saturating_since(written) >= WRITE);
        if !is_due && !is_over {
            return;
        }
        self.written = Some(now);
        if let Err(error) = self.disk.write_atomic(&self.path, next.to_string().as_bytes(), 0o600) {
            tracing::warn!(event = "shipped_unwritten", %error, "a restart will send again what was acknowledged");
        }
    }

    fn count(&self) {
        let waiting = self.ledger.stats().next_index.saturating_sub(self.told.now().next);
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Says what is wrong, once until something else is.
    fn tell(&self, problem: Option<String>) {
        let mut told = self.told.0.lock();
        if told.problem != problem {
            match &problem {
                Some(problem) => tracing::warn!(
                    event = "records_wait",
                    problem,
                    "records are kept here until the authority has them"
                ),
                None => tracing::info!(event = "records_go", "records go to the authority again"),
            }
            told.problem = problem;
        }
    }
}
