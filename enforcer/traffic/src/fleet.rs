//! The endpoints of a cluster as all workers know them together: calls in flight, latency, who is shut out, who is ill.
//!
//! A call that goes well costs its endpoint a few atomics and takes no lock; only who is shut out or let in again is
//! decided one at a time. A cluster of one endpoint has nobody to turn to, so it counts nothing but its calls in flight.

mod check;
mod endpoint;
mod outlier;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::{Mono, NetAddr};
use parking_lot::Mutex;

pub use check::{CheckSettings, Checkup, Probe};
pub use endpoint::{Busy, EndpointState, Entry, Health};
pub use outlier::{Cause, OutlierSettings};

use crate::admission::{Admission, AdmissionSettings};
use crate::balance::Dice;
use crate::{EndpointSpec, UpstreamProtocol};
use endpoint::Together;

/// What a cluster and each of its endpoints take at most (OD-04, EL-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls at one endpoint.
    pub endpoint_in_flight: u32,
    /// Calls at all of them.
    pub in_flight: u32,
    /// Open connections to all of them.
    pub connections: u32,
    /// Calls that wait for an endpoint, on each worker.
    pub queued: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { endpoint_in_flight: 1_024, in_flight: 4_096, connections: 1_024, queued: 128 }
    }
}

/// What a fleet is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetSettings {
    /// When an endpoint is shut out; none = never.
    pub outlier: Option<OutlierSettings>,
    /// What may be in flight.
    pub limits: Limits,
    /// Endpoints are asked for their health, and new ones wait for their first pass.
    pub is_checked: bool,
    /// How calls are held back while too many fail; none = they are not.
    pub admission: Option<AdmissionSettings>,
}

/// The state of a cluster's endpoints.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    endpoints: Vec<Arc<EndpointState>>,
    together: Arc<Together>,
    admission: Arc<Admission>,
    /// Grows whenever an endpoint is shut out, let in, ill or well.
    generation: AtomicU64,
    /// Held while it is decided who is shut out, so that the shares hold exactly.
    ejecting: Mutex<Dice>,
    reviewed_nanos: AtomicU64,
}

/// How a call ended for its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It failed the call: 5xx, no connection, reset, timeout.
    Failed,
    /// It lives, but asks to be left alone: 429, gRPC 8.
    Declined,
    /// The caller gave up, or the call never got there.
    Nothing,
}

/// An endpoint's state turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is sent there for that long, then one call.
    Shut {
        /// Its place in the cluster.
        place: usize,
        /// What was the matter.
        cause: Cause,
        /// How long.
        for_: Duration,
    },
    /// It takes calls again.
    Opened {
        /// Its place in the cluster.
        place: usize,
    },
}

impl Fleet {
    /// The state of these endpoints. Those that `before` has too keep theirs; new ones among them start slowly.
    #[must_use]
    pub fn new(
        mut settings: FleetSettings,
        specs: &[EndpointSpec],
        before: Option<&Self>,
        seed: u64,
        now: Mono,
    ) -> Self {
        if specs.len() == 1 {
            let limits = &mut settings.limits;
            limits.endpoint_in_flight = limits.endpoint_in_flight.min(limits.in_flight);
        }
        let known: HashMap<&(UpstreamProtocol, NetAddr), &Arc<EndpointState>> =
            before.iter().flat_map(|before| &before.endpoints).map(|known| (&known.key, known)).collect();
        let together = before.map_or_else(Arc::default, |before| Arc::clone(&before.together));
        let admission = before.map_or_else(Arc::default, |before| Arc::clone(&before.admission));
        let endpoint = |spec: &EndpointSpec| match known.get(&(spec.protocol, spec.addr.clone())) {
            Some(known) => {
                if !settings.is_checked {
                    known.set_health(Health::Well);
                }
                Arc::clone(known)
            }
            None => {
                let key = (spec.protocol, spec.addr.clone());
                let new = EndpointState::new(key, Arc::clone(&together), now);
                if before.is_some() {
                    new.warm_up(now);
                }
                if settings.is_checked {
                    new.set_health(Health::Untried);
                }
                Arc::new(new)
            }
        };
        let endpoints: Vec<_> = specs.iter().map(endpoint).collect();
        let generation = before.map_or(1, |before| before.generation() + 1);
        Self {
            settings,
            endpoints,
            together,
            admission,
            generation: AtomicU64::new(generation),
            ejecting: Mutex::new(Dice::new(seed)),
            reviewed_nanos: AtomicU64::new(now.as_nanos()),
        }
    }

    /// The endpoints, in the order of the cluster.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }

