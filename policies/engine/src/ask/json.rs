//! The document of an answer.

use super::{Answers, Standing, Verdict, Who};
use crate::{Effect, explain::PolicyPlace};
use serde_json::{Value, json};

impl Answers {
    /// A list of kind `kind` with counts and, where there is more, `next`.
    #[must_use]
    pub fn to_json(&self, kind: &str) -> Value {
        json!({
            "apiVersion": "portcullis/v1",
            "kind": kind,
            "items": self.items.iter().map(Standing::to_json).collect::<Vec<_>>(),
            "next": self.next,
            "counts": { "allow": self.counts.allow, "depends": self.counts.depends, "deny": self.counts.deny },
        })
    }
}

impl Standing {
    fn to_json(&self) -> Value {
        let (verdict, condition) = match &self.verdict {
            Verdict::Allow => ("allow", None),
            Verdict::Depends(condition) => ("depends", Some(condition.to_text())),
        };
        let class = match &self.who {
            Who::One(_) => None,
            Who::All { class, .. } => Some(class.to_string()),
        };
        json!({
            "principal": class.is_none().then(|| self.who.to_string()),
            "class": class,
            "actions": self.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>(),
            "resource": self.resource.to_string(),
            "verdict": verdict,
            "condition": condition,
            "policies": self.policies.iter().map(place).collect::<Vec<_>>(),
        })
    }
}

fn place(place: &PolicyPlace) -> Value {
    let effect = if place.effect == Effect::Allow { "permit" } else { "forbid" };
    json!({
        "policy": &*place.policy,
        "effect": effect,
        "source": { "file": &*place.file, "line": place.line },
        "owner": place.owner,
    })
}
