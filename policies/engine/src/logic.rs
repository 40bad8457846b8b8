//! Conditions of policies as trees of typed operations over facts (EN9), lowered once per policy text from Cedar's public
//! syntax tree, folded once per plan with all that entities decide, evaluated per call without allocation.
//!
//! Called by `compile` (lowering) and `plan` (folding, evaluation). Whatever this module does not know for certain is
//! [`Logic::Slow`]: the whole policy goes to stock Cedar, nothing is dropped or guessed.

mod apply;
mod eval;
mod expr;
mod fold;
mod literal;
mod lower;
mod pattern;
mod range;
mod read;
mod steps;
mod value;

#[cfg(test)]
mod tests;

use cedar_policy::pst;
use std::sync::Arc;

pub(crate) use eval::Scene;
pub(crate) use expr::{Expr, Fact};
pub(crate) use fold::Fold;
pub(crate) use steps::{Layout, Steps};

/// What is left of a policy once its scope matched.
#[derive(Debug, Clone)]
pub(crate) enum Logic {
    /// Its scope says it all.
    Always,
    /// All clauses, joined.
    When(Arc<Expr>),
    /// Stock Cedar must judge it; why.
    Slow(&'static str),
}

impl Logic {
    /// Lowers the conditions of a policy.
    pub(crate) fn joining(clauses: &[pst::Clause]) -> Logic {
        let mut joined: Option<Arc<Expr>> = None;
        for clause in clauses {
            let lowered = match clause {
                pst::Clause::When(condition) => lower::condition(condition),
                pst::Clause::Unless(condition) => lower::condition(condition).map(Expr::not),
            };
            let next = match lowered {
                Ok(next) => Arc::new(next),
                Err(why) => return Logic::Slow(why),
            };
            joined = Some(match joined {
                Some(before) => Arc::new(Expr::And(before, next)),
                None => next,
            });
        }
        joined.map_or(Logic::Always, Logic::When)
    }
}
