//! The routes of one rank of host and path: the most conditions first, and no two that can take the same call.

use std::sync::Arc;

use enforcer_codec::{Call, NotCanonical};

use super::matchers::Matchers;
use crate::Arrival;

/// Routes of one place in the structure.
#[derive(Debug, Default)]
pub(super) struct Bucket(Vec<End>);

/// A route at its place.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) route: u32,
    pub(super) matchers: Arc<Matchers>,
}

/// A route that a call matches, with its number of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) route: u32,
    pub(super) matchers: usize,
}

impl Bucket {
    /// Adds a route; answers one of equal rank that can take the same call, if there is one.
    pub(super) fn insert(&mut self, end: End) -> Result<(), u32> {
        self.admits(&end)?;
        let count = end.matchers.count();
        let at = self.0.partition_point(|other| other.matchers.count() >= count);
        self.0.insert(at, end);
        Ok(())
    }

    /// Whether a route of this rank would leave an order between all; else which one it would meet.
    pub(super) fn admits(&self, end: &End) -> Result<(), u32> {
        let equals = |other: &&End| {
            other.matchers.count() == end.matchers.count() && !other.matchers.excludes(&end.matchers)
        };
        self.0.iter().find(equals).map_or(Ok(()), |other| Err(other.route))
    }

    /// The route that takes the call.
    pub(super) fn find(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<Hit>, NotCanonical> {
        for end in &self.0 {
            if let Some(hit) = end.hit(call, arrival)? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }
}

impl End {
    /// The route, when its conditions hold.
    pub(super) fn hit(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<Hit>, NotCanonical> {
        let holds = self.matchers.hold(call, arrival)?;
        Ok(holds.then(|| Hit { route: self.route, matchers: self.matchers.count() }))
    }
}
