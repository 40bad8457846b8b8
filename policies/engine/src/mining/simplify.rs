//! From single denials to few permits, without a permit for anything that was not denied.
//!
//! Members of a group that were all denied alike become `principal in` that group; methods of one interface and routes
//! of one service become a list. Everything else stays as it is.

use super::{
    denials::Triple,
    proposal::{Proposal, Target, Who},
};
use crate::{Action, Principal, PrincipalKind, Resource, ResourceKind, Snapshot, uid::cedar_uid};
use cedar_policy::EntityUid;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of entity that callers are gathered under.
const GROUPS: [&str; 2] = ["Group", "Namespace"];

/// What a set of callers wants.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    action: Action,
    target: String,
    /// Every caller always proved itself on the connection.
    is_mtls: bool,
}

/// The actions that are wanted on one target, and how many calls were denied.
#[derive(Debug)]
struct On {
    resource: Resource,
    actions: BTreeSet<Action>,
    count: u64,
}

/// What targets have in common that can be one permit.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    kind: ResourceKind,
    whole: Option<(String, String)>,
    actions: BTreeSet<Action>,
}

pub(super) fn proposals<'a>(triples: impl Iterator<Item = &'a Triple>, snapshot: &Snapshot) -> Vec<Proposal> {
    let mut wants: BTreeMap<Want, Vec<&Triple>> = BTreeMap::new();
    for triple in triples {
        let (action, target) = (triple.action, triple.resource.to_string());
        wants.entry(Want { action, target, is_mtls: triple.is_mtls }).or_default().push(triple);
    }
    let members = members(snapshot);
    let mut callers: BTreeMap<(Who, bool), BTreeMap<String, On>> = BTreeMap::new();
    for (want, triples) in wants {
        for (who, behind) in gather(&triples, &members) {
            let targets = callers.entry((who, want.is_mtls)).or_default();
            for triple in behind {
                let on = targets.entry(want.target.clone()).or_insert_with(|| On {
                    resource: triple.resource.clone(),
                    actions: BTreeSet::new(),
                    count: 0,
                });
                on.actions.insert(want.action);
                on.count += triple.count;
            }
        }
    }
    let mut proposals = Vec::new();
    for ((who, is_mtls), targets) in callers {
        let mut alike: BTreeMap<Alike, Vec<On>> = BTreeMap::new();
        for on in targets.into_values() {
            let (kind, whole) = (on.resource.kind(), whole(&on.resource, snapshot));
            alike.entry(Alike { kind, whole, actions: on.actions.clone() }).or_default().push(on);
        }
        for (alike, targets) in alike {
            proposals.extend(permits(&who, is_mtls, alike, targets));
        }
    }
    Proposal::name(&mut proposals, snapshot);
    proposals
}

/// One permit where the targets are part of one whole, else one for each.
fn permits(who: &Who, is_mtls: bool, alike: Alike, targets: Vec<On>) -> Vec<Proposal> {
    let permit = |actions: &BTreeSet<Action>, target: Target, count: u64| {
        Proposal::new(who.clone(), actions.clone(), target, is_mtls, count)
    };
    if alike.whole.is_some() && targets.len() > 1 {
        let count = targets.iter().map(|on| on.count).sum();
        let resources = targets.into_iter().map(|on| on.resource).collect();
        return vec![permit(&alike.actions, Target { resources, whole: alike.whole }, count)];
    }
    let single =
        |on: On| permit(&alike.actions, Target { resources: vec![on.resource], whole: None }, on.count);
    targets.into_iter().map(single).collect()
}

/// Workloads by the group or namespace they are in.
fn members(snapshot: &Snapshot) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut members: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let entities = &snapshot.parts().entities;
    for entity in entities.iter() {
        let uid = entity.uid();
        if entity_type(&uid) != PrincipalKind::Workload.as_str() {
            continue;
        }
        for group in entities.ancestors(&uid).into_iter().flatten() {
            let kind = entity_type(group);
            if GROUPS.contains(&kind.as_str()) {
                let key = (kind, entity_id(group));
                members.entry(key).or_default().insert(Principal::workload(&entity_id(&uid)).to_string());
            }
        }
    }
    members
}

/// Groups whose members were all denied this, largest first, then who is left; each with the denials it stands for.
fn gather<'a>(
    triples: &[&'a Triple],
    members: &BTreeMap<(String, String), BTreeSet<String>>,
) -> Vec<(Who, Vec<&'a Triple>)> {
    let mut left: BTreeMap<String, &Triple> =
        triples.iter().map(|triple| (triple.principal.to_string(), *triple)).collect();
    let all: BTreeSet<String> = left.keys().cloned().collect();
    let mut whole: Vec<_> =
        members.iter().filter(|(_, members)| members.len() > 1 && members.is_subset(&all)).collect();
    whole.sort_by_key(|(group, members)| (usize::MAX - members.len(), *group));
    let mut found = Vec::new();
    for (group, members) in whole {
        // A group is worth it for those whom no larger one stands for already.
        if members.iter().filter(|member| left.contains_key(*member)).count() > 1 {
            let behind = members.iter().filter_map(|member| left.remove(member)).collect();
            found.push((Who::In(group.0.clone(), group.1.clone()), behind));
        }
    }
    found.extend(left.into_values().map(|triple| (Who::One(triple.principal.clone()), vec![triple])));
    found
}

/// The interface of a method or the service of a route, as the entities say.
fn whole(resource: &Resource, snapshot: &Snapshot) -> Option<(String, String)> {
    let wanted = match resource.kind() {
        ResourceKind::Method => "RpcService",
        ResourceKind::Route => "Service",
        _ => return None,
    };
    let uid = cedar_uid(resource.entity_type(), resource.id());
    let mut above = snapshot.parts().entities.ancestors(&uid).into_iter().flatten();
    let whole = above.find(|above| entity_type(above) == wanted)?;
    Some((wanted.to_owned(), entity_id(whole)))
}

fn entity_type(uid: &EntityUid) -> String {
    uid.type_name().to_string()
}

fn entity_id(uid: &EntityUid) -> String {
    uid.id().unescaped().to_owned()
}
