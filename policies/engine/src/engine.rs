//! Decides, for one worker. Owns the worker's plan cache; shares nothing but the snapshot.

use crate::{AccessRequest, Decision, Reason, Snapshot};
use std::sync::Arc;

/// One worker's way to decide.
#[derive(Debug)]
pub struct Engine {
    snapshot: Arc<Snapshot>,
}

impl Engine {
    /// An engine over that snapshot, with no plans yet.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> Engine {
        Engine { snapshot }
    }

    /// The verdict of the snapshot. Never panics on any input; never allocates when the plan is constant and known.
    pub fn decide(&mut self, _request: &AccessRequest<'_>) -> Decision {
        Decision::refusal(Reason::NoPolicy)
    }

    /// What judges.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}
