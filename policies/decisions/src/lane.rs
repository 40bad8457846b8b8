//! Lanes: the way of a record from a worker to the writer thread (LS2).
//!
//! A lane is a bounded ring with one producer and one consumer; pushing takes no lock and makes no system call
//! unless the record must not wait. With no room it loses what may be lost, in this order: allowed `best_effort`
//! calls, then denied ones (LS1); `required` and `durable` ones are refused only when the ring is full.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base_ports::UnixTime;
use parking_lot::Mutex;
use policies_engine::{Audit, AuditUnavailable, DecisionId, DecisionRecord, Effect, Lane, Receipt, Record};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use tokio::sync::oneshot;

use crate::{
    bell::Bell,
    loss::{Loss, Outline},
    numbers::{Numbers, Reserved},
};

/// Records a ring holds.
pub(crate) const RING: usize = 16_384;

/// A worker wakes the writer at every so many records, so that a fast lane is drained before its ring fills.
const WAKE_EVERY: u64 = 256;

/// How the outcome of a `required` or `durable` record is told.
pub(crate) type Done = oneshot::Sender<Result<(), AuditUnavailable>>;

/// The future behind [`Receipt::Pending`].
pub type Pending = Pin<Box<dyn Future<Output = Result<(), AuditUnavailable>> + Send>>;

/// How long a call may wait for its record (chapter 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For the kernel to take a `required` record.
    pub required: Duration,
    /// For the disk to hold a `durable` record.
    pub durable: Duration,
}

impl Waits {
    /// The same for both.
    pub(crate) fn both(wait: Duration) -> Waits {
        Waits { required: wait, durable: wait }
    }
}

impl Default for Waits {
    fn default() -> Self {
        Self { required: Duration::from_millis(50), durable: Duration::from_millis(250) }
    }
}

/// One record on its way.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) seq: u64,
    pub(crate) id: DecisionId,
    pub(crate) entry: Entry,
    /// What was lost in this lane just before it.
    pub(crate) loss: Option<Box<Loss>>,
    pub(crate) done: Option<Done>,
}

/// A decision lies in the ring itself; the rare other kinds are boxed.
#[derive(Debug)]
pub(crate) enum Entry {
    Decision(DecisionRecord),
    Other(Box<Record>),
}

/// What producer and consumer of a lane share besides the ring.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) number: u16,
    pub(crate) tag: u64,
    pub(crate) reserved: Arc<Reserved>,
    /// How many numbers it reserves at a time while it is slow.
    pub(crate) reservation: u64,
    is_losing: AtomicBool,
    loss: Mutex<Option<Box<Loss>>>,
}

impl Shared {
    pub(crate) fn new(number: u16, tag: u64, reservation: u64) -> Arc<Self> {
        let (is_losing, loss) = (AtomicBool::new(false), Mutex::new(None));
        Arc::new(Self { number, tag, reserved: Arc::default(), reservation, is_losing, loss })
    }

    /// Takes what was lost and is not on record yet. A lane that loses nothing pays one load.
    pub(crate) fn take_loss(&self) -> Option<Box<Loss>> {
        if !self.is_losing.load(Ordering::Relaxed) {
            return None;
        }
        let loss = self.loss.lock().take();
        self.is_losing.store(false, Ordering::Relaxed);
        loss
    }

    /// Whether something was lost that is not on record yet.
    pub(crate) fn is_losing(&self) -> bool {
        self.is_losing.load(Ordering::Relaxed)
    }

    fn give_back(&self, loss: Option<Box<Loss>>) {
        if loss.is_some() {
            *self.loss.lock() = loss;
            self.is_losing.store(true, Ordering::Relaxed);
        }
    }

    #[cold]
    fn lose(&self, seq: Option<u64>, lost: Outline) {
        let mut loss = self.loss.lock();
        match &mut *loss {
            Some(loss) => loss.add(seq, lost),
            None => *loss = Some(Box::new(Loss::new(seq, lost))),
        }
        self.is_losing.store(true, Ordering::Relaxed);
    }
}

/// The consumer's end, owned by the writer thread.
#[derive(Debug)]
pub(crate) struct LaneReader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ring: Consumer<Slot>,
}

/// The producer's end, owned by one worker.
#[derive(Debug)]
pub(crate) struct LaneWriter {
    shared: Arc<Shared>,
    numbers: Numbers,
    ring: Producer<Slot>,
    /// Free slots at least; the ring is asked only when this runs low.
    free: usize,
    pushed: u64,
    bell: Arc<Bell>,
    waits: Waits,
}

/// Makes both ends of a lane.
pub(crate) fn lane(
    shared: &Arc<Shared>,
    capacity: usize,
    waits: Waits,
    writer: &Arc<Bell>,
    keeper: &Arc<Bell>,
) -> (LaneWriter, LaneReader) {
    let (producer, consumer) = RingBuffer::new(capacity.max(1));
    let numbers = Numbers::new(Arc::clone(&shared.reserved), Arc::clone(keeper));
    let writer = LaneWriter {
        shared: Arc::clone(shared),
        numbers,
        ring: producer,
        free: 0,
        pushed: 0,
        bell: Arc::clone(writer),
        waits,
    };
    (writer, LaneReader { shared: Arc::clone(shared), ring: consumer })
}

