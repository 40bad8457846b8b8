//! What is left to a call: the permits and forbids whose conditions read facts, folded as far as entities go.

use crate::explain::expression;
use serde_json::{Value, json};

/// A call passes when a permit holds and no forbid holds or fails. As text it reads as one Cedar condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// A permit holds whatever the call; then only forbids are left.
    pub(crate) is_permitted: bool,
    /// Otherwise one of these must hold; one that fails grants nothing.
    pub(crate) permits: Vec<Value>,
    /// None of these may hold, and none may fail.
    pub(crate) forbids: Vec<Value>,
}

impl Condition {
    /// One condition as Cedar text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let any = self
            .permits
            .iter()
            .cloned()
            .reduce(|left, right| json!({ "||": { "left": left, "right": right } }));
        let any = any.filter(|_| !self.is_permitted);
        let none = self.forbids.iter().map(|forbid| json!({ "!": { "arg": forbid } }));
        let all = any.into_iter().chain(none);
        let whole = all.reduce(|left, right| json!({ "&&": { "left": left, "right": right } }));
        expression::to_text(&whole.unwrap_or_else(|| json!({ "Value": true })))
    }
}
