//! What is noted of a call while it runs, when trails are written: where it was sent, and when what happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::{Mono, NetAddr};
use ca_identity::SpiffeId;
use parking_lot::Mutex;

/// No such moment, no such status.
const NONE: u64 = u64::MAX;

/// The notes of one call. All of it is written by the task of the call.
#[derive(Debug)]
pub(crate) struct Notes {
    sent_to: Mutex<Option<SentTo>>,
    tries: AtomicU64,
    queued_nanos: AtomicU64,
    connecting_nanos: AtomicU64,
    /// When a connection was asked for last.
    asked_nanos: AtomicU64,
    answered_nanos: AtomicU64,
    grpc_status: AtomicU64,
    tunnelled: (AtomicU64, AtomicU64),
}

/// The last endpoint of a call.
#[derive(Debug, Clone)]
pub(super) struct SentTo {
    pub(super) cluster: Arc<str>,
    pub(super) endpoint: NetAddr,
    /// Who that is, as it has proved.
    pub(super) identity: Option<SpiffeId>,
}

impl Notes {
    pub(crate) fn new() -> Self {
        let (none, zero) = (|| AtomicU64::new(NONE), AtomicU64::default);
        Self {
            sent_to: Mutex::new(None),
            tries: zero(),
            queued_nanos: zero(),
            connecting_nanos: zero(),
            asked_nanos: zero(),
            answered_nanos: none(),
            grpc_status: none(),
            tunnelled: (zero(), zero()),
        }
    }

    /// A try begins, at that endpoint of that cluster.
    pub(crate) fn tried(&self, cluster: &Arc<str>, endpoint: &NetAddr) {
        let (cluster, endpoint) = (Arc::clone(cluster), endpoint.clone());
        *self.sent_to.lock() = Some(SentTo { cluster, endpoint, identity: None });
        self.tries.fetch_add(1, Ordering::Relaxed);
    }

    /// It waited so long for an endpoint that has a place.
    pub(crate) fn queued(&self, time: Duration) {
        add(&self.queued_nanos, time);
    }

    /// A connection to the endpoint is asked for.
    pub(crate) fn connecting(&self, now: Mono) {
        self.asked_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// It is there, and it is that one's.
    pub(crate) fn connected(&self, now: Mono, identity: Option<&SpiffeId>) {
        let asked = Mono::from_nanos(self.asked_nanos.load(Ordering::Relaxed));
        add(&self.connecting_nanos, now.saturating_since(asked));
        if let Some(sent_to) = &mut *self.sent_to.lock() {
            sent_to.identity = identity.cloned();
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self, now: Mono) {
        self.answered_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// The answer says that it went so.
    pub(crate) fn grpc(&self, status: u8) {
        self.grpc_status.store(status.into(), Ordering::Relaxed);
    }

    /// A tunnel moved so many bytes in all, from the caller and to it.
    pub(crate) fn moved(&self, from: u64, to: u64) {
        self.tunnelled.0.store(from, Ordering::Relaxed);
        self.tunnelled.1.store(to, Ordering::Relaxed);
    }

    pub(super) fn sent_to(&self) -> Option<SentTo> {
        self.sent_to.lock().clone()
    }

    pub(super) fn queue(&self) -> Duration {
        Duration::from_nanos(self.queued_nanos.load(Ordering::Relaxed))
    }

    pub(super) fn connect(&self) -> Duration {
        Duration::from_nanos(self.connecting_nanos.load(Ordering::Relaxed))
    }

    pub(super) fn tries(&self) -> u64 {
        self.tries.load(Ordering::Relaxed)
    }

    pub(super) fn first_byte(&self) -> Option<Mono> {
        noted(&self.answered_nanos).map(Mono::from_nanos)
    }

    pub(super) fn grpc_status(&self) -> Option<u8> {
        noted(&self.grpc_status).and_then(|status| u8::try_from(status).ok())
    }

    pub(super) fn tunnelled(&self) -> (u64, u64) {
        (self.tunnelled.0.load(Ordering::Relaxed), self.tunnelled.1.load(Ordering::Relaxed))
    }
}

/// A call may wait and connect more than once.
fn add(cell: &AtomicU64, time: Duration) {
    cell.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(0), Ordering::Relaxed);
}

fn noted(cell: &AtomicU64) -> Option<u64> {
    Some(cell.load(Ordering::Relaxed)).filter(|value| *value != NONE)
}