impl Lane for LaneWriter {
    fn record(&mut self, record: DecisionRecord) -> (DecisionId, Receipt) {
        let millis = millis(record.time.wall);
        let Some(seq) = self.numbers.take() else {
            self.shared.lose(None, (&record).into());
            return (
                DecisionId::new(millis, self.shared.tag, 0),
                refused(record.audit, "no number is reserved"),
            );
        };
        let id = DecisionId::new(millis, self.shared.tag, seq);
        if !self.has_room(self.spare(&record)) {
            self.shared.lose(Some(seq), (&record).into());
            return (id, refused(record.audit, "its queue is full"));
        }
        let audit = record.audit;
        let (done, receipt) = match audit {
            Audit::BestEffort => (None, Receipt::Taken),
            Audit::Required => pending(self.waits.required),
            Audit::Durable => pending(self.waits.durable),
        };
        if !self.push(Slot { seq, id, entry: Entry::Decision(record), loss: None, done }) {
            return (id, refused(audit, "its queue is full"));
        }
        self.wake(audit);
        (id, receipt)
    }
}

impl LaneWriter {
    /// Takes a record of any kind, durably; `None` when there is no room or no number.
    pub(crate) fn append(&mut self, record: Record, wait: Duration) -> Option<(DecisionId, Pending)> {
        if !self.has_room(0) {
            return None;
        }
        let seq = self.numbers.take()?;
        let id = DecisionId::new(millis(time_of(&record)), self.shared.tag, seq);
        let (done, receipt) = outcome(wait);
        let slot = Slot { seq, id, entry: Entry::Other(Box::new(record)), loss: None, done: Some(done) };
        let is_pushed = self.push(slot);
        self.bell.ring();
        is_pushed.then_some((id, receipt))
    }

    /// Whether the ring took it. What it does not take is lost, exactly.
    fn push(&mut self, mut slot: Slot) -> bool {
        slot.loss = self.shared.take_loss();
        match self.ring.push(slot) {
            Ok(()) => {
                self.free = self.free.saturating_sub(1);
                self.pushed += 1;
                true
            }
            Err(PushError::Full(slot)) => {
                self.shared.give_back(slot.loss);
                self.shared.lose(Some(slot.seq), Outline::of(&slot.entry));
                false
            }
        }
    }

    fn wake(&self, audit: Audit) {
        if audit != Audit::BestEffort || self.pushed.is_multiple_of(WAKE_EVERY) {
            self.bell.ring();
        } else {
            self.bell.ring_sleeper();
        }
    }

    /// Slots that must stay free for records that matter more than this one.
    fn spare(&self, record: &DecisionRecord) -> usize {
        let capacity = self.ring.buffer().capacity();
        match (record.audit, record.effect) {
            (Audit::BestEffort, Effect::Allow) => capacity / 16,
            (Audit::BestEffort, Effect::Deny) => capacity / 32,
            (Audit::Required | Audit::Durable, _) => 0,
        }
    }

    fn has_room(&mut self, spare: usize) -> bool {
        if self.free <= spare {
            self.free = self.ring.slots();
        }
        self.free > spare
    }
}

/// Unix milliseconds, as ids carry them; times before 1970 are zero.
pub(crate) fn millis(time: UnixTime) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or_default()
}

/// When a record was made.
pub(crate) fn time_of(record: &Record) -> UnixTime {
    match record {
        Record::Decision(record) => record.time.wall,
        Record::Activation(record) => record.time.wall,
        Record::Authority(record) => record.time.wall,
        Record::Read(record) => record.time.wall,
        Record::Administration(record) => record.time.wall,
    }
}

fn pending(wait: Duration) -> (Option<Done>, Receipt) {
    let (done, outcome) = outcome(wait);
    (Some(done), Receipt::Pending(outcome))
}

/// Both ends of an outcome that is waited for no longer than `wait`.
fn outcome(wait: Duration) -> (Done, Pending) {
    let (done, outcome) = oneshot::channel();
    let pending = Box::pin(async move {
        match tokio::time::timeout(wait, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_closed)) => Err(AuditUnavailable("the ledger is closed".to_owned())),
            Err(_elapsed) => {
                Err(AuditUnavailable(format!("it was not written within {} ms", wait.as_millis())))
            }
        }
    });
    (done, pending)
}

fn refused(audit: Audit, why: &str) -> Receipt {
    match audit {
        Audit::BestEffort => Receipt::Lost,
        Audit::Required | Audit::Durable => {
            Receipt::Pending(Box::pin(ready(Err(AuditUnavailable(why.to_owned())))))
        }
    }
}
