//! Which versions are kept (ST3) and which objects go with those that are not. Pure.

use crate::{
    Old,
    content::{Hash, Kind},
    manifest::Manifest,
};
use base_ports::UnixTime;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
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
    since: UnixTime,
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
        let since = UnixTime::parse_rfc3339(manifest.created()).unwrap_or_default();
        let kept = Kept { policies: manifest.policies, since, texts, entities: of(true).collect() };
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

    /// The newest version of policies; 0 when there is none.
    pub(crate) fn newest_policies(&self) -> u64 {
        self.0.values().map(|kept| kept.policies).max().unwrap_or(0)
    }

    /// The versions of policies that are kept, each with its newest snapshot.
    pub(crate) fn versions(&self) -> BTreeMap<u64, u64> {
        self.0.iter().map(|(snapshot, kept)| (kept.policies, *snapshot)).collect()
    }

    /// The snapshots that are old enough to go, with `active` in force.
    pub(crate) fn old(&self, active: Option<u64>) -> Vec<Old> {
        let (pinned, _) = self.pinned(active);
        let old = self.0.iter().rev().skip(KEPT).filter(|(snapshot, _)| !pinned.contains(snapshot));
        let mut old: Vec<Old> =
            old.map(|(snapshot, kept)| Old { snapshot: *snapshot, since: kept.since }).collect();
        old.reverse();
        old
    }

    /// What can go if `named` stay. Changes nothing: the archive may fail to forget.
    pub(crate) fn would_forget(&self, active: Option<u64>, named: &BTreeSet<u64>) -> Forgotten {
        let (_, mut old_policies) = self.pinned(active);
        let old = self.old(active).into_iter().map(|old| old.snapshot);
        let snapshots: BTreeSet<u64> = old.filter(|snapshot| !named.contains(snapshot)).collect();
        // A number is forgotten with the last snapshot that carries it.
        let mut all = self.0.iter();
        let stays: HashSet<u64> = all
            .by_ref()
            .filter(|(snapshot, _)| !snapshots.contains(snapshot))
            .map(|(_, kept)| kept.policies)
            .collect();
        old_policies.retain(|policies| !stays.contains(policies));
        let (mut gone, mut needed) = (HashSet::new(), HashSet::new());
        for (snapshot, kept) in self.0.iter().filter(|_| !snapshots.is_empty()) {
            let side = if snapshots.contains(snapshot) { &mut gone } else { &mut needed };
            side.extend(kept.texts.iter().chain(&kept.entities).copied());
        }
        let mut objects: Vec<Hash> = gone.difference(&needed).copied().collect();
        objects.sort_unstable();
        Forgotten { snapshots: snapshots.into_iter().collect(), policies: old_policies, objects }
    }

    /// Snapshots that stay besides the last ones: the newest of each version that is kept, and what is in force. And
    /// the versions that are old.
    fn pinned(&self, active: Option<u64>) -> (HashSet<u64>, Vec<u64>) {
        let mut newest_of = self.versions();
        let in_force = active.and_then(|active| Some(self.0.get(&active)?.policies));
        let mut old: Vec<u64> = newest_of.keys().rev().skip(KEPT).copied().collect();
        old.retain(|policies| Some(*policies) != in_force);
        newest_of.retain(|policies, _| !old.contains(policies));
        (newest_of.into_values().chain(active).collect(), old)
    }

    pub(crate) fn forget(&mut self, forgotten: &Forgotten) {
        self.0.retain(|snapshot, _| !forgotten.snapshots.contains(snapshot));
    }
}

#[cfg(test)]
mod tests;
