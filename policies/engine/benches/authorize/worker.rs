//! One worker as the proxy has it: an engine, and a ring that takes filled records. The timed operation of both benches.

use crate::calls::Ask;
use base_ports::{Mono, Now};
use policies_engine::{DecisionRecord, Effect, Engine, Facts, Snapshot, Versions};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Slots of the ring.
const SLOTS: usize = 256;

pub(crate) struct Worker {
    engine: Engine,
    versions: Arc<Versions>,
    ring: Vec<Option<DecisionRecord>>,
    at: usize,
    started: Instant,
}

impl Worker {
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Worker {
        Worker {
            engine: Engine::new(Arc::clone(snapshot)),
            // A copy of its own, as the proxy's workers have it: they do not count references of one value.
            versions: Arc::new(Versions::clone(snapshot.versions())),
            ring: (0..SLOTS).map(|_| None).collect(),
            at: 0,
            started: Instant::now(),
        }
    }

    /// What one call costs a worker: the view over the call, the verdict, one reading of the clock, a record with
    /// everything the proxy puts in, and dropping the record that was in the slot before.
    pub(crate) fn judge(&mut self, ask: &Ask) -> Effect {
        let decision = self.engine.decide(&ask.request(&*ask.call));
        let effect = decision.effect;
        let mono = self.started.elapsed();
        let now = Now { wall: crate::calls::NOON, mono: Mono::from_nanos(nanos(mono)) };
        let record = DecisionRecord {
            versions: Some(Arc::clone(&self.versions)),
            decide_ns: mono.subsec_nanos(),
            facts: Some(Arc::clone(&ask.call) as Arc<dyn Facts>),
            ..DecisionRecord::new(decision, ask.principal.clone(), ask.action, ask.resource.clone(), now)
        };
        self.ring[self.at] = Some(record);
        self.at = (self.at + 1) % SLOTS;
        effect
    }

    /// Judges all of them, so that their plans are there.
    pub(crate) fn warm(&mut self, asks: &[Ask]) {
        for ask in asks {
            self.judge(ask);
        }
    }

    /// The same engine without record and clock, to verify.
    pub(crate) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
