//! Which versions are kept (ST3) and which objects go with those that are not. Pure.

use crate::{
    content::{Hash, Kind},
    manifest::Manifest,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Snapshots kept, counted from the newest; and versions of policies, each with its newest snapshot.
const KEPT: usize = 100;

/// The versions in the archive. Texts that follow each other unchanged are held once.
#[derive(Debug, Default)]
pub(crate) struct Retained(BTreeMap<u64, Kept>);

#[derive(Debug)]
struct Kept {
    policies: u64,
    texts: Arc<[Hash]>,
    entities: Vec<Hash>,
}

/// What the archive need not keep any longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) snapshots: Vec<u64>,
    pub(crate) policies: Vec<u64>,
    pub(crate) objects: Vec<Hash>,
}

impl Retained {
    pub(crate) fn insert(&mut self, manifest: &Manifest) {
        let of = |is_entities: bool| {
            let objects = manifest.objects.iter();
            let of_kind = objects.filter(move |object| (object.kind == Kind::Entities) == is_entities);
            of_kind.map(|object| object.sha256)
        };
        let texts: Arc<[Hash]> = of(false).collect();
        let before = self.0.range(..manifest.snapshot).next_back().map(|(_, kept)| &kept.texts);
        let texts = before.filter(|before| **before == texts).cloned().unwrap_or(texts);
        let kept = Kept { policies: manifest.policies, texts, entities: of(true).collect() };
        self.0.insert(manifest.snapshot, kept);
    }

    /// Every object that some kept version needs.
    pub(crate) fn objects(&self) -> HashSet<Hash> {
        let mut all = HashSet::new();
        let mut last: Option<&Arc<[Hash]>> = None;
        for kept in self.0.values() {
            if !last.is_some_and(|last| Arc::ptr_eq(last, &kept.texts)) {
                all.extend(kept.texts.iter().copied());
                last = Some(&kept.texts);
            }
            all.extend(kept.entities.iter().copied());
        }
        all
    }

    /// What would go if `next` were the newest version. Changes nothing: the archive may fail to write.
    pub(crate) fn would_forget(&self, next: &Manifest) -> Forgotten {
        let mut newest_of: BTreeMap<u64, u64> =
            self.0.iter().map(|(snapshot, kept)| (kept.policies, *snapshot)).collect();
        newest_of.insert(next.policies, next.snapshot);
        let old_policies: Vec<u64> = newest_of.keys().rev().skip(KEPT).copied().collect();
        newest_of.retain(|policies, _| !old_policies.contains(policies));
        let pinned: HashSet<u64> = newest_of.into_values().collect();
        let recent = KEPT.saturating_sub(1);
        let old = self.0.keys().rev().skip(recent).filter(|snapshot| !pinned.contains(snapshot));
        let snapshots: Vec<u64> = old.copied().collect();
        if snapshots.is_empty() {
            return Forgotten { policies: old_policies, ..Forgotten::default() };
        }
        let (mut gone, mut needed) = (HashSet::new(), HashSet::new());
        needed.extend(next.objects.iter().map(|object| object.sha256));
        for (snapshot, kept) in &self.0 {
            let side = if snapshots.contains(snapshot) { &mut gone } else { &mut needed };
            side.extend(kept.texts.iter().chain(&kept.entities).copied());
        }
        let mut objects: Vec<Hash> = gone.difference(&needed).copied().collect();
        objects.sort_unstable();
        Forgotten { snapshots, policies: old_policies, objects }
    }

    pub(crate) fn forget(&mut self, forgotten: &Forgotten) {
        self.0.retain(|snapshot, _| !forgotten.snapshots.contains(snapshot));
    }
}

#[cfg(test)]
mod tests;
