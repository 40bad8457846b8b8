//! A person that a question names, as far as records are committed: recognised by the keys of the side store.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use policies_engine::DecisionId;

use crate::{
    commit::{Commitment, PRINCIPAL, PersonKey},
    leaf::View,
    side::{Day, Side, day_of},
};

/// Somebody, and his keys as far as they were needed.
#[derive(Clone)]
pub(super) struct Person(Arc<Known>);

struct Known {
    id: String,
    side: Arc<Side>,
    /// From files, by day.
    keys: Mutex<HashMap<Day, Arc<[PersonKey]>>>,
}

impl Person {
    pub(super) fn new(id: &str, side: &Arc<Side>) -> Self {
        let (id, side) = (id.to_owned(), Arc::clone(side));
        Self(Arc::new(Known { id, side, keys: Mutex::default() }))
    }

    /// Whether that is what the record is committed to. The first record of a day reads files.
    pub(super) fn is(&self, view: &View<'_>, committed: Commitment) -> bool {
        let Ok(id) = <[u8; 16]>::try_from(view.id) else { return false };
        let Known { id: name, side, keys } = &*self.0;
        let record = DecisionId::from_bytes(id);
        let day = day_of(record);
        let is_it = |key: &PersonKey| key.commit(PRINCIPAL, name, record) == committed;
        if side.key_at_hand(name, day).is_some_and(|key| is_it(&key)) {
            return true;
        }
        let known = keys.lock().get(&day).cloned();
        let known = known.unwrap_or_else(|| {
            let read: Arc<[PersonKey]> = side.keys_of(name, day).into();
            keys.lock().insert(day, Arc::clone(&read));
            read
        });
        known.iter().any(is_it)
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Person {}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person(..)")
    }
}
