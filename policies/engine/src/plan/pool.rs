//! What the plans of one worker have in common: the same condition and the same list of policies are one value, so that
//! they stay in the worker's cache and no two workers count references of it.

use crate::logic::Expr;
use std::{collections::HashSet, sync::Arc};

/// Values of each kind that a pool keeps; beyond that they are not shared.
const KEPT: usize = 65_536;

/// Shared parts of plans.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    conditions: HashSet<Arc<Expr>>,
    lists: HashSet<Arc<[Arc<str>]>>,
}

impl Pool {
    /// A condition that is the same.
    pub(super) fn condition(&mut self, of: &Arc<Expr>) -> Arc<Expr> {
        if let Some(known) = self.conditions.get(of) {
            return Arc::clone(known);
        }
        if self.conditions.len() < KEPT {
            self.conditions.insert(Arc::clone(of));
        }
        Arc::clone(of)
    }

    /// A list that is the same.
    pub(crate) fn list(&mut self, of: Vec<Arc<str>>) -> Arc<[Arc<str>]> {
        if let Some(known) = self.lists.get(&*of) {
            return Arc::clone(known);
        }
        let own: Arc<[Arc<str>]> = of.into();
        if self.lists.len() < KEPT {
            self.lists.insert(Arc::clone(&own));
        }
        own
    }
}
