//! Scopes of policies: who a rule can be about at all, decided without looking at any fact.
//! Slicing by scope is exact, because a scope never errors (EN3).

use crate::{
    compile::Shared,
    rule::Rule,
    uid::{hash_of, placeless, placeless_type},
};
use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use std::{collections::HashSet, sync::Arc};

/// What a scope says about principal or resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    Any,
    Eq(EntityUid),
    In(EntityUid),
    Is(EntityTypeName),
    IsIn(EntityTypeName, EntityUid),
}

/// The three parts of a scope.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) principal: Arc<Term>,
    pub(crate) action: Arc<ActionConstraint>,
    pub(crate) resource: Arc<Term>,
    /// Of the principal and of the resource term, for [`ScopeIndex`].
    keys: (u64, u64),
}

impl Scope {
    pub(crate) fn of(policy: &Policy, shared: &Shared) -> Scope {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Term::Any,
            PrincipalConstraint::In(uid) => Term::In(placeless(&uid)),
            PrincipalConstraint::Eq(uid) => Term::Eq(placeless(&uid)),
            PrincipalConstraint::Is(kind) => Term::Is(placeless_type(&kind)),
            PrincipalConstraint::IsIn(kind, uid) => Term::IsIn(placeless_type(&kind), placeless(&uid)),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Term::Any,
            ResourceConstraint::In(uid) => Term::In(placeless(&uid)),
            ResourceConstraint::Eq(uid) => Term::Eq(placeless(&uid)),
            ResourceConstraint::Is(kind) => Term::Is(placeless_type(&kind)),
            ResourceConstraint::IsIn(kind, uid) => Term::IsIn(placeless_type(&kind), placeless(&uid)),
        };
        let action = match policy.action_constraint() {
            ActionConstraint::Any => ActionConstraint::Any,
            ActionConstraint::In(uids) => ActionConstraint::In(uids.iter().map(placeless).collect()),
            ActionConstraint::Eq(uid) => ActionConstraint::Eq(placeless(&uid)),
        };
        let keys = (hash_of(&principal), hash_of(&resource));
        let (principal, resource) = (shared.term(principal), shared.term(resource));
        Scope { principal, action: shared.action(action), resource, keys }
    }

    /// Every entity it names.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &EntityUid> {
        let actions: &[EntityUid] = match &*self.action {
            ActionConstraint::Any => &[],
            ActionConstraint::In(uids) => uids,
            ActionConstraint::Eq(uid) => std::slice::from_ref(uid),
        };
        self.principal.uid().into_iter().chain(actions).chain(self.resource.uid())
    }

    fn key(&self) -> u64 {
        join(self.keys.0, self.keys.1)
    }

    /// How much it narrows; orders near misses.
    pub(crate) fn specificity(&self) -> u32 {
        let action = match &*self.action {
            ActionConstraint::Any => 0,
            ActionConstraint::In(_) => 1,
            ActionConstraint::Eq(_) => 3,
        };
        self.principal.specificity() + action + self.resource.specificity()
    }
}

impl Term {
    fn uid(&self) -> Option<&EntityUid> {
        match self {
            Term::Any | Term::Is(_) => None,
            Term::Eq(uid) | Term::In(uid) | Term::IsIn(_, uid) => Some(uid),
        }
    }

    fn specificity(&self) -> u32 {
        match self {
            Term::Any => 0,
            Term::Is(_) => 1,
            Term::In(_) | Term::IsIn(..) => 2,
            Term::Eq(_) => 3,
        }
    }
}

/// An entity with everything it is in, itself included.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    pub(crate) uid: EntityUid,
    up: HashSet<EntityUid>,
}

impl Lineage {
    pub(crate) fn new(uid: EntityUid, ancestors: impl IntoIterator<Item = EntityUid>) -> Lineage {
        let mut up: HashSet<EntityUid> = ancestors.into_iter().collect();
        up.insert(uid.clone());
        Lineage { uid, up }
    }

    /// The entity itself and its ancestors.
    pub(crate) fn all(&self) -> impl Iterator<Item = &EntityUid> {
        self.up.iter()
    }

    pub(crate) fn is_in(&self, uid: &EntityUid) -> bool {
        self.up.contains(uid)
    }

    /// Whether the entity is below `uid`, not it.
    pub(crate) fn has_ancestor(&self, uid: &EntityUid) -> bool {
        self.uid != *uid && self.up.contains(uid)
    }

    pub(crate) fn matches(&self, term: &Term) -> bool {
        match term {
            Term::Any => true,
            Term::Eq(uid) => self.uid == *uid,
            Term::In(uid) => self.is_in(uid),
            Term::Is(kind) => self.uid.type_name() == kind,
            Term::IsIn(kind, uid) => self.uid.type_name() == kind && self.is_in(uid),
        }
    }

    pub(crate) fn matches_action(&self, constraint: &ActionConstraint) -> bool {
        match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => self.uid == *uid,
            ActionConstraint::In(uids) => uids.iter().any(|uid| self.is_in(uid)),
        }
    }

    /// Whether both are in the same.
    pub(crate) fn is_same(&self, other: &Lineage) -> bool {
        self.uid == other.uid && self.up == other.up
    }

    /// Every term that matches this entity.
    fn terms(&self) -> impl Iterator<Item = Term> + '_ {
        let kind = self.uid.type_name();
        let of_groups =
            self.up.iter().flat_map(|uid| [Term::In(uid.clone()), Term::IsIn(kind.clone(), uid.clone())]);
        [Term::Any, Term::Eq(self.uid.clone()), Term::Is(kind.clone())].into_iter().chain(of_groups)
    }
}

