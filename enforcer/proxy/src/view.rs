//! Policies and routes that belong together, published as one value (S14, P12).
//!
//! `portcullis` publishes; every worker looks at the generation once per call and takes the new view on change, so no
//! call is judged by a mixture (PA-02).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_traffic::{RateSettings, Route, Routes};
use policies_engine::{Affected, Freshness, Mode, Patience, Snapshot, affected};
use tokio::sync::watch;

/// What judges and routes a call: one version of everything.
#[derive(Debug, Clone)]
pub struct View {
    /// Policies, schema and entities; `None` until the first valid snapshot.
    pub policy: Option<Arc<Snapshot>>,
    /// How long their publisher had been silent when this was published; a view comes for each limit that is passed.
    pub silence: Duration,
    /// How long it may be, where the route does not say.
    pub patience: Patience,
    /// Services, methods and routes.
    pub routes: Arc<Routes>,
    /// Whether denials are carried out, per listener in their order, where the route does not say.
    pub modes: Arc<[Mode]>,
    /// How many calls they take, per listener in their order; none = any number.
    pub rates: Arc<[Option<RateSettings>]>,
    /// What these policies may judge otherwise than those before; without it every running call is judged again.
    pub changes: Option<Arc<Affected>>,
}

impl View {
    /// A view of both; every listener enforces.
    #[must_use]
    pub fn new(policy: Option<Arc<Snapshot>>, routes: Arc<Routes>) -> Self {
        let (silence, patience) = (Duration::ZERO, Patience::default());
        Self {
            policy,
            silence,
            patience,
            routes,
            modes: Arc::default(),
            rates: Arc::default(),
            changes: None,
        }
    }

    /// The same, with the mode of each listener.
    #[must_use]
    pub fn in_modes(self, modes: Arc<[Mode]>) -> Self {
        Self { modes, ..self }
    }

    /// The same, with what each listener takes.
    #[must_use]
    pub fn at_rates(self, rates: Arc<[Option<RateSettings>]>) -> Self {
        Self { rates, ..self }
    }

    /// The mode of the listener of that number: enforced unless said otherwise.
    pub(crate) fn mode(&self, listener: usize) -> Mode {
        self.modes.get(listener).copied().unwrap_or(Mode::Enforce)
    }

    /// The same, after that silence of the publisher.
    #[must_use]
    pub fn after_silence(self, silence: Duration, patience: Patience) -> Self {
        Self { silence, patience, ..self }
    }

    /// Whether these policies may still be decided by, for calls of that route.
    pub(crate) fn freshness(&self, route: Option<&Route>) -> Freshness {
        if self.silence.is_zero() {
            return Freshness::Fresh;
        }
        let own = route.map(|route| self.patience.or_own(route.stale_after, route.deny_after));
        own.unwrap_or(self.patience).after(self.silence)
    }

    /// The same, compared with the view before it, so that only calls in reach of a change are judged again (CT-03).
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let changes = match (&before.policy, &self.policy) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => before.changes.clone(),
            (Some(old), Some(new)) => Some(Arc::new(affected(old, new))),
            _ => None,
        };
        Self { changes, ..self }
    }
}

/// The place where the view in force is published.
#[derive(Debug)]
pub struct ViewHandle {
    generation: AtomicU64,
    current: ArcSwap<View>,
    told: watch::Sender<()>,
}

impl ViewHandle {
    /// Starts with that view, as generation 1.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self {
            generation: AtomicU64::new(1),
            current: ArcSwap::from_pointee(view),
            told: watch::channel(()).0,
        }
    }

    /// Puts a finished view in force. Calls that began earlier keep the routes they started with; those that the new
    /// policies no longer permit are ended (CT-05).
    pub fn publish(&self, view: View) {
        self.current.store(Arc::new(view));
        self.generation.fetch_add(1, Ordering::Release);
        self.told.send_replace(());
    }

    /// The endpoints behind its names are others: every worker looks at them with its next call. No verdict hangs on that.
    pub(crate) fn stir(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Told after every publication from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// Grows with every publication, and whenever names lead elsewhere.
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
