//! What others leave for the writer thread: lanes to drain, records of the ledger itself, the stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use policies_engine::Record;

use super::Beat;
use crate::{
    bell::Bell,
    lane::{Done, LaneReader},
    leaf::Body,
    roll::Roll,
};

/// What others leave for the writer, and what it tells about itself.
#[derive(Debug)]
pub(crate) struct WriterDesk {
    pub(crate) bell: Arc<Bell>,
    tray: Mutex<Tray>,
    has_mail: AtomicBool,
    pub(crate) counts: Counts,
    /// Boots that were heard of.
    pub(crate) roll: Roll,
}

#[derive(Debug, Default)]
struct Tray {
    lanes: Vec<LaneReader>,
    own: Vec<Own>,
    adopted: Vec<Adopted>,
    stop: bool,
    /// Nobody collects any more.
    is_over: bool,
}

/// A record of the ledger's own lane that waits to be written.
#[derive(Debug, Clone)]
pub(crate) enum Own {
    Body(Body),
    /// A heartbeat, told and signed as it is written.
    Heartbeat(Beat),
    Record(Box<Record>),
}

/// A record of another ledger, as it stands there.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// When it was made, Unix nanoseconds.
    pub(crate) time: i64,
    pub(crate) leaf: Vec<u8>,
    /// Who waits until it is on disk, and all before it.
    pub(crate) done: Option<Done>,
}

/// Counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) records: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) write_failures: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// The last write failed.
    pub(crate) is_failing: AtomicBool,
    /// Turns of the loop; an idle writer takes one a second.
    pub(crate) turns: AtomicU64,
}

impl WriterDesk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bell: Arc::default(),
            tray: Mutex::default(),
            has_mail: AtomicBool::new(false),
            counts: Counts::default(),
            roll: Roll::default(),
        })
    }

    /// A lane to be drained from now on.
    pub(crate) fn register(&self, lane: LaneReader) {
        self.leave(|tray| tray.lanes.push(lane));
    }

    /// A record of the ledger itself.
    pub(crate) fn own(&self, record: Record) {
        self.leave(|tray| tray.own.push(Own::Record(Box::new(record))));
    }

    /// Records that the ledger makes itself.
    pub(crate) fn say(&self, bodies: Vec<Body>) {
        self.leave(|tray| tray.own.extend(bodies.into_iter().map(Own::Body)));
    }

    /// Records of another ledger. Who waits for them is told when nobody writes any more.
    pub(crate) fn adopt(&self, adopted: Vec<Adopted>) {
        self.leave(|tray| {
            if !tray.is_over {
                tray.adopted.extend(adopted);
            }
        });
    }

    /// The last was written.
    pub(super) fn end(&self) {
        let mut tray = self.tray.lock();
        tray.is_over = true;
        tray.adopted.clear();
    }

    /// Drain everything, close the streams and end.
    pub(crate) fn stop(&self) {
        self.leave(|tray| tray.stop = true);
    }

    /// Takes what was left; `true` once it is time to stop.
    pub(super) fn collect(
        &self,
        lanes: &mut Vec<LaneReader>,
        own: &mut Vec<Own>,
        adopted: &mut Vec<Adopted>,
    ) -> bool {
        if !self.has_mail.swap(false, Ordering::Acquire) {
            return false;
        }
        let mut tray = self.tray.lock();
        lanes.append(&mut tray.lanes);
        own.append(&mut tray.own);
        adopted.append(&mut tray.adopted);
        if tray.stop {
            // Seen again in the next turn, until all is drained.
            self.has_mail.store(true, Ordering::Relaxed);
        }
        tray.stop
    }

    fn leave(&self, change: impl FnOnce(&mut Tray)) {
        change(&mut self.tray.lock());
        self.has_mail.store(true, Ordering::Release);
        self.bell.ring();
    }
}
