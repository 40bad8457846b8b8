//! The document of EX7.

use super::{Explanation, Nearest, Part, PartResult, PolicyPlace};
use crate::{Effect, Reason, Snapshot};
use serde_json::{Map, Value, json};

impl Explanation {
    /// The document of EX7. `decision` is the full id of the explained record.
    #[must_use]
    pub fn to_json(&self, snapshot: &Snapshot, decision: Option<&str>) -> Value {
        let numbers = snapshot.versions().numbers;
        let fix = decision.filter(|_| self.reason == Reason::NoPermit);
        let recomputed = self.is_same.map(|is_same| if is_same { "same" } else { "different" });
        let owner = self.determining.first().or(self.nearest.first().map(|nearest| &nearest.place));
        let owner = owner.and_then(|place| place.owner.as_deref());
        let error = |(place, class, message): &(PolicyPlace, crate::ErrorClass, String)| json!({ "policy": &*place.policy, "class": class.as_str(), "message": message });
        json!({
            "apiVersion": "portcullis/v1",
            "kind": "Explanation",
            "decision": decision,
            "effect": self.effect.as_str(),
            "reason": self.reason.as_str(),
            "recomputed": recomputed,
            "policies": numbers.policies,
            "snapshot": numbers.snapshot,
            "determining": self.determining.iter().map(place).collect::<Vec<_>>(),
            "errors": self.errors.iter().map(error).collect::<Vec<_>>(),
            "nearest": self.nearest.iter().map(nearest).collect::<Vec<_>>(),
            "who": owner.map(|owner| json!({ "owner": owner })),
            "fix": fix.map(|id| json!(["portcullis", "policy", "suggest", id])),
        })
    }
}

fn place(place: &PolicyPlace) -> Value {
    let effect = if place.effect == Effect::Allow { "permit" } else { "forbid" };
    json!({
        "policy": &*place.policy,
        "effect": effect,
        "source": { "file": &*place.file, "line": place.line },
    })
}

fn nearest(nearest: &Nearest) -> Value {
    let mut document = place(&nearest.place);
    if let Some(members) = document.as_object_mut() {
        members.insert("parts".to_owned(), nearest.parts.iter().map(part).collect());
    }
    document
}

fn part(part: &Part) -> Value {
    let mut members = Map::new();
    members.insert("part".to_owned(), json!(part.name));
    let (word, why) = match &part.result {
        PartResult::Matched => ("matched", None),
        PartResult::Failed(why) => ("failed", Some(why)),
        PartResult::Error(why) => ("error", Some(why)),
        PartResult::NotReached => ("not_reached", None),
    };
    members.insert("result".to_owned(), json!(word));
    members.insert("policy".to_owned(), json!(part.policy));
    if part.request.is_empty() {
        // A variable shows its value; a condition shows what it read.
        members.extend(why.map(|why| ("detail".to_owned(), json!(why))));
    } else {
        members.insert("request".to_owned(), json!(part.request));
    }
    members.into()
}
