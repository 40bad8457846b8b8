//! Policies and routes that belong together, published as one value (S14, P12).
//!
//! `portcullis` publishes; every worker looks at the generation once per call and takes the new view on change, so no
//! call is judged by a mixture (PA-02).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use enforcer_traffic::Routes;
use policies_engine::{Freshness, Snapshot};

/// What judges and routes a call: one version of everything.
#[derive(Debug, Clone)]
pub struct View {
    /// Policies, schema and entities; `None` until the first valid snapshot.
    pub policy: Option<Arc<Snapshot>>,
    /// Whether these policies may still be decided by.
    pub freshness: Freshness,
    /// Services, methods and routes.
    pub routes: Arc<Routes>,
}

impl View {
    /// A view of both.
    #[must_use]
    pub fn new(policy: Option<Arc<Snapshot>>, routes: Arc<Routes>) -> Self {
        Self { policy, freshness: Freshness::Fresh, routes }
    }

    /// The same, known to be that current.
    #[must_use]
    pub fn as_of(self, freshness: Freshness) -> Self {
        Self { freshness, ..self }
    }
}

/// The place where the view in force is published.
#[derive(Debug)]
pub struct ViewHandle {
    generation: AtomicU64,
    current: ArcSwap<View>,
}

impl ViewHandle {
    /// Starts with that view, as generation 1.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { generation: AtomicU64::new(1), current: ArcSwap::from_pointee(view) }
    }

    /// Puts a finished view in force. Calls that began earlier end under the one they started with.
    pub fn publish(&self, view: View) {
        self.current.store(Arc::new(view));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Grows with every publication.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The view in force.
    #[must_use]
    pub fn current(&self) -> Arc<View> {
        self.current.load_full()
    }
}
