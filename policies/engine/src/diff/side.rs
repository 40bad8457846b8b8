//! One of the two snapshots, prepared for many questions: what its policies leave of one caller, action and target.

use super::classes::Classes;
use crate::{
    AccessRequest, Action, AdminAction, Effect, OwnedFacts, ResourceKind, Snapshot,
    logic::{Expr, Fold, Logic},
    rule::Rule,
    scope::{Keyed, Lineage, Term},
    snapshot::Parts,
    uid::cedar_uid,
};
use base_ports::UnixTime;
use cedar_policy::ActionConstraint;
use std::{cell::OnceCell, collections::HashSet, ops::Range, sync::Arc};

/// A snapshot with everybody and everything in their places.
pub(super) struct Side<'a> {
    snapshot: &'a Snapshot,
    classes: &'a Classes,
    /// Filled when they are asked for: most changes reach few.
    callers: Vec<Place>,
    targets: Vec<Place>,
    pub(super) actions: Vec<(Action, Lineage)>,
    /// What either snapshot lets anybody ask of which type of target.
    asked: HashSet<(Action, ResourceKind)>,
}

/// Where a caller or target stands; `None` where the snapshot refuses to judge.
type Place = OnceCell<Option<Keyed>>;

/// One caller, action and target by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) caller: usize,
    pub(super) action: usize,
    pub(super) target: usize,
}

/// What is left of a policy whose scope matches.
#[derive(Debug, Clone)]
pub(super) struct Left<'a> {
    pub(super) rule: &'a Arc<Rule>,
    pub(super) when: When,
}

#[derive(Debug, Clone)]
pub(super) enum When {
    /// It holds for every call.
    Always,
    /// Calls tell.
    Holds(Arc<Expr>),
    /// Stock Cedar tells.
    Slow,
}

/// The verdict on all calls of one caller, action and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    Depends,
}

/// All actions, in one order for both sides.
pub(super) fn actions() -> impl Iterator<Item = Action> {
    Action::CALLS.iter().copied().chain(AdminAction::ALL.iter().copied().map(Action::Admin))
}

