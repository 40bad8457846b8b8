//! Readiness as a list of named conditions (RA11); the first unmet one is the blocker that `wait` and `check` name.

use parking_lot::Mutex;
use std::sync::Arc;

/// The conditions of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Vec<State>>>);

#[derive(Debug)]
struct State {
    name: &'static str,
    ok: bool,
    detail: String,
    /// It is this process's to meet.
    is_own: bool,
}

/// One condition; not met until it is set. Clones set the same condition.
#[derive(Debug, Clone)]
pub struct Condition {
    health: Health,
    name: &'static str,
}

impl Health {
    /// No conditions yet, which is not ready: somebody has to say so.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The condition of that name, added in order of first use.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        self.add(name, true)
    }

    /// The same for what another process has to do, such as the application of a sidecar: without it this process is not
    /// ready, but there is nothing that it or a successor could do about that.
    #[must_use]
    pub fn condition_of_others(&self, name: &'static str) -> Condition {
        self.add(name, false)
    }

    fn add(&self, name: &'static str, is_own: bool) -> Condition {
        let mut states = self.0.lock();
        if !states.iter().any(|state| state.name == name) {
            states.push(State { name, ok: false, detail: "not yet".to_owned(), is_own });
        }
        Condition { health: self.clone(), name }
    }

    /// Whether there are conditions and every one is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let states = self.0.lock();
        !states.is_empty() && states.iter().all(|state| state.ok)
    }

    /// The first condition that is not met, with its detail.
    #[must_use]
    pub fn blocker(&self) -> Option<(&'static str, String)> {
        let states = self.0.lock();
        states.iter().find(|state| !state.ok).map(|state| (state.name, state.detail.clone()))
    }

    /// The first condition of this process itself that is not met; there is one while nobody has said that it is ready.
    #[must_use]
    pub fn own_blocker(&self) -> Option<(&'static str, String)> {
        let states = self.0.lock();
        if states.is_empty() {
            return Some(("readiness", String::new()));
        }
        let unmet = states.iter().find(|state| state.is_own && !state.ok);
        unmet.map(|state| (state.name, state.detail.clone()))
    }

    /// Name, whether met, detail: one line each.
    #[must_use]
    pub fn report(&self) -> Vec<(&'static str, bool, String)> {
        self.0.lock().iter().map(|state| (state.name, state.ok, state.detail.clone())).collect()
    }
}

impl Condition {
    /// Says whether it is met, and what a person should know about it. A turn of it is logged.
    pub fn set(&self, ok: bool, detail: impl Into<String>) {
        let detail = detail.into();
        let mut states = self.health.0.lock();
        let Some(state) = states.iter_mut().find(|state| state.name == self.name) else { return };
        let has_turned = state.ok != ok;
        state.ok = ok;
        state.detail.clone_from(&detail);
        drop(states);
        if has_turned {
            tracing::info!(
                event = "condition",
                name = self.name,
                ok,
                detail,
                "a condition of readiness turned"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ra11_ready_is_when_every_condition_is_met() {
        let health = Health::new();
        assert!(!health.is_ready(), "nothing was checked yet");
        let (identity, policy) = (health.condition("identity"), health.condition("policy"));
        identity.set(true, "held");
        assert!(!health.is_ready());
        assert_eq!(health.blocker(), Some(("policy", "not yet".to_owned())));
        policy.set(true, "v1");
        assert!(health.is_ready());
        assert_eq!(health.blocker(), None);
        assert_eq!(
            health.report(),
            [("identity", true, "held".to_owned()), ("policy", true, "v1".to_owned())]
        );
    }

    #[test]
    fn ra11_a_condition_that_fails_later_makes_the_process_unready() {
        let health = Health::new();
        let identity = health.condition("identity");
        identity.set(true, "held");
        health.clone().condition("identity").set(false, "expired");
        assert!(!health.is_ready());
        assert_eq!(health.blocker(), Some(("identity", "expired".to_owned())));
        assert_eq!(health.report().len(), 1, "the same name is the same condition");
    }

    #[test]
    fn ra11_what_others_have_to_do_is_no_blocker_of_this_process() {
        let health = Health::new();
        assert_eq!(health.own_blocker(), Some(("readiness", String::new())), "nothing was checked yet");
        let (identity, application) =
            (health.condition("identity"), health.condition_of_others("application"));
        assert_eq!(health.own_blocker().map(|(name, _)| name), Some("identity"));
        identity.set(true, "held");
        assert_eq!(health.own_blocker(), None);
        assert_eq!(health.blocker().map(|(name, _)| name), Some("application"));
        assert!(!health.is_ready());
        application.set(true, "listens");
        assert!(health.is_ready());
    }
}
