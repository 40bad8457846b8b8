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
pub(crate) struct Named(HashMap<EntityUid, u32>);

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
        files.iter().for_each(|file| named.add(file));
        named
    }

    /// Those of `files`, where `self` are those of `before`.
    pub(crate) fn after(&self, before: &[Arc<CheckedFile>], files: &[Arc<CheckedFile>]) -> Named {
        let known: HashSet<*const CheckedFile> = before.iter().map(Arc::as_ptr).collect();
        let stays: HashSet<*const CheckedFile> = files.iter().map(Arc::as_ptr).collect();
        let mut named = self.clone();
        before.iter().filter(|file| !stays.contains(&Arc::as_ptr(file))).for_each(|file| named.remove(file));
        files.iter().filter(|file| !known.contains(&Arc::as_ptr(file))).for_each(|file| named.add(file));
        named
    }

    fn add(&mut self, file: &CheckedFile) {
        for uid in file.rules().flat_map(|rule| rule.literals.iter()) {
            match self.0.get_mut(uid) {
                Some(count) => *count = count.saturating_add(1),
                None => drop(self.0.insert(uid.clone(), 1)),
            }
        }
    }

    fn remove(&mut self, file: &CheckedFile) {
        for uid in file.rules().flat_map(|rule| rule.literals.iter()) {
            if let Some(count) = self.0.get_mut(uid) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.0.remove(uid);
                }
            }
        }
    }
}