impl<'a> Side<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, other: &Snapshot, classes: &'a Classes) -> Side<'a> {
        let action =
            |action: Action| (action, snapshot.lineage(cedar_uid(action.entity_type(), action.as_str())));
        Side {
            snapshot,
            classes,
            callers: classes.callers.iter().map(|_| Place::new()).collect(),
            targets: classes.targets.iter().map(|_| Place::new()).collect(),
            actions: actions().map(action).collect(),
            asked: [snapshot, other]
                .into_iter()
                .flat_map(|side| {
                    side.parts().environments.iter().map(|(_, action, target)| (*action, *target))
                })
                .collect(),
        }
    }

    pub(super) fn parts(&self) -> &'a Parts {
        self.snapshot.parts()
    }

    /// The caller of that place; none where the snapshot refuses to judge.
    pub(super) fn caller(&self, at: usize) -> Option<&Keyed> {
        let (place, (_, stands)) = self.callers.get(at).zip(self.classes.callers.get(at))?;
        let find = || self.snapshot.principal(stands).ok().map(|(lineage, _)| Keyed::of(lineage));
        place.get_or_init(find).as_ref()
    }

    /// The same for a target.
    pub(super) fn target(&self, at: usize) -> Option<&Keyed> {
        let (place, (_, stands)) = self.targets.get(at).zip(self.classes.targets.get(at))?;
        let find = || self.snapshot.resource(stands).ok().map(|(lineage, _)| Keyed::of(lineage));
        place.get_or_init(find).as_ref()
    }

    /// Whether anybody can ask that.
    pub(super) fn is_asked(&self, at: At) -> bool {
        let of = |at: At| {
            let (caller, _) = self.classes.callers.get(at.caller).map(|(_, stands)| (stands.kind(), ()))?;
            let target = self.classes.targets.get(at.target).map(|(_, stands)| stands.kind())?;
            let (action, _) = self.actions.get(at.action)?;
            Some((caller, *action, target))
        };
        of(at).is_some_and(|environment| self.parts().environments.contains(&environment))
    }

    /// Callers, actions and targets that the scope of `rule` matches, without targets that nobody can ask that of.
    pub(super) fn reach(&self, rule: &Rule) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let actions = self.reach_of(&rule.scope.action);
        let is_of = |action: Action| {
            actions.iter().any(|at| self.actions.get(*at).is_some_and(|(known, _)| *known == action))
        };
        let kinds: HashSet<ResourceKind> =
            self.asked.iter().filter(|(action, _)| is_of(*action)).map(|(_, kind)| *kind).collect();
        let (principal, resource) = (&*rule.scope.principal, &*rule.scope.resource);
        let is_caller = |at: &usize| {
            let named = self.classes.callers.get(*at).map(|(_, stands)| (stands.entity_type(), stands.id()));
            named.is_some_and(|(kind, id)| may_match(principal, kind, id))
                && self.caller(*at).is_some_and(|caller| caller.lineage.matches(principal))
        };
        let is_target = |at: &usize| {
            let named = self.classes.targets.get(*at).map(|(_, stands)| (stands.kind(), stands.id()));
            named.is_some_and(|(kind, id)| kinds.contains(&kind) && may_match(resource, kind.as_str(), id))
                && self.target(*at).is_some_and(|target| target.lineage.matches(resource))
        };
        (
            Range { start: 0, end: self.callers.len() }.filter(is_caller).collect(),
            actions,
            Range { start: 0, end: self.targets.len() }.filter(is_target).collect(),
        )
    }

    fn reach_of(&self, constraint: &ActionConstraint) -> Vec<usize> {
        let actions = self.actions.iter().enumerate();
        actions.filter(|(_, (_, lineage))| lineage.matches_action(constraint)).map(|(at, _)| at).collect()
    }

    /// Live policies whose scope matches and that are not false for every call; none where nothing is judged.
    pub(super) fn left(&self, at: At) -> Vec<Left<'a>> {
        let parts = self.parts();
        let (Some(caller), Some(target), Some((action, lineage))) =
            (self.caller(at.caller), self.target(at.target), self.actions.get(at.action))
        else {
            return Vec::new();
        };
        if !self.is_asked(at) {
            return Vec::new();
        }
        let found = parts.index.find_keyed(caller, target).into_iter().filter_map(|at| parts.rules.get(at));
        let live = found.filter(|rule| !rule.notes.is_shadow && lineage.matches_action(&rule.scope.action));
        let live: Vec<&Arc<Rule>> = live.collect();
        if live.iter().all(|rule| matches!(rule.logic, Logic::Always)) {
            return live.into_iter().map(|rule| Left { rule, when: When::Always }).collect();
        }
        self.folded(live, at, *action)
    }

    fn folded(&self, live: Vec<&'a Arc<Rule>>, at: At, action: Action) -> Vec<Left<'a>> {
        let (Some((caller, principal)), Some((_, resource))) =
            (self.classes.callers.get(at.caller), self.classes.targets.get(at.target))
        else {
            return Vec::new();
        };
        let facts = OwnedFacts::assumed(action, resource);
        let now = UnixTime::from_secs(0);
        let request = AccessRequest { principal, action, resource, facts: &facts, now, extra: None };
        let Ok(cast) = self.snapshot.cast(&request) else { return Vec::new() };
        let fold = Fold::new(self.snapshot, &cast, &request, matches!(caller, super::Caller::One(_)));
        let left = |rule: &'a Arc<Rule>| {
            let when = match &rule.logic {
                Logic::Always => When::Always,
                Logic::Slow(_) => When::Slow,
                Logic::When(when) => {
                    let folded = fold.fold(when);
                    match (folded.as_truth(), rule.is_permit()) {
                        (Some(Ok(true)), _) => When::Always,
                        (Some(Ok(false)), _) | (Some(Err(())), true) => return None,
                        // A forbid that cannot be evaluated denies (SE1).
                        (Some(Err(())), false) => When::Always,
                        (None, _) => When::Holds(folded),
                    }
                }
            };
            Some(Left { rule, when })
        };
        live.into_iter().filter_map(left).collect()
    }
}

impl Left<'_> {
    /// Whether nothing a call brings changes it.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.when, When::Always) && self.rule.notes.expires.is_none()
    }
}

/// Whether a term can match an entity of that type and id, whatever it is in.
fn may_match(term: &Term, kind: &str, id: &str) -> bool {
    match term {
        Term::Eq(uid) => uid.id().unescaped() == id && uid.type_name().to_string() == kind,
        Term::Any | Term::In(_) | Term::Is(_) | Term::IsIn(..) => true,
    }
}

/// The verdict that follows (SE1).
pub(super) fn verdict(left: &[Left<'_>]) -> Verdict {
    let any = |effect: Effect, is_constant: bool| {
        left.iter().any(|one| one.rule.effect == effect && one.is_constant() == is_constant)
    };
    if any(Effect::Deny, true) || !(any(Effect::Allow, true) || any(Effect::Allow, false)) {
        Verdict::Deny
    } else if any(Effect::Allow, true) && !any(Effect::Deny, false) {
        Verdict::Allow
    } else {
        Verdict::Depends
    }
}
