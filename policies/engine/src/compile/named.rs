//! The entities that policies name, with how often they do, so that the next snapshot need not look at all policies
//! again. Asked whether a principal can be told from others of its kind.

use super::policies::CheckedFile;
use crate::rule::Rule;
use cedar_policy::EntityUid;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Each named entity with the number of its places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// As it was when all were counted.
    base: Arc<HashMap<EntityUid, i64>>,
    /// How much more or less it is since.
    changed: HashMap<EntityUid, i64>,
}

/// Beyond so many changes all are counted together again.
const CHANGED: usize = 512;

impl Named {
    pub(crate) fn contains(&self, uid: &EntityUid) -> bool {
        self.count(uid) > 0
    }

    fn count(&self, uid: &EntityUid) -> i64 {
        let of = |counts: &HashMap<EntityUid, i64>| counts.get(uid).copied().unwrap_or_default();
        of(&self.base).saturating_add(of(&self.changed))
    }

    /// Every one of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EntityUid> {
        let stays = |uid: &&EntityUid| self.changed.is_empty() || self.contains(uid);
        let is_new = |uid: &&EntityUid| !self.base.contains_key(*uid) && self.contains(uid);
        self.base.keys().filter(stays).chain(self.changed.keys().filter(is_new))
    }

    pub(crate) fn of(files: &[Arc<CheckedFile>]) -> Named {
        let mut base = HashMap::new();
        let rules = files.iter().flat_map(|file| file.rules());
        rules.flat_map(|rule| rule.literals()).for_each(|uid| add(&mut base, uid, 1));
        base.shrink_to_fit();
        Named { base: base.into(), changed: HashMap::new() }
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
        let mut pairs: HashMap<&str, [Vec<&Arc<Rule>>; 2]> = HashMap::new();
        for file in gone {
            pairs.entry(&file.source.file).or_default()[0].extend(file.rules());
        }
        for file in come {
            pairs.entry(&file.source.file).or_default()[1].extend(file.rules());
        }
        // A policy that moved has the text it had.
        let mut texts: HashMap<*const u8, (&Rule, i64)> = HashMap::new();
        for [gone, come] in pairs.values() {
            let (gone, come) = differing(gone, come);
            for (rule, by) in gone.iter().map(|rule| (rule, -1)).chain(come.iter().map(|rule| (rule, 1))) {
                texts.entry(rule.text.as_ptr()).or_insert((rule, 0)).1 += by;
            }
        }
        let mut changes: HashMap<&EntityUid, i64> = HashMap::new();
        for (rule, by) in texts.into_values().filter(|(_, by)| *by != 0) {
            rule.literals().for_each(|uid| *changes.entry(uid).or_default() += by);
        }
        changes.retain(|_, by| *by != 0);
        if changes.is_empty() {
            return Arc::clone(self);
        }
        let mut changed = self.changed.clone();
        changes.into_iter().for_each(|(uid, by)| add(&mut changed, uid, by));
        if changed.len() <= CHANGED {
            return Arc::new(Named { base: Arc::clone(&self.base), changed });
        }
        let mut base = HashMap::clone(&self.base);
        changed.into_iter().for_each(|(uid, by)| add(&mut base, &uid, by));
        Arc::new(Named { base: base.into(), changed: HashMap::new() })
    }
}

/// Both lists without the rules that are the same at their start and at their end.
fn differing<'a, 'b>(
    one: &'b [&'a Arc<Rule>],
    two: &'b [&'a Arc<Rule>],
) -> (&'b [&'a Arc<Rule>], &'b [&'a Arc<Rule>]) {
    let is_same = |(one, two): &(&&Arc<Rule>, &&Arc<Rule>)| Arc::ptr_eq(one, two);
    let start = one.iter().zip(two).take_while(is_same).count();
    let (one, two) = (one.get(start..).unwrap_or_default(), two.get(start..).unwrap_or_default());
    let end = one.iter().rev().zip(two.iter().rev()).take_while(is_same).count();
    let rest = |all: &'b [&'a Arc<Rule>]| all.get(..all.len().saturating_sub(end)).unwrap_or_default();
    (rest(one), rest(two))
}

/// So many places more, or fewer; none is no entry.
fn add(counts: &mut HashMap<EntityUid, i64>, uid: &EntityUid, by: i64) {
    match counts.get_mut(uid) {
        Some(count) => {
            *count = count.saturating_add(by);
            if *count == 0 {
                counts.remove(uid);
            }
        }
        None => drop(counts.insert(uid.clone(), by)),
    }
}

/// The same entities in as many places.
impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        let has_all = |one: &Named, other: &Named| one.iter().all(|uid| one.count(uid) == other.count(uid));
        has_all(self, other) && has_all(other, self)
    }
}
