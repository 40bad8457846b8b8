//! What a worker gives up under load (OV-01): the sampler says so ten times a second, and every call looks, at the cost of
//! one read of memory that seldom changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use base_ports::{Clock, Mono};
use enforcer_traffic::Step;
use std::time::Duration;
use tokio::sync::Notify;

use crate::shed::Shed;

/// How often pressure is measured.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// The load of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Load {
    step: AtomicU8,
    /// What presses most.
    strain: AtomicU8,
    /// Nanoseconds by which the last beat came late.
    late: AtomicU64,
    /// Nanoseconds: when it came.
    beat: AtomicU64,
    /// Memory itself is short, whatever presses most.
    is_short: AtomicBool,
    /// It is.
    pub(crate) short: Notify,
    /// Everybody of this worker should look what is given up now.
    pub(crate) told: Notify,
    /// Connections, and calls that run.
    served: AtomicU32,
}

/// A connection that counts as work of its worker, with or without calls.
#[derive(Debug)]
pub(crate) struct Served(Arc<Load>);

impl Served {
    pub(crate) fn begin(load: &Arc<Load>) -> Self {
        load.enter();
        Self(Arc::clone(load))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.leave(1);
    }
}

impl Load {
    /// How many connections it has, and calls that run on them.
    pub(crate) fn served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    /// A connection or a call more.
    pub(crate) fn enter(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// So many of them less.
    pub(crate) fn leave(&self, count: u32) {
        self.served.fetch_sub(count, Ordering::Relaxed);
    }

    /// What is given up.
    pub(crate) fn step(&self) -> Step {
        Step::ALL.get(usize::from(self.step.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Why, when at least that is given up.
    pub(crate) fn gives_up(&self, step: Step) -> Option<Shed> {
        (self.step() >= step).then(|| match self.strain.load(Ordering::Relaxed) {
            0 => Shed::Memory,
            1 => Shed::Cpu,
            _ => Shed::Fds,
        })
    }

    /// Calls that hold much memory are to end.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Whether they are.
    pub(crate) fn set_short(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::Relaxed);
        if is_short {
            self.short.notify_one();
        }
    }

    /// From now on that is given up, because of that; true when it is another step than before.
    pub(crate) fn set(&self, step: Step, strain: Shed) -> bool {
        let strain = match strain {
            Shed::Memory => 0,
            Shed::Cpu => 1,
            _ => 2,
        };
        self.strain.store(strain, Ordering::Relaxed);
        let is_new = self.step.swap(step as u8, Ordering::Relaxed) != step as u8;
        if is_new {
            self.told.notify_one();
        }
        is_new
    }

    /// Measures for how long tasks of the worker wait, for ever.
    pub(crate) async fn measure(&self, clock: &dyn Clock) {
        loop {
            let due = clock.mono() + BEAT;
            tokio::time::sleep(BEAT).await;
            let now = clock.mono();
            self.late.store(nanos(now.saturating_since(due)), Ordering::Relaxed);
            self.beat.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// For how long tasks wait; a worker that does not get to say so makes them wait at least since then.
    pub(crate) fn delay(&self, now: Mono) -> Duration {
        let beat = Mono::from_nanos(self.beat.load(Ordering::Relaxed));
        let late = Duration::from_nanos(self.late.load(Ordering::Relaxed));
        match beat.as_nanos() {
            0 => Duration::ZERO,
            _ => late.max(now.saturating_since(beat).saturating_sub(2 * BEAT)),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
