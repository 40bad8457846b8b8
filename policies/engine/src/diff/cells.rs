//! Compares the calls that a difference can touch: those in reach of a changed policy, and those of callers and targets
//! that are entities otherwise. Nothing else can be judged otherwise.

use super::{
    CellKind, ChangeKind, EntityChange, PolicyChange,
    changes::{conditions, has_same_conditions, judges_alike},
    classes::Classes,
    side::{At, Left, Side, Verdict, When, verdict},
};
use crate::{Effect, Snapshot, rule::Rule, scope::Keyed};
use cedar_policy::EntityUid;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// One call class that is judged otherwise.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: At,
    pub(super) kind: CellKind,
    pub(super) policies: Vec<Arc<str>>,
    pub(super) may_gain: bool,
}

/// A comparison under way.
pub(super) struct Survey<'a> {
    old: Side<'a>,
    new: Side<'a>,
    classes: &'a Classes,
    /// Uids that are not the same in both.
    changed: HashSet<EntityUid>,
    seen: HashSet<At>,
    budget: usize,
    pub(super) found: Vec<Found>,
    pub(super) unexamined: usize,
}

/// Entities that are not the same in both, sorted.
pub(super) fn entities(old: &Snapshot, new: &Snapshot) -> Vec<(EntityUid, EntityChange)> {
    let (old, new) = (&old.parts().entities, &new.parts().entities);
    if Arc::ptr_eq(old, new) {
        return Vec::new();
    }
    let mut changed = Vec::new();
    let mut note =
        |uid: EntityUid, kind| changed.push((uid.clone(), EntityChange { uid: uid.to_string(), kind }));
    for entity in old.iter() {
        match new.get(&entity.uid()) {
            None => note(entity.uid(), ChangeKind::Removed),
            Some(other) if !entity.deep_eq(other) => note(entity.uid(), ChangeKind::Changed),
            Some(_) => {}
        }
    }
    for entity in new.iter().filter(|entity| old.get(&entity.uid()).is_none()) {
        note(entity.uid(), ChangeKind::Added);
    }
    changed.sort_by(|a, b| a.1.cmp(&b.1));
    changed
}

impl<'a> Survey<'a> {
    pub(super) fn new(
        snapshots: [&'a Snapshot; 2],
        classes: &'a Classes,
        changed: HashSet<EntityUid>,
        budget: usize,
    ) -> Survey<'a> {
        let [old, new] = snapshots;
        let (old, new) = (Side::new(old, new, classes), Side::new(new, old, classes));
        Survey { old, new, classes, changed, seen: HashSet::new(), budget, found: Vec::new(), unexamined: 0 }
    }

    /// Everything in reach of those policies, as they were and as they are.
    pub(super) fn policies(&mut self, snapshots: [&Snapshot; 2], changes: &[PolicyChange]) {
        for change in changes.iter().filter(|change| change.kind != ChangeKind::Moved) {
            let [old, new] = snapshots.map(|snapshot| snapshot.rule(&change.id));
            let live = |rule: Option<&'_ Rule>| rule.is_some_and(|rule| !rule.notes.is_shadow);
            if old.zip(new).is_some_and(|(old, new)| judges_alike(old, new)) {
                continue;
            }
            let reach = [
                old.filter(|_| live(old)).map(|rule| self.old.reach(rule)),
                new.filter(|_| live(new)).map(|rule| self.new.reach(rule)),
            ];
            for (callers, actions, targets) in reach.into_iter().flatten() {
                self.compare_all(&callers, &actions, &targets);
            }
        }
    }

