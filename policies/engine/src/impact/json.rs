//! The document of an impact. Its members are read by programs: names are added, never changed.

use super::{Cause, Group, Impact, Lacking};
use crate::{DecisionId, Principal, Resource};
use serde_json::{Value, json};

impl Impact {
    /// Counts, groups, and what could not be told.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "considered": self.considered,
            "newly_denied": self.allow_to_deny,
            "newly_allowed": self.deny_to_allow,
            "reason_changed": self.reason_changed,
            "undecided": self.undecided,
            "same": self.same,
            "outside": self.outside,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "ungrouped": self.ungrouped,
            "lacking": self.lacking.iter().map(lacking).collect::<Vec<_>>(),
            "lacking_ungrouped": self.lacking_ungrouped,
        })
    }
}

fn group(group: &Group) -> Value {
    json!({
        "change": group.change.as_str(),
        "principal": principal(&group.principal),
        "service": group.resource.service(),
        "action": group.action.as_str(),
        "resource": resource(&group.resource),
        "before": cause(&group.before),
        "after": cause(&group.after),
        "count": group.count,
        "examples": ids(&group.examples),
    })
}

fn lacking(lacking: &Lacking) -> Value {
    json!({
        "fact": &*lacking.fact,
        "action": lacking.action.as_str(),
        "resource": resource(&lacking.resource),
        "count": lacking.count,
        "examples": ids(&lacking.examples),
    })
}

fn principal(principal: &Principal) -> Value {
    json!({ "type": principal.entity_type(), "id": principal.id() })
}

fn resource(resource: &Resource) -> Value {
    json!({ "type": resource.entity_type(), "id": resource.id() })
}

fn cause(cause: &Cause) -> Value {
    let policies: Vec<&str> = cause.policies.iter().map(|id| &**id).collect();
    json!({ "reason": cause.reason.as_str(), "policies": policies })
}

fn ids(ids: &[DecisionId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
