//! The document of EX7.

use super::{Candidate, Explanation, Failure, Part, PartResult, Repeats, RequestForExplain};
use crate::{Effect, Snapshot};
use serde_json::{Map, Value, json};

impl Explanation {
    /// The document of EX7. `decision` is the full id of the explained record.
    #[must_use]
    pub fn to_json(&self, request: &RequestForExplain, snapshot: &Snapshot, decision: Option<&str>) -> Value {
        let numbers = snapshot.versions().numbers;
        let is_same = self.recomputed.as_ref().and_then(|again| again.is_same);
        let mut document = json!({
            "apiVersion": "portcullis/v1",
            "kind": "Explanation",
            "decision": decision,
            "effect": self.effect.as_str(),
            "reason": self.reason.as_str(),
            "why": self.cause(request, snapshot),
            "recomputed": is_same.map(|is_same| if is_same { "same" } else { "different" }),
            "policies": numbers.policies,
            "snapshot": numbers.snapshot,
            "determining": self.determining.iter().map(candidate).collect::<Vec<_>>(),
            "errors": self.errors.iter().map(failure).collect::<Vec<_>>(),
            "nearest": self.nearest.iter().map(candidate).collect::<Vec<_>>(),
            "who": self.who_json(),
            "fix": super::fix(self.reason, decision).map(|fix| fix.command),
        });
        let recorded = request.recorded.as_ref();
        let again = self.recomputed.as_ref().filter(|_| is_same == Some(false));
        let more = [
            ("detail", recorded.and_then(|recorded| recorded.detail.as_ref()).map(|detail| json!(detail))),
            (
                "would",
                recorded.and_then(|recorded| recorded.would.as_ref()).map(|would| {
                    json!({ "effect": would.effect.as_str(), "reason": would.reason.as_str(),
                        "determining": would.determining.to_vec(), "policies": would.version })
                }),
            ),
            (
                "now",
                again.map(|again| {
                    json!({ "effect": again.effect.as_str(), "reason": again.reason.as_str(),
                        "determining": again.determining.to_vec() })
                }),
            ),
        ];
        if let Some(members) = document.as_object_mut() {
            members.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        document
    }

    fn who_json(&self) -> Option<Value> {
        let repeats = self.repeats.filter(|repeats| repeats.count > 1);
        let owner = self.owner();
        (owner.is_some() || repeats.is_some()).then(|| {
            let mut who = json!({ "owner": owner });
            if let (Some(members), Some(Repeats { count, is_more, since, policies })) =
                (who.as_object_mut(), repeats)
            {
                members.insert("last_hour".to_owned(), json!(count));
                members.insert("is_more".to_owned(), json!(is_more));
                members.insert("since".to_owned(), json!(since.to_string()));
                members.insert("policies".to_owned(), json!(policies));
            }
            who
        })
    }
}

fn candidate(candidate: &Candidate) -> Value {
    let place = &candidate.place;
    let effect = if place.effect == Effect::Allow { "permit" } else { "forbid" };
    let mut document = json!({
        "policy": &*place.policy,
        "effect": effect,
        "source": { "file": &*place.file, "line": place.line },
        "parts": candidate.parts.iter().map(part).collect::<Vec<_>>(),
    });
    if let (Some(template), Some(members)) = (&place.template, document.as_object_mut()) {
        members.insert("template".to_owned(), json!(&**template));
    }
    document
}

fn failure(failure: &Failure) -> Value {
    let mut document = candidate(&failure.candidate);
    if let Some(members) = document.as_object_mut() {
        members.insert("class".to_owned(), json!(failure.class.as_str()));
        members.insert("message".to_owned(), json!(failure.message));
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
