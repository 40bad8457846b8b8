//! A recorded decision as a case of `policy test`, in the shape of Cedar's `run-tests` (TE1, TE3). Used by
//! `policy suggest` and `policy new --test`.

use crate::{
    Decision, Effect, Reason,
    explain::{RequestForExplain, circumstances},
    uid::format_uid,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a case expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Allow or deny.
    pub effect: Effect,
    /// The reason word.
    pub reason: Reason,
    /// Policies that must be among the deciding ones.
    pub determining: Vec<Arc<str>>,
    /// Policies that cannot be evaluated.
    pub errors: usize,
}

impl Expected {
    /// What that decision says.
    #[must_use]
    pub fn of(decision: &Decision) -> Expected {
        Expected {
            effect: decision.effect,
            reason: decision.reason,
            determining: decision.determining.to_vec(),
            errors: decision.errors.len(),
        }
    }
}

/// One case: that question, with those facts, comes out so. Its entities are those of the policies it is run against.
#[must_use]
pub fn case_of(name: &str, question: &RequestForExplain, expected: &Expected) -> Value {
    let action = question.action;
    let mut case = json!({
        "name": name,
        "request": {
            "principal": question.principal.to_string(),
            "action": format_uid(action.entity_type(), action.as_str()),
            "resource": question.resource.to_string(),
            "context": context(question),
        },
        "entities": [],
        "decision": expected.effect.as_str(),
        "reason": expected.determining,
        "num_errors": expected.errors,
        "reason_code": expected.reason.as_str(),
    });
    // SE1 is where stock Cedar says something else.
    if let (Reason::ForbidError, Some(members)) = (expected.reason, case.as_object_mut()) {
        members.insert("engine".to_owned(), json!("portcullis"));
    }
    case
}

/// The circumstances with the escapes that Cedar's JSON needs.
fn context(question: &RequestForExplain) -> Map<String, Value> {
    let mut context = circumstances(&question.facts, question.now, question.extra.as_ref());
    let mut escape = |pointer: [&str; 2], written: &dyn Fn(Value) -> Value| {
        let [outer, inner] = pointer;
        if let Some(value) = context.get_mut(outer).and_then(|members| members.get_mut(inner)) {
            *value = written(value.take());
        }
    };
    escape(["connection", "source_ip"], &|ip| json!({ "fn": "ip", "arg": ip }));
    escape(["connection", "protocol"], &|id| json!({ "type": "Protocol", "id": id }));
    escape(["time", "now"], &|now| json!({ "fn": "datetime", "arg": now }));
    context
}
