//! One endpoint as all workers know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base_ports::{Mono, NetAddr};
use parking_lot::Mutex;

use super::Limits;
use super::outlier::{self, Cause, OutlierSettings};
use crate::UpstreamProtocol;
use crate::balance::Latency;
use crate::window::{Counts, Window};

/// What all endpoints of a cluster have in use together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Together {
    in_flight: AtomicU32,
    connections: AtomicU32,
}

/// The state of one endpoint. Alone in its cache lines, so that workers disturb each other only at the same endpoint.
#[derive(Debug)]
#[repr(align(128))]
pub struct EndpointState {
    in_flight: AtomicU32,
    failures_in_a_row: AtomicU32,
    latency: Latency,
    /// [`OPEN`], [`TRIAL`], or the time from which one call may try.
    gate: AtomicU64,
    health: AtomicU8,
    /// When it came into use, 0 when it is not to start slowly.
    warm_since: AtomicU64,
    window: Window,
    together: Arc<Together>,
    ejected: Mutex<Ejected>,
    pub(super) key: (UpstreamProtocol, NetAddr),
}

const OPEN: u64 = 0;
const TRIAL: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Ejected {
    /// Times in a row, for the back-off.
    in_a_row: u32,
    /// Times by comparison, less one for each review that found nothing.
    compared: u32,
    cause: Option<Cause>,
}

/// What active checks know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It passes, or nobody asks.
    Well,
    /// Not asked yet: only a reserve.
    Untried,
    /// It fails.
    Ill,
}

/// The right to one call at an endpoint, from [`Fleet::enter`](super::Fleet::enter). Give it back with
/// [`EndpointState::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Of the one call that decides whether a shut endpoint opens: the time it had been shut until. 0 for others.
    trial_nanos: u64,
    /// It counts towards the cluster too.
    is_shared: bool,
}

/// Why an endpoint takes no call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// It has all the calls it may have.
    Endpoint,
    /// Its cluster has.
    Cluster,
    /// It is shut out, or another call just became the one that tries.
    Shut,
}

