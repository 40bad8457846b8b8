//! The entities after a few workloads and routes changed. Nothing is in a workload or a route, so one of them can be
//! replaced, come or go without a look at the others. Whatever is not as simple is for `entities` to build anew: what a
//! snapshot says never depends on which of the two did it.

use super::entities::{Builder, CAP};
use crate::{EntitySet, RouteEntity, WorkloadEntity, uid::cedar_uid, world::World};
use cedar_policy::{EntityUid, Schema};
use std::collections::{HashMap, HashSet};

/// Beyond so many changes, all entities are built anew.
const MOST: usize = 256;

/// The entities of `set`, where `world` holds those of `before`; none where that is not simple, or not right.
pub(super) fn after(world: &World, before: &EntitySet, set: &EntitySet, schema: &Schema) -> Option<World> {
    let EntitySet { trust_domain, services, methods, routes, workloads, extra } = set;
    let is_simple = before.trust_domain == *trust_domain
        && before.services == *services
        && before.methods == *methods
        && before.extra == *extra
        && ["Workload", "Route"].into_iter().all(|kind| is_leaf(kind, schema));
    if !is_simple {
        return None;
    }
    let routes = Change::of(&before.routes, routes, |route| &route.name)?;
    let workloads = Change::of(&before.workloads, workloads, |workload| &workload.id)?;
    let mut builder = Builder::new(set);
    routes.come.iter().for_each(|route| builder.route(route));
    workloads.come.iter().for_each(|workload| builder.workload(workload));
    let entities = builder.described()?;
    let gone: HashSet<EntityUid> = routes
        .uids("Route", |route: &RouteEntity| &route.name)
        .chain(workloads.uids("Workload", |workload: &WorkloadEntity| &workload.id))
        .collect();
    let come: Vec<EntityUid> = entities.iter().map(cedar_policy::Entity::uid).collect();
    // What is there already and did not go is someone else's: an error, which is told elsewhere.
    let is_taken = come.iter().any(|uid| world.get(uid).is_some() && !gone.contains(uid));
    let is_many = world.most().saturating_add(come.len()) > CAP;
    if is_taken || is_many || !keeps_spaces(world, &workloads, set) {
        return None;
    }
    world.with(entities, gone, Some(schema)).ok()
}

/// Whether no entity can be in one of that type.
fn is_leaf(kind: &'static str, schema: &Schema) -> bool {
    schema
        .entity_types()
        .all(|other| schema.ancestors(other).into_iter().flatten().all(|above| above.to_string() != kind))
}

/// A namespace is there while something names it.
fn keeps_spaces(world: &World, workloads: &Change<'_, WorkloadEntity>, set: &EntitySet) -> bool {
    let spaces = |of: &[&WorkloadEntity]| -> HashSet<String> {
        of.iter().filter_map(|workload| workload.namespace.clone()).collect()
    };
    let (come, gone) = (spaces(&workloads.come), spaces(&workloads.gone));
    let is_named = |name: &String| {
        let named = set.services.iter().map(|service| &service.namespace);
        let mut named = named.chain(set.workloads.iter().map(|workload| &workload.namespace));
        named.any(|namespace| namespace.as_ref() == Some(name))
    };
    come.iter().all(|name| world.get(&cedar_uid("Namespace", name)).is_some())
        && gone.difference(&come).all(is_named)
}

/// Values of a list that are new or changed, and what was there in their place or is no more.
struct Change<'s, T> {
    come: Vec<&'s T>,
    gone: Vec<&'s T>,
}

impl<'s, T: PartialEq> Change<'s, T> {
    fn of(before: &'s [T], after: &'s [T], name: impl Fn(&'s T) -> &'s String) -> Option<Change<'s, T>> {
        let mut left: HashMap<&str, &T> = before.iter().map(|value| (name(value).as_str(), value)).collect();
        let mut come = Vec::new();
        let mut gone = Vec::new();
        for value in after {
            match left.remove(name(value).as_str()) {
                Some(known) if known == value => {}
                known => {
                    come.push(value);
                    gone.extend(known);
                }
            }
            if come.len() > MOST {
                return None;
            }
        }
        gone.extend(left.into_values());
        (gone.len() <= MOST).then_some(Change { come, gone })
    }

    fn uids(&self, kind: &'static str, name: impl Fn(&T) -> &String) -> impl Iterator<Item = EntityUid> {
        self.gone.iter().map(move |value| cedar_uid(kind, name(value)))
    }
}