    /// Everything about callers and targets that are not the same entities in both.
    pub(super) fn entities(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let is_other = |at: &usize| differs(&self.changed, self.old.caller(*at), self.new.caller(*at));
        let callers: Vec<usize> = (0..self.classes.callers.len()).filter(is_other).collect();
        let is_other = |at: &usize| differs(&self.changed, self.old.target(*at), self.new.target(*at));
        let targets: Vec<usize> = (0..self.classes.targets.len()).filter(is_other).collect();
        for caller in callers {
            if self.is_over() {
                self.unexamined += 1;
                continue;
            }
            let is_matched =
                |side: &Side<'_>, rule: &Rule| matches(side.caller(caller), &rule.scope.principal);
            for (_, actions, targets) in self.rules(is_matched) {
                self.compare_all(&[caller], &actions, &targets);
            }
        }
        for target in targets {
            if self.is_over() {
                self.unexamined += 1;
                continue;
            }
            let is_matched =
                |side: &Side<'_>, rule: &Rule| matches(side.target(target), &rule.scope.resource);
            for (callers, actions, _) in self.rules(is_matched) {
                self.compare_all(&callers, &actions, &[target]);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.seen.len() >= self.budget
    }

    /// What live rules of either side reach, of those that are matched and do not say the same on the other side.
    fn rules(
        &self,
        is_matched: impl Fn(&Side<'_>, &Rule) -> bool,
    ) -> Vec<(Vec<usize>, Vec<usize>, Vec<usize>)> {
        let of = |side: &Side<'_>, other: &Side<'_>| {
            let is_alike = |rule: &Arc<Rule>| {
                let twin = other.parts().by_id.get(&rule.id).and_then(|at| other.parts().rules.get(*at));
                let is_same = twin.is_some_and(|twin| Arc::ptr_eq(twin, rule));
                is_same && rule.reads.is_none() && is_matched(other, rule)
            };
            let near = side
                .parts()
                .rules
                .iter()
                .filter(|rule| !rule.notes.is_shadow && is_matched(side, rule) && !is_alike(rule));
            near.map(|rule| side.reach(rule)).collect::<Vec<_>>()
        };
        let mut all = of(&self.old, &self.new);
        all.extend(of(&self.new, &self.old));
        all
    }

    fn compare_all(&mut self, callers: &[usize], actions: &[usize], targets: &[usize]) {
        for action in actions {
            for target in targets {
                for caller in callers {
                    let at = At { caller: *caller, action: *action, target: *target };
                    if !(self.old.is_asked(at) || self.new.is_asked(at)) || self.seen.contains(&at) {
                        continue;
                    }
                    if self.is_over() {
                        self.unexamined += 1;
                        continue;
                    }
                    self.seen.insert(at);
                    self.compare(at);
                }
            }
        }
    }

    fn compare(&mut self, at: At) {
        let (old, new) = (self.old.left(at), self.new.left(at));
        let (lost, gained) = (without(&old, &new), without(&new, &old));
        if lost.is_empty() && gained.is_empty() {
            return;
        }
        let (kind, may_gain) = match (verdict(&old), verdict(&new)) {
            (Verdict::Allow, Verdict::Allow) | (Verdict::Deny, Verdict::Deny) => return,
            (Verdict::Deny, Verdict::Allow) => (CellKind::Gains, true),
            (Verdict::Allow, Verdict::Deny) => (CellKind::Loses, false),
            (Verdict::Allow, Verdict::Depends) | (Verdict::Depends, Verdict::Deny) => {
                (CellKind::Depends, false)
            }
            (Verdict::Deny, Verdict::Depends) | (Verdict::Depends, Verdict::Allow) => {
                (CellKind::Depends, true)
            }
            (Verdict::Depends, Verdict::Depends) => {
                let opens = |left: &[&Left<'_>], effect| left.iter().any(|one| one.rule.effect == effect);
                (CellKind::Depends, opens(&gained, Effect::Allow) || opens(&lost, Effect::Deny))
            }
        };
        let policies: BTreeSet<&Arc<str>> = lost.iter().chain(&gained).map(|one| &one.rule.id).collect();
        let policies = policies.into_iter().cloned().collect();
        self.found.push(Found { at, kind, policies, may_gain });
    }

    /// Conditions that the verdict hangs on, as policies write them: what is new, and what was before.
    pub(super) fn clause(&self, at: At) -> Option<String> {
        let (old, new) = (self.old.left(at), self.new.left(at));
        let told = |left: &[&Left<'_>]| {
            let mut all: Vec<String> =
                left.iter().filter(|one| !one.is_constant()).map(|one| conditions(one.rule)).collect();
            all.sort_unstable();
            all.join("; ")
        };
        let all = |left: &'_ [Left<'a>]| told(&left.iter().collect::<Vec<_>>());
        let (before, now) = match (verdict(&old), verdict(&new)) {
            (Verdict::Depends, Verdict::Depends) => (told(&without(&old, &new)), told(&without(&new, &old))),
            (Verdict::Depends, _) => (all(&old), String::new()),
            (_, _) => (String::new(), all(&new)),
        };
        match (before.is_empty(), now.is_empty()) {
            (true, true) => None,
            (true, false) => Some(now),
            (false, true) => Some(format!("before: {before}")),
            (false, false) => Some(format!("{now}; before: {before}")),
        }
    }
}

fn matches(one: Option<&Keyed>, term: &crate::scope::Term) -> bool {
    one.is_some_and(|one| one.lineage.matches(term))
}

fn differs(changed: &HashSet<EntityUid>, old: Option<&Keyed>, new: Option<&Keyed>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => changed.contains(&old.lineage.uid) || !old.lineage.is_same(&new.lineage),
        (None, None) => false,
        _ => true,
    }
}

/// What is left on one side and not in the same way on the other.
fn without<'s, 'a>(left: &'s [Left<'a>], other: &[Left<'a>]) -> Vec<&'s Left<'a>> {
    left.iter().filter(|one| !other.iter().any(|other| is_same(one, other))).collect()
}

fn is_same(a: &Left<'_>, b: &Left<'_>) -> bool {
    let is_same_rule = a.rule.id == b.rule.id
        && a.rule.effect == b.rule.effect
        && a.rule.notes.expires == b.rule.notes.expires;
    is_same_rule
        && match (&a.when, &b.when) {
            (When::Always, When::Always) => true,
            (When::Holds(a), When::Holds(b)) => Arc::ptr_eq(a, b) || a == b,
            // Stock Cedar may read any entity.
            (When::Slow, When::Slow) => Arc::ptr_eq(a.rule, b.rule) || has_same_conditions(a.rule, b.rule),
            _ => false,
        }
}
