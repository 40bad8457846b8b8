//! Readiness as a list of named conditions; the first unmet one is the blocker that `wait` and `check` name.

use std::sync::Arc;

use parking_lot::Mutex;

/// The conditions of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Vec<State>>>);

#[derive(Debug)]
struct State {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// One condition; not met until it is set.
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
        let mut states = self.0.lock();
        if !states.iter().any(|state| state.name == name) {
            states.push(State { name, ok: false, detail: "not yet".to_owned() });
        }
        Condition { health: self.clone(), name }
    }

    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let states = self.0.lock();
        !states.is_empty() && states.iter().all(|state| state.ok)
    }

    /// Name, whether met, detail: one line each.
    #[must_use]
    pub fn report(&self) -> Vec<(&'static str, bool, String)> {
        self.0.lock().iter().map(|state| (state.name, state.ok, state.detail.clone())).collect()
    }
}

impl Condition {
    /// Says whether it is met, and what a person should know about it.
    pub fn set(&self, ok: bool, detail: impl Into<String>) {
        let mut states = self.health.0.lock();
        if let Some(state) = states.iter_mut().find(|state| state.name == self.name) {
            state.ok = ok;
            state.detail = detail.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_condition_is_met() {
        let health = Health::new();
        assert!(!health.is_ready(), "nothing was checked yet");
        let (identity, policy) = (health.condition("identity"), health.condition("policy"));
        identity.set(true, "held");
        assert!(!health.is_ready());
        assert_eq!(health.report()[1], ("policy", false, "not yet".to_owned()));
        policy.set(true, "v1");
        assert!(health.is_ready());
        health.condition("identity").set(false, "expired");
        assert!(!health.is_ready());
    }
}