/// A lineage that is looked up often, with the keys of its terms.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    pub(crate) lineage: Lineage,
    keys: Vec<u64>,
}

impl Keyed {
    pub(crate) fn of(lineage: Lineage) -> Keyed {
        Keyed { keys: keys(&lineage), lineage }
    }
}

fn keys(lineage: &Lineage) -> Vec<u64> {
    lineage.terms().map(|term| hash_of(&term)).collect()
}

/// Who is called by whom, as far as scopes tell.
#[derive(Debug, Clone)]
pub(crate) struct Triple {
    pub(crate) principal: Lineage,
    pub(crate) action: Lineage,
    pub(crate) resource: Lineage,
}

impl Triple {
    /// Whether all three parts of a scope match; what is cheap and mostly not so first.
    pub(crate) fn matches(&self, scope: &Scope) -> bool {
        self.principal.matches(&scope.principal)
            && self.resource.matches(&scope.resource)
            && self.action.matches_action(&scope.action)
    }

    /// How many of the three parts of a scope do not match.
    #[cfg(test)]
    pub(crate) fn distance(&self, scope: &Scope) -> usize {
        usize::from(!self.principal.matches(&scope.principal))
            + usize::from(!self.action.matches_action(&scope.action))
            + usize::from(!self.resource.matches(&scope.resource))
    }
}

/// From the principal and resource terms to the rules that carry them: a sorted list, cheap to build anew whenever
/// rules come, go or move.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopeIndex {
    /// Key of the terms, place of the rule.
    entries: Vec<(u64, u32)>,
    rules: Arc<[Arc<Rule>]>,
}

/// With more changes than this the list is sorted anew.
const MOVED: usize = 128;

impl ScopeIndex {
    pub(crate) fn of(rules: &Arc<[Arc<Rule>]>) -> ScopeIndex {
        let mut entries: Vec<(u64, u32)> = rules.iter().map(|rule| rule.scope.key()).zip(0..).collect();
        entries.sort_unstable();
        ScopeIndex { entries, rules: Arc::clone(rules) }
    }

    /// The same, from the index of as many rules of which most are the same.
    pub(crate) fn after(&self, rules: &Arc<[Arc<Rule>]>) -> ScopeIndex {
        let keys = |(old, new): (&Arc<Rule>, &Arc<Rule>)| {
            let is_same = Arc::ptr_eq(old, new) || old.scope.keys == new.scope.keys;
            (!is_same).then(|| (old.scope.key(), new.scope.key()))
        };
        let changed = self.rules.iter().zip(&**rules).map(keys).zip(0..);
        let changed: Vec<_> = changed.filter_map(|(keys, at)| Some((keys?, at))).collect();
        if self.rules.len() != rules.len() || changed.len() > MOVED {
            return ScopeIndex::of(rules);
        }
        let mut entries = self.entries.clone();
        for ((old, new), at) in changed {
            if let Ok(place) = entries.binary_search(&(old, at)) {
                entries.remove(place);
            }
            let place = entries.partition_point(|entry| *entry < (new, at));
            entries.insert(place, (new, at));
        }
        ScopeIndex { entries, rules: Arc::clone(rules) }
    }

    #[cfg(test)]
    pub(crate) fn is_like(&self, other: &ScopeIndex) -> bool {
        self.entries == other.entries
    }

    /// Rules whose principal and resource scopes match, in order; the action is for the caller to check.
    pub(crate) fn find(&self, principal: &Lineage, resource: &Lineage) -> Vec<usize> {
        self.look_up((principal, &keys(principal)), (resource, &keys(resource)))
    }

    /// Rules of which the principal or the resource scope matches, in order: whatever is wrong with one of the others,
    /// it is more than one part of its scope.
    pub(crate) fn near(&self, principal: &Lineage, resource: &Lineage) -> impl Iterator<Item = usize> + '_ {
        let (principals, resources) = (keys(principal), keys(resource));
        let is_near =
            move |scope: &Scope| principals.contains(&scope.keys.0) || resources.contains(&scope.keys.1);
        self.rules.iter().enumerate().filter(move |(_, rule)| is_near(&rule.scope)).map(|(at, _)| at)
    }

    /// The same for lineages with their keys.
    pub(crate) fn find_keyed(&self, principal: &Keyed, resource: &Keyed) -> Vec<usize> {
        self.look_up((&principal.lineage, &principal.keys), (&resource.lineage, &resource.keys))
    }

    fn look_up(
        &self,
        (principal, keys): (&Lineage, &[u64]),
        (resource, resources): (&Lineage, &[u64]),
    ) -> Vec<usize> {
        let mut found = Vec::new();
        let keys = keys.iter().copied();
        for key in keys.flat_map(|principal| resources.iter().map(move |resource| join(principal, *resource)))
        {
            let start = self.entries.partition_point(|(other, _)| *other < key);
            let same = self.entries.iter().skip(start).take_while(|(other, _)| *other == key);
            found.extend(same.filter_map(|(_, at)| usize::try_from(*at).ok()));
        }
        // Two pairs of terms may share a key.
        found.retain(|at: &usize| {
            self.rules.get(*at).is_some_and(|rule| {
                principal.matches(&rule.scope.principal) && resource.matches(&rule.scope.resource)
            })
        });
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn join(principal: u64, resource: u64) -> u64 {
    principal.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ resource
}
