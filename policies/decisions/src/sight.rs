//! Which rows a reader sees (RR1, RR2). The gate that `portcullis` wires answers by namespace; here rows are held
//! against it.
//!
//! A row is seen through the namespace of the called service, one without through the trust domain. Who may read only
//! the namespace of the caller gets the outbound view: that his workload asked, and what came of it, and nothing that
//! the other side keeps to itself. What is not seen is answered as what is not there.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::leaf::{StoredRecord, View};

/// Who may read what, by the policies in force when the question came.
pub trait Visibility: Send + Sync {
    /// Whether rows of that namespace may be read; `None` are the rows that have none.
    fn may_read(&self, namespace: Option<&str>) -> bool;

    /// Whether these are still the policies in force. A question is answered by one set of policies; a tail, which
    /// does not end, must not outlive them.
    fn is_current(&self) -> bool {
        true
    }
}

/// The eyes of one reader for the length of one question. Each namespace is asked for once.
#[derive(Clone)]
pub struct Sight {
    eyes: Arc<Eyes>,
    /// Rows of which only the side of the caller may be seen are hidden as well.
    is_whole_only: bool,
}

struct Eyes {
    visibility: Box<dyn Visibility>,
    known: Mutex<HashMap<Option<Box<str>>, bool>>,
}

/// How a row is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// With everything.
    Whole,
    /// From the side of the caller.
    Outbound,
    /// Not at all.
    Hidden,
}

impl Sight {
    /// The eyes that the gate lends.
    #[must_use]
    pub fn new(visibility: impl Visibility + 'static) -> Sight {
        let eyes = Eyes { visibility: Box::new(visibility), known: Mutex::default() };
        Sight { eyes: Arc::new(eyes), is_whole_only: false }
    }

    /// The same eyes for what judges rows again: it needs all of a row.
    #[must_use]
    pub fn whole_only(self) -> Sight {
        Sight { is_whole_only: true, ..self }
    }

    /// How that record is seen.
    #[must_use]
    pub fn of(&self, record: &StoredRecord) -> Seen {
        let decision = record.decision();
        let callee = decision.and_then(|decision| decision.namespace.as_deref());
        let caller = decision.and_then(|decision| decision.caller_namespace.as_deref());
        self.between(callee, caller)
    }

    /// Whether a row was met that is not seen whole.
    #[must_use]
    pub fn has_hidden(&self) -> bool {
        self.eyes.known.lock().values().any(|may_read| !may_read)
    }

    pub(crate) fn is_current(&self) -> bool {
        self.eyes.visibility.is_current()
    }

    pub(crate) fn of_view(&self, view: &View<'_>) -> Seen {
        self.between(view.callee(), view.caller())
    }

    /// How rows between two namespaces are seen.
    pub(crate) fn between(&self, callee: Option<&str>, caller: Option<&str>) -> Seen {
        if self.may_read(callee) {
            return Seen::Whole;
        }
        let is_outbound = !self.is_whole_only && caller.is_some_and(|caller| self.may_read(Some(caller)));
        if is_outbound { Seen::Outbound } else { Seen::Hidden }
    }

    fn may_read(&self, namespace: Option<&str>) -> bool {
        let mut known = self.eyes.known.lock();
        let name = namespace.map(Box::from);
        if let Some(answer) = known.get(&name) {
            return *answer;
        }
        let answer = self.eyes.visibility.may_read(namespace);
        known.insert(name, answer);
        answer
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sight").field(&self.eyes.known.lock()).finish()
    }
}

/// Eyes are the same when they are of one question.
impl PartialEq for Sight {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.eyes, &other.eyes) && self.is_whole_only == other.is_whole_only
    }
}

impl Eq for Sight {}

#[cfg(test)]
mod tests;
