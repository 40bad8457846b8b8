//! What policies have in common is held once: conditions by their text, the parts of scopes, annotations. Most policies of
//! a site say the same about other callers and services, so this is most of what they would take; and conditions that
//! are known need not be read again. Lives as long as the schema, across snapshots; what no policy uses any longer goes.

use crate::{logic::Logic, rule::Notes, scope::Term, walk::Reads};
use cedar_policy::{ActionConstraint, EntityUid};
use hashbrown::{Equivalent, HashSet};
use parking_lot::Mutex;
use std::{
    hash::{Hash, Hasher, RandomState},
    sync::Arc,
};

/// What the conditions of a policy come to.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// What stands after the scope.
    text: Box<str>,
    pub(crate) reads: Reads,
    pub(crate) logic: Logic,
    /// Every entity they name, as often as they do.
    pub(crate) literals: Box<[EntityUid]>,
}

/// Everything that is held once.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Pools>);

#[derive(Debug, Default)]
struct Pools {
    conditions: Pool<Conditions>,
    terms: Pool<Term>,
    notes: Pool<Notes>,
    actions: Vec<Arc<ActionConstraint>>,
}

/// Lists of actions that are looked for; there are few.
const ACTIONS: usize = 64;

impl Shared {
    /// Conditions of that text, if some policy has them.
    pub(crate) fn find(&self, text: &str) -> Option<Arc<Conditions>> {
        self.0.lock().conditions.find(&ByText(text))
    }

    /// Conditions of a policy that stand in `text`; without one they are the policy's alone.
    pub(crate) fn conditions(
        &self,
        text: Option<&str>,
        (reads, logic, literals): (Reads, Logic, Vec<EntityUid>),
    ) -> Arc<Conditions> {
        let of = |text: &str| Conditions { text: text.into(), reads, logic, literals: literals.into() };
        match text {
            Some(text) => self.0.lock().conditions.keep(of(text)),
            None => Arc::new(of("")),
        }
    }

    pub(crate) fn term(&self, term: Term) -> Arc<Term> {
        self.0.lock().terms.keep(term)
    }

    pub(crate) fn notes(&self, notes: Notes) -> Arc<Notes> {
        self.0.lock().notes.keep(notes)
    }

    pub(crate) fn action(&self, action: ActionConstraint) -> Arc<ActionConstraint> {
        let actions = &mut self.0.lock().actions;
        if let Some(known) = actions.iter().find(|known| ***known == action) {
            return Arc::clone(known);
        }
        let own = Arc::new(action);
        if actions.len() < ACTIONS {
            actions.push(Arc::clone(&own));
        }
        own
    }
}

/// Values, each once.
#[derive(Debug)]
struct Pool<T> {
    all: HashSet<Arc<T>, RandomState>,
    /// At so many it is looked whether they are still in use.
    look_at: usize,
}

const LOOK_AT: usize = 1_024;

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { all: HashSet::default(), look_at: LOOK_AT }
    }
}

impl<T: Hash + Eq> Pool<T> {
    fn find(&self, of: &(impl Hash + Equivalent<Arc<T>>)) -> Option<Arc<T>> {
        self.all.get(of).cloned()
    }

    fn keep(&mut self, value: T) -> Arc<T> {
        if self.all.len() >= self.look_at {
            self.all.retain(|one| Arc::strong_count(one) > 1);
            self.all.shrink_to_fit();
            self.look_at = self.all.len().saturating_mul(2).max(LOOK_AT);
        }
        Arc::clone(self.all.get_or_insert(Arc::new(value)))
    }
}

struct ByText<'a>(&'a str);

impl Equivalent<Arc<Conditions>> for ByText<'_> {
    fn equivalent(&self, key: &Arc<Conditions>) -> bool {
        *self.0 == *key.text
    }
}

impl Hash for ByText<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Conditions {
    fn eq(&self, other: &Conditions) -> bool {
        self.text == other.text
    }
}

impl Eq for Conditions {}

impl Hash for Conditions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_uses_goes() {
        let mut pool = Pool::default();
        let (one, again) = (pool.keep(7_usize), pool.keep(7));
        assert!(Arc::ptr_eq(&one, &again));
        (0..10 * LOOK_AT).for_each(|at| drop(pool.keep(at)));
        assert!(pool.all.len() <= LOOK_AT, "{}", pool.all.len());
        assert!(Arc::ptr_eq(&one, &pool.keep(7)));
        let held: Vec<_> = (0..3 * LOOK_AT).map(|at| pool.keep(at)).collect();
        assert!(held.iter().all(|one| Arc::ptr_eq(one, &pool.keep(**one))), "what is used stays");
    }

    #[test]
    fn conditions_are_shared_by_their_text() {
        let shared = Shared::default();
        let keep =
            |text: Option<&str>| shared.conditions(text, (Reads::default(), Logic::Always, Vec::new()));
        let one = keep(Some("when { true };"));
        assert!(Arc::ptr_eq(&one, &keep(Some("when { true };"))));
        assert!(Arc::ptr_eq(&one, &shared.find("when { true };").unwrap()));
        assert!(shared.find("when { false };").is_none());
        assert!(!Arc::ptr_eq(&keep(None), &keep(None)) && shared.find("").is_none());
    }
}
