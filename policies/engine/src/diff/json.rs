//! The difference as a document, for the API and `-o json`.

use super::{Caller, Cell, ChangeKind, Difference, EntityChange, PolicyChange, Target};
use crate::Effect;
use serde_json::{Map, Value, json};

impl Difference {
    /// The document; what is not listed is counted.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let counts = &self.counts;
        let policies: Map<String, Value> =
            ChangeKind::ALL.iter().map(|kind| (kind.as_str().to_owned(), json!(self.count(*kind)))).collect();
        json!({
            "apiVersion": "portcullis/v1",
            "kind": "PolicyDifference",
            "widens": self.widens,
            "touches_baseline": self.touches_baseline(),
            "policies": self.policies.iter().map(policy).collect::<Vec<_>>(),
            "entities": self.entities.iter().map(entity).collect::<Vec<_>>(),
            "cells": self.cells.iter().map(cell).collect::<Vec<_>>(),
            "counts": {
                "policies": policies,
                "entities": counts.entities,
                "gains": counts.gains,
                "depends": counts.depends,
                "loses": counts.loses,
                "unexamined": counts.unexamined,
            },
        })
    }
}

fn policy(change: &PolicyChange) -> Value {
    json!({
        "policy": &*change.id,
        "change": change.kind.as_str(),
        "effect": if change.effect == Effect::Allow { "permit" } else { "forbid" },
        "baseline": change.is_baseline,
        "source": { "file": &*change.file, "line": change.line },
        "owner": change.owner,
        "parts": change.parts,
        "loosens": change.loosens,
    })
}

fn entity(change: &EntityChange) -> Value {
    json!({ "uid": change.uid, "change": change.kind.as_str() })
}

fn cell(cell: &Cell) -> Value {
    json!({
        "principal": caller(&cell.principal),
        "action": cell.action.as_str(),
        "resource": target(&cell.resource),
        "kind": cell.kind.as_str(),
        "policies": cell.policies.iter().map(|id| &**id).collect::<Vec<_>>(),
        "clause": cell.clause,
        "may_gain": cell.may_gain,
    })
}

fn caller(caller: &Caller) -> Value {
    match caller {
        Caller::One(principal) => {
            let roles: Vec<&str> = principal.roles().iter().map(|role| role.as_str()).collect();
            json!({ "type": principal.entity_type(), "id": principal.id(), "roles": roles })
        }
        Caller::Others { kind, trust_domain, roles } => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            json!({ "type": kind.as_str(), "others": true, "trust_domain": trust_domain, "roles": roles })
        }
    }
}

fn target(target: &Target) -> Value {
    match target {
        Target::One(resource) => json!({ "type": resource.entity_type(), "id": resource.id() }),
        Target::Others { kind, within } => {
            json!({ "type": kind.as_str(), "others": true, "within": within })
        }
    }
}
