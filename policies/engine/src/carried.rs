//! Plans outlive a snapshot that changes entities only (EN8): those whose principal, resource and everything above them
//! stayed as they were. Which entities changed is found out once per snapshot and shared by all workers.

use crate::{EntitySet, Principal, Resource, Snapshot, snapshot::Parts, uid::cedar_uid};
use cedar_policy::EntityUid;
use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, OnceLock},
};

/// Beyond so many changes, plans are made anew.
const MOST: usize = 64;

/// What changed since another set of entities; worked out when the first worker asks.
#[derive(Debug, Default)]
pub(crate) struct Moved(OnceLock<(Arc<EntitySet>, Option<Vec<EntityUid>>)>);

/// The plans that a new snapshot leaves valid.
pub(crate) struct Carried<'a> {
    parts: &'a Parts,
    changed: &'a [EntityUid],
}

impl<'a> Carried<'a> {
    /// `None` when policies, schema or too many entities changed, or what changed cannot be told.
    pub(crate) fn over(old: &Snapshot, new: &'a Snapshot) -> Option<Carried<'a>> {
        let (old, new) = (old.parts(), new.parts());
        let is_alike = Arc::ptr_eq(&old.index, &new.index)
            && Arc::ptr_eq(&old.schema, &new.schema)
            && Arc::ptr_eq(&old.distrust, &new.distrust)
            && old.candidate.is_none()
            && new.candidate.is_none();
        if !is_alike {
            return None;
        }
        let set = |parts: &Parts| Arc::clone(&parts.kept.entities);
        let (before, changed) = new.moved.0.get_or_init(|| (set(old), changes(&set(old), &set(new))));
        if !Arc::ptr_eq(before, &old.kept.entities) {
            return None;
        }
        Some(Carried { parts: new, changed: changed.as_deref()? })
    }

    /// `principal` is `None` for a plan that callers share.
    pub(crate) fn keeps(&self, principal: Option<&Principal>, resource: &Resource) -> bool {
        let principal = principal.map(|principal| cedar_uid(principal.entity_type(), principal.id()));
        let resource = (resource.entity_type(), resource.id());
        let resource = cedar_uid(resource.0, resource.1);
        self.changed.iter().all(|changed| {
            let is_above =
                |uid: &EntityUid| uid == changed || self.parts.entities.is_ancestor_of(changed, uid);
            !is_above(&resource) && !principal.as_ref().is_some_and(is_above)
        })
    }
}

/// Entities that are not in both sets alike. `None` for more than a few, or where values do not tell.
fn changes(old: &EntitySet, new: &EntitySet) -> Option<Vec<EntityUid>> {
    if old.extra != new.extra || old.trust_domain != new.trust_domain {
        return None;
    }
    let mut found = Vec::new();
    for service in unlike(&old.services, &new.services) {
        found.push(cedar_uid("Service", &service.name));
        found.extend(service.namespace.iter().map(|namespace| cedar_uid("Namespace", namespace)));
    }
    for method in unlike(&old.methods, &new.methods) {
        found.push(cedar_uid("Method", &method.id));
        found.extend(method.id.rsplit_once('/').map(|(rpc, _)| cedar_uid("RpcService", rpc)));
    }
    found.extend(unlike(&old.routes, &new.routes).map(|route| cedar_uid("Route", &route.name)));
    for workload in unlike(&old.workloads, &new.workloads) {
        found.push(cedar_uid("Workload", &workload.id));
        found.extend(workload.namespace.iter().map(|namespace| cedar_uid("Namespace", namespace)));
    }
    // A namespace is there while something names it; one that stays so did not change.
    let named = |set: &EntitySet| -> HashSet<String> {
        let services = set.services.iter().filter_map(|service| service.namespace.clone());
        services.chain(set.workloads.iter().filter_map(|workload| workload.namespace.clone())).collect()
    };
    let (before, after) = (named(old), named(new));
    let stays = |uid: &EntityUid| {
        let id = uid.id().unescaped();
        uid.type_name().to_string() == "Namespace" && before.contains(id) && after.contains(id)
    };
    found.retain(|uid| !stays(uid));
    found.sort_unstable_by_key(ToString::to_string);
    found.dedup();
    (found.len() <= MOST).then_some(found)
}

/// Values of either list that the other has not.
fn unlike<'s, T: Eq + Hash>(old: &'s [T], new: &'s [T]) -> impl Iterator<Item = &'s T> {
    let (before, after): (HashSet<&T>, HashSet<&T>) = (old.iter().collect(), new.iter().collect());
    let gone: Vec<&T> = old.iter().filter(|value| !after.contains(value)).collect();
    let come: Vec<&T> = new.iter().filter(|value| !before.contains(value)).collect();
    gone.into_iter().chain(come)
}
