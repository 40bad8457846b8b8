//! Long histories, with entities that change at every step and policies that change now and then.

use super::*;
use crate::content::{Content, Hash, Object};
use crate::manifest::{Meta, Next, Signed};
use crate::rules::Rules;
use base_ports::UnixTime;
use policies_engine::{EntitySet, Numbers};
use proptest::prelude::*;
use std::collections::HashMap;

/// An archive that keeps what it is told and forgets what it is told.
#[derive(Default)]
struct Shelf {
    retained: Retained,
    manifests: BTreeMap<u64, Manifest>,
    objects: HashMap<Hash, Vec<u8>>,
    head: Option<Manifest>,
    /// In force, when it is not the head.
    active: Option<u64>,
    /// Named by records.
    named: BTreeSet<u64>,
}

impl Shelf {
    fn step(&mut self, policy: u32, entities: u32) {
        let files = [("a.cedar".to_owned(), Arc::from(policy.to_string()))].into_iter().collect();
        let rules = Rules { files: Arc::new(files), ..Rules::shipped() };
        let set = EntitySet { trust_domain: Some(entities.to_string()), ..EntitySet::default() };
        let content = Content { rules, entities: Arc::new(set), routes: Hash([0; 32]) };
        let objects = content.objects().unwrap();
        let head = self.head.as_ref();
        if head.is_some_and(|head| head.is_all_of(&content, &objects)) {
            return;
        }
        let same = head.filter(|head| head.is_of(&objects)).map(|head| head.policies);
        let policies = same.unwrap_or(self.retained.newest_policies() + 1);
        let signed = head.map(|head| {
            let bytes: Arc<[u8]> = head.to_json().unwrap().into();
            Signed { manifest: head.clone(), hash: Hash::of(&bytes), bytes, note: None }
        });
        let (meta, now) = (Meta::default(), UnixTime::from_secs(0));
        let numbers = Numbers { epoch: 1, snapshot: head.map_or(1, |head| head.snapshot + 1), policies };
        let next = Next { trust_domain: "", numbers, meta, content: &content, objects: &objects, now };
        let next = Manifest::after(signed.as_ref(), next);
        let known = self.retained.objects();
        let new = objects.into_iter().filter(|object| !known.contains(&object.reference.sha256));
        self.objects.extend(new.map(|Object { reference, bytes }| (reference.sha256, bytes)));
        self.retained.insert(&next);
        self.manifests.insert(next.snapshot, next.clone());
        self.head = Some(next);
        self.tidy();
    }

    fn tidy(&mut self) {
        let active = self.active.or(self.head.as_ref().map(|head| head.snapshot));
        let named =
            self.retained.old(active).into_iter().map(|old| old.snapshot).filter(|n| self.named.contains(n));
        let forgotten = self.retained.would_forget(active, &named.collect());
        for hash in &forgotten.objects {
            assert!(self.objects.remove(hash).is_some(), "forgotten once");
        }
        forgotten.snapshots.iter().for_each(|snapshot| assert!(self.manifests.remove(snapshot).is_some()));
        self.retained.forget(&forgotten);
    }

    fn check(&self) {
        let needed: HashSet<Hash> =
            self.manifests.values().flat_map(|m| &m.objects).map(|object| object.sha256).collect();
        assert_eq!(
            self.objects.keys().copied().collect::<HashSet<_>>(),
            needed,
            "all that is needed, and no more"
        );
        assert_eq!(self.retained.objects(), needed);
        let head = self.head.as_ref().unwrap();
        let recent = head.snapshot.saturating_sub(u64::try_from(KEPT).unwrap()) + 1..=head.snapshot;
        assert!(recent.clone().all(|snapshot| self.manifests.contains_key(&snapshot)), "{recent:?}");
    }
}

#[test]
fn st3_the_last_hundred_snapshots_and_the_newest_of_each_policy_version_are_kept() {
    let mut shelf = Shelf::default();
    for entities in 0..300 {
        shelf.step(entities / 120, entities);
    }
    shelf.check();
    let kept: Vec<u64> = shelf.manifests.keys().copied().collect();
    let expected: Vec<u64> = [120].into_iter().chain(201..=300).collect();
    assert_eq!(kept, expected, "policies 1 ends at 120, policies 2 at 240");
}

#[test]
fn st3_old_policy_versions_go_too() {
    let mut shelf = Shelf::default();
    (0..250).for_each(|policy| shelf.step(policy, 0));
    shelf.check();
    assert_eq!(shelf.manifests.len(), KEPT);
    assert_eq!(shelf.manifests.keys().next(), Some(&151));
}

#[test]
fn st3_what_is_in_force_and_what_records_name_stays_however_old() {
    let mut shelf = Shelf { active: Some(3), named: [2, 7, 999].into(), ..Shelf::default() };
    (0..250).for_each(|policy| shelf.step(policy, 0));
    shelf.check();
    let kept: Vec<u64> = shelf.manifests.keys().copied().collect();
    let expected: Vec<u64> = [2, 3, 7].into_iter().chain(151..=250).collect();
    assert_eq!(kept, expected);
    assert!(shelf.retained.versions().contains_key(&7), "and its number of policies is known");
    shelf.named.clear();
    shelf.step(999, 0);
    assert_eq!(shelf.manifests.keys().next(), Some(&3), "until no record names it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_needed_is_ever_forgotten(steps in prop::collection::vec((0u32..4, 0u32..4), 1..260)) {
        let mut shelf = Shelf::default();
        for (policy, entities) in steps {
            shelf.step(policy, entities);
        }
        shelf.check();
    }
}
