//! All entities of a snapshot: those that were built together, and the few that changed since. What a change of a few
//! entities costs follows from the few (EN12). Asked by everything that looks at entities; answers as [`Entities`] do.

use cedar_policy::{Entities, Entity, EntityUid, Schema, entities_errors::EntitiesError};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

#[derive(Debug, Clone)]
pub(crate) struct World {
    base: Arc<Entities>,
    /// Those that changed or came, with all that they are in.
    changed: Entities,
    gone: HashSet<EntityUid>,
}

impl World {
    pub(crate) fn new(base: Entities) -> World {
        World { base: base.into(), changed: Entities::empty(), gone: HashSet::new() }
    }

    /// What was built together, whatever changed since.
    pub(crate) fn base(&self) -> World {
        World { base: Arc::clone(&self.base), changed: Entities::empty(), gone: HashSet::new() }
    }

    /// The same with `entities` in addition or in place of what they were, and without
    /// those that are `gone`. Nothing may be in one of them.
    pub(crate) fn with(
        &self,
        entities: Vec<Entity>,
        gone: impl IntoIterator<Item = EntityUid>,
        schema: Option<&Schema>,
    ) -> Result<World, Box<EntitiesError>> {
        let mut all: HashMap<EntityUid, Entity> =
            self.changed.iter().map(|entity| (entity.uid(), entity.clone())).collect();
        for entity in &entities {
            let (_, _, parents) = entity.clone().into_inner();
            for parent in parents {
                let above: Vec<EntityUid> = self.ancestors(&parent).into_iter().flatten().cloned().collect();
                for uid in above.into_iter().chain([parent]) {
                    if let Some(entity) = self.get(&uid) {
                        all.insert(uid, entity.clone());
                    }
                }
            }
        }
        let gone: HashSet<EntityUid> = self.gone.iter().cloned().chain(gone).collect();
        all.retain(|uid, _| !gone.contains(uid));
        all.extend(entities.into_iter().map(|entity| (entity.uid(), entity)));
        let changed = Entities::from_entities(all.into_values(), schema)?;
        Ok(World { base: Arc::clone(&self.base), changed, gone })
    }

    /// How many there are at most.
    pub(crate) fn most(&self) -> usize {
        self.base.len().saturating_add(self.changed.len())
    }

    pub(crate) fn get(&self, uid: &EntityUid) -> Option<&Entity> {
        self.home(uid)?.get(uid)
    }

    /// `None` when there is no such entity.
    pub(crate) fn ancestors(&self, uid: &EntityUid) -> Option<impl Iterator<Item = &EntityUid>> {
        self.home(uid)?.ancestors(uid)
    }

    pub(crate) fn is_ancestor_of(&self, high: &EntityUid, low: &EntityUid) -> bool {
        self.home(low).map_or(high == low, |home| home.is_ancestor_of(high, low))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity> {
        let is_as_built = self.gone.is_empty() && self.changed.is_empty();
        let stays = move |entity: &&Entity| {
            is_as_built || {
                let uid = entity.uid();
                self.changed.get(&uid).is_none() && !self.gone.contains(&uid)
            }
        };
        self.changed.iter().chain(self.base.iter().filter(stays))
    }

    /// Where that entity is.
    fn home(&self, uid: &EntityUid) -> Option<&Entities> {
        if self.changed.get(uid).is_some() {
            return Some(&self.changed);
        }
        (!self.gone.contains(uid) && self.base.get(uid).is_some()).then_some(&*self.base)
    }

    /// Whether both are changes of what was built once.
    #[cfg(test)]
    pub(crate) fn is_of(&self, other: &World) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
    }

    #[cfg(test)]
    pub(crate) fn deep_eq(&self, other: &World) -> bool {
        let whole = |world: &World| Entities::from_entities(world.iter().cloned(), None).unwrap();
        whole(self).deep_eq(&whole(other))
    }
}