    /// What they take at most.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Another value after every turn.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Counts a call in at an endpoint, exactly within the limits. In a panic one that is shut takes calls all the same.
    /// Alone in its cluster an endpoint has the cluster's limit too, and no second counter.
    ///
    /// # Errors
    /// When it takes none now.
    pub fn enter(&self, place: usize, panics: bool, now: Mono) -> Result<Entry, Busy> {
        let endpoint = self.endpoints.get(place).ok_or(Busy::Shut)?;
        endpoint.enter(self.limits(), self.endpoints.len() > 1, panics, now)
    }

    /// Whether it matters how calls end.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.settings.admission.is_some() || (self.settings.outlier.is_some() && self.endpoints.len() > 1)
    }

    /// Whether one more call is sent, as calls went of late (AM-01); `roll` gives a share from 0 to 1.
    #[must_use]
    pub fn admits(&self, roll: impl FnOnce() -> f64, now: Mono) -> bool {
        self.settings.admission.is_none_or(|settings| self.admission.admits(settings, roll(), now))
    }

    /// Counts how a call ended, once.
    pub fn ended(&self, outcome: Outcome, now: Mono) {
        if self.settings.admission.is_some() {
            self.admission.count(outcome, now);
        }
    }

    /// Learns how a call ended that had `entry`. Answers the turn that this made.
    pub fn tell(&self, place: usize, entry: Entry, outcome: Outcome, now: Mono) -> Option<Turn> {
        let settings = self.settings.outlier.as_ref().filter(|_| self.endpoints.len() > 1)?;
        let endpoint = self.endpoints.get(place)?;
        if entry.is_trial() {
            return match outcome {
                Outcome::Answered => self.open(place, endpoint, now),
                Outcome::Failed => self.shut(place, Cause::Trial, settings, now),
                Outcome::Declined => self.shut(place, Cause::Trial, settings, now),
                Outcome::Nothing => None,
            };
        }
        let cause = match outcome {
            _ if !endpoint.is_open() => None,
            Outcome::Answered => {
                endpoint.went_well(now);
                None
            }
            Outcome::Failed => endpoint.went_wrong(settings, now),
            Outcome::Declined | Outcome::Nothing => None,
        };
        self.shut(place, cause?, settings, now)
    }

    /// What an active check found.
    pub fn examined(&self, place: usize, health: Health, now: Mono) {
        if let Some(endpoint) = self.endpoints.get(place)
            && endpoint.set_health(health) != health
        {
            if health == Health::Well {
                endpoint.warm_up(now);
            }
            self.turned();
        }
    }

    /// Compares the endpoints with each other, at most every ten seconds however often it is called (OD-02).
    pub fn review(&self, now: Mono) -> Vec<Turn> {
        let last = self.reviewed_nanos.load(Ordering::Relaxed);
        let is_due = now.saturating_since(Mono::from_nanos(last)) >= outlier::REVIEW;
        let Some(settings) = self.settings.outlier.as_ref().filter(|_| is_due && self.endpoints.len() > 1)
        else {
            return Vec::new();
        };
        let mine =
            self.reviewed_nanos.compare_exchange(last, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() {
            return Vec::new();
        }
        let counts: Vec<_> =
            self.endpoints.iter().map(|endpoint| endpoint.is_open().then(|| endpoint.counts(now))).collect();
        let found = outlier::stand_out(&counts, settings);
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.is_open() && !found.iter().any(|(worse, _)| *worse == place) {
                endpoint.behaved();
            }
        }
        found.into_iter().filter_map(|(place, cause)| self.shut(place, cause, settings, now)).collect()
    }

    /// Shuts an endpoint out, unless too many are already.
    fn shut(&self, place: usize, cause: Cause, settings: &OutlierSettings, now: Mono) -> Option<Turn> {
        let mut dice = self.ejecting.lock();
        let endpoint = self.endpoints.get(place)?;
        if cause != Cause::Trial {
            let out = self.endpoints.iter().filter(|endpoint| !endpoint.is_open());
            let (all, compared) = out.fold((0, 0), |(all, compared), endpoint| {
                (all + 1, compared + usize::from(endpoint.was_compared()))
            });
            let n = self.endpoints.len();
            let room = n * settings.most_percent as usize / 100;
            let room_compared = (n * settings.most_compared_percent as usize / 100).max(1);
            let is_full = all >= room || (cause.is_compared() && compared >= room_compared);
            if is_full || !endpoint.is_open() {
                return None;
            }
        }
        let for_ = endpoint.shut(cause, settings, dice.fraction(), now);
        self.turned();
        Some(Turn::Shut { place, cause, for_ })
    }

    fn open(&self, place: usize, endpoint: &EndpointState, now: Mono) -> Option<Turn> {
        endpoint.open();
        endpoint.warm_up(now);
        self.turned();
        Some(Turn::Opened { place })
    }

    fn turned(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}
