//! The entities that policies name, with how often they do, so that the next snapshot need not look at all policies
//! again. Asked whether a principal can be told from others of its kind.

use super::policies::CheckedFile;
use cedar_policy::EntityUid;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Each named entity with the number of its places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Named(HashMap<EntityUid, i64>);

impl Named {
    pub(crate) fn contains(&self, uid: &EntityUid) -> bool {
        self.0.contains_key(uid)
    }

    /// Every one of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EntityUid> {
        self.0.keys()
    }

    pub(crate) fn of(files: &[Arc<CheckedFile>]) -> Named {
        let mut named = Named::default();
        let rules = files.iter().flat_map(|file| file.rules());
        rules.flat_map(|rule| rule.literals.iter()).for_each(|uid| named.add(uid, 1));
        named
    }

    /// Those of `files`, where `self` are those of `before`.
    pub(crate) fn after(
        self: &Arc<Self>,
        before: &[Arc<CheckedFile>],
        files: &[Arc<CheckedFile>],
    ) -> Arc<Named> {
        let known: HashSet<*const CheckedFile> = before.iter().map(Arc::as_ptr).collect();
        let stays: HashSet<*const CheckedFile> = files.iter().map(Arc::as_ptr).collect();
        let gone = before.iter().filter(|file| !stays.contains(&Arc::as_ptr(file)));
        let come = files.iter().filter(|file| !known.contains(&Arc::as_ptr(file)));
        // A policy that moved has the list it had.
        let mut lists: HashMap<*const EntityUid, (&Arc<[EntityUid]>, i64)> = HashMap::new();
        for (file, by) in gone.map(|file| (file, -1)).chain(come.map(|file| (file, 1))) {
            for literals in file.rules().map(|rule| &rule.literals).filter(|literals| !literals.is_empty()) {
                lists.entry(literals.as_ptr()).or_insert((literals, 0)).1 += by;
            }
        }
        let mut changes: HashMap<&EntityUid, i64> = HashMap::new();
        for (literals, by) in lists.into_values().filter(|(_, by)| *by != 0) {
            literals.iter().for_each(|uid| *changes.entry(uid).or_default() += by);
        }
        changes.retain(|_, by| *by != 0);
        if changes.is_empty() {
            return Arc::clone(self);
        }
        let mut named = Named::clone(self);
        changes.into_iter().for_each(|(uid, by)| named.add(uid, by));
        named.into()
    }

    /// So many places more, or fewer.
    fn add(&mut self, uid: &EntityUid, by: i64) {
        match self.0.get_mut(uid) {
            Some(count) => {
                *count = count.saturating_add(by);
                if *count <= 0 {
                    self.0.remove(uid);
                }
            }
            None => drop(self.0.insert(uid.clone(), by)),
        }
    }
}
