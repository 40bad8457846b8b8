//! How many calls a listener or a route takes, in all and of each verified identity (RL-01).
//!
//! A caller opens an account once per connection; a call then costs one exchange of an atomic per limit and takes no lock.
//! The total comes first, so a caller loses nothing of its own where there is no room for anybody.

mod keys;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use base_ports::Mono;
use ca_identity::{IdPattern, SpiffeId};
use parking_lot::Mutex;

use keys::Keys;
use rate::Bucket;
pub use rate::Rate;

/// What a listener or a route takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateSettings {
    /// Calls of everybody together; none = any number.
    pub total: Option<Rate>,
    /// Calls of each identity, where no override says otherwise. All callers without identity are one.
    pub per_identity: Option<Rate>,
    /// Other rates for each of these; the first that has the caller counts.
    pub overrides: Vec<(IdPattern, Rate)>,
}

/// The calls of a listener or a route, on all workers.
#[derive(Debug)]
pub struct RateLimit {
    settings: RateSettings,
    total: Bucket,
    anonymous: Arc<Bucket>,
    keys: Mutex<Keys>,
}

/// One caller at a limit.
#[derive(Debug)]
pub struct Account {
    limit: Arc<RateLimit>,
    own: Option<(Rate, Arc<Bucket>)>,
}

/// A call was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Of which limit.
    pub of: Limited,
    /// What that limit lets through.
    pub rate: Rate,
    /// When the next call may come.
    pub wait: Duration,
}

/// Whose calls were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Those of everybody together.
    Total,
    /// Those of the caller.
    Identity,
}

impl Limited {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Identity => "identity",
        }
    }
}

impl RateLimit {
    /// With nothing taken yet.
    #[must_use]
    pub fn new(settings: RateSettings) -> Self {
        Self { settings, total: Bucket::default(), anonymous: Arc::default(), keys: Mutex::default() }
    }

    /// What it lets through.
    #[must_use]
    pub fn settings(&self) -> &RateSettings {
        &self.settings
    }

    /// The account of a caller; `key` stands for its identity.
    #[must_use]
    pub fn account(self: &Arc<Self>, identity: Option<&SpiffeId>, key: u64, now: Mono) -> Account {
        let RateSettings { per_identity, overrides, .. } = &self.settings;
        let other =
            identity.and_then(|id| overrides.iter().find(|(some, _)| some.has(id))).map(|(_, rate)| *rate);
        let bucket = || match identity {
            Some(_) => self.keys.lock().bucket(key, now),
            None => Arc::clone(&self.anonymous),
        };
        Account { limit: Arc::clone(self), own: other.or(*per_identity).map(|rate| (rate, bucket())) }
    }

    /// Identities that are remembered.
    #[must_use]
    pub fn known(&self) -> usize {
        self.keys.lock().len()
    }
}

impl Account {
    /// Whether it is one at that limit.
    #[must_use]
    pub fn is_at(&self, limit: &Arc<RateLimit>) -> bool {
        Arc::ptr_eq(&self.limit, limit)
    }

    /// Takes a call.
    ///
    /// # Errors
    /// When it is one too many; nothing is taken then, unless another caller took the last of the total meanwhile.
    pub fn take(&self, now: Mono) -> Result<(), Exceeded> {
        let RateLimit { settings, total, .. } = &*self.limit;
        let everybody = settings.total;
        let too_many = |of, rate| move |wait| Exceeded { of, rate, wait };
        if let Some(rate) = everybody {
            total.look(rate, now).map_err(too_many(Limited::Total, rate))?;
        }
        if let Some((rate, own)) = &self.own {
            own.take(*rate, now).map_err(too_many(Limited::Identity, *rate))?;
        }
        match everybody {
            Some(rate) => total.take(rate, now).map_err(too_many(Limited::Total, rate)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