impl EndpointState {
    pub(super) fn new(key: (UpstreamProtocol, NetAddr), together: Arc<Together>, now: Mono) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            failures_in_a_row: AtomicU32::new(0),
            latency: Latency::new(now),
            gate: AtomicU64::new(OPEN),
            health: AtomicU8::new(0),
            warm_since: AtomicU64::new(0),
            window: Window::default(),
            together,
            ejected: Mutex::default(),
            key,
        }
    }

    /// Calls in flight, of all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What its answers take.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Whether a balancer may send a call there; one that is shut may get one to try once its time has come.
    #[must_use]
    pub fn is_usable(&self, now: Mono) -> bool {
        let gate = self.gate.load(Ordering::Relaxed);
        (gate == OPEN || (gate != TRIAL && gate <= now.as_nanos())) && self.health() == Health::Well
    }

    /// It counts as healthy: neither shut out nor ill.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_open() && self.health() == Health::Well
    }

    /// It is not shut out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gate.load(Ordering::Relaxed) == OPEN
    }

    /// What active checks know.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Well,
            1 => Health::Untried,
            _ => Health::Ill,
        }
    }

    /// Counts a call in, exactly within the limits; towards the cluster too when it `is_shared` with others.
    pub(super) fn enter(
        &self,
        limits: &Limits,
        is_shared: bool,
        panics: bool,
        now: Mono,
    ) -> Result<Entry, Busy> {
        let room = |most: u32| move |count: u32| (count < most).then(|| count + 1);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room(limits.endpoint_in_flight))
            .map_err(|_full| Busy::Endpoint)?;
        if is_shared {
            let all = &self.together.in_flight;
            if all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room(limits.in_flight)).is_err() {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                return Err(Busy::Cluster);
            }
        }
        let plain = Entry { trial_nanos: 0, is_shared };
        let gate = self.gate.load(Ordering::Relaxed);
        if gate == OPEN {
            return Ok(plain);
        }
        let is_due = gate != TRIAL && gate <= now.as_nanos();
        if is_due && self.gate.compare_exchange(gate, TRIAL, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Ok(Entry { trial_nanos: gate, ..plain });
        }
        if panics {
            return Ok(plain);
        }
        self.leave(plain);
        Err(Busy::Shut)
    }

    /// Counts a call out. A trial of which nothing was told leaves the next call to try.
    pub fn leave(&self, entry: Entry) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if entry.is_shared {
            self.together.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if entry.is_trial() {
            self.gate.compare_exchange(TRIAL, entry.trial_nanos, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }

    /// Counts a connection in, exactly within the limit of the cluster; false when there is no room. Give it back with
    /// [`Self::disconnect`].
    #[must_use]
    pub fn connect(&self, limits: &Limits) -> bool {
        let room = |count: u32| (count < limits.connections).then(|| count + 1);
        self.together.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// Counts a connection out.
    pub fn disconnect(&self) {
        self.together.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when it is in use; none when it need not start slowly.
    #[must_use]
    pub fn warm_since(&self) -> Option<Mono> {
        Some(self.warm_since.load(Ordering::Relaxed)).filter(|since| *since > 0).map(Mono::from_nanos)
    }

    pub(super) fn warm_up(&self, now: Mono) {
        self.warm_since.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    pub(super) fn set_health(&self, health: Health) -> Health {
        let before = self.health();
        let code = match health {
            Health::Well => 0,
            Health::Untried => 1,
            Health::Ill => 2,
        };
        self.health.store(code, Ordering::Relaxed);
        before
    }

    pub(super) fn went_well(&self, now: Mono) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
        self.window.add(true, now);
    }

    /// Counts a failure; answers why the endpoint should be shut out, if it should.
    pub(super) fn went_wrong(&self, settings: &OutlierSettings, now: Mono) -> Option<Cause> {
        self.window.add(false, now);
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if in_a_row >= settings.failures_in_a_row {
            return Some(Cause::InARow);
        }
        let counts = self.window.counts(now);
        let is_low = counts.good * 100 < counts.all() * u64::from(settings.least_success_percent);
        (counts.all() >= settings.least_calls && is_low).then_some(Cause::Ratio)
    }

    pub(super) fn counts(&self, now: Mono) -> Counts {
        self.window.counts(now)
    }

    /// It was shut out by comparison with the others.
    pub(super) fn was_compared(&self) -> bool {
        self.ejected.lock().cause.is_some_and(Cause::is_compared)
    }

    pub(super) fn behaved(&self) {
        let mut ejected = self.ejected.lock();
        ejected.compared = ejected.compared.saturating_sub(1);
    }

    pub(super) fn shut(&self, cause: Cause, settings: &OutlierSettings, roll: f64, now: Mono) -> Duration {
        let mut ejected = self.ejected.lock();
        if cause != Cause::Trial {
            ejected.cause = Some(cause);
            ejected.compared = ejected.compared.saturating_add(u32::from(cause.is_compared()));
        }
        ejected.in_a_row = ejected.in_a_row.saturating_add(1);
        let for_ = match ejected.cause {
            Some(cause) if cause.is_compared() => outlier::sentence(ejected.compared),
            _ => outlier::back_off(ejected.in_a_row, settings, roll),
        };
        self.gate.store((now + for_).as_nanos().clamp(1, TRIAL - 1), Ordering::Relaxed);
        for_
    }

    pub(super) fn open(&self) {
        let mut ejected = self.ejected.lock();
        (ejected.in_a_row, ejected.cause) = (0, None);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.window.clear();
        self.gate.store(OPEN, Ordering::Relaxed);
    }
}

impl Entry {
    /// This call decides whether its endpoint opens.
    #[must_use]
    pub fn is_trial(self) -> bool {
        self.trial_nanos != 0
    }

    /// The same call, after what it had to decide is decided.
    #[must_use]
    pub fn decided(self) -> Self {
        Self { trial_nanos: 0, ..self }
    }
}
