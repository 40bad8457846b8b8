//! The reverse questions: who can do this, and what can that caller do (`who-can`, `what-can`).
//!
//! Answered from a snapshot alone: every caller it knows one by one, everybody else by class. What entities decide is
//! folded; what only a call can tell is left as a condition in Cedar. A line never says more than [`crate::Engine`]
//! would decide: `allow` holds for every call, `depends` for those that meet the condition, and every pair that is not
//! listed is denied whatever the call. Called by `portcullis`, on a thread that may block.

mod alike;
mod class;
mod condition;
mod fold;
mod hint;
mod json;
mod pair;

pub use class::{Class, Who};
pub use condition::Condition;
pub use hint::{hints, nearest_action};

use crate::{Action, AdminAction, OwnedFacts, Principal, Reason, Resource, Snapshot, explain::PolicyPlace};
use alike::Alike;
use base_ports::UnixTime;
use class::{callers, members};
use pair::{Asked, Pairs};
use std::collections::HashMap;

/// How much to answer, and when.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// The instant that `@expires` is compared with.
    pub now: UnixTime,
    /// Lines of one answer.
    pub limit: usize,
    /// `next` of the answer before.
    pub after: Option<String>,
}

/// Lines of an answer, sorted, and how many pairs there are in all.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Those that are allowed, or may be.
    pub items: Vec<Standing>,
    /// Where the next answer begins; `None` at the end.
    pub next: Option<String>,
    /// All pairs by verdict, whatever the limit.
    pub counts: Counts,
}

/// Pairs by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Allowed whatever the call.
    pub allow: usize,
    /// Allowed for calls that meet a condition.
    pub depends: usize,
    /// Never allowed.
    pub deny: usize,
}

/// One line: a caller, what it can do on what, and by which policies.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The caller, or everybody of a kind whom the snapshot does not know.
    pub who: Who,
    /// What it can do; several where they stand alike.
    pub actions: Vec<Action>,
    /// On what.
    pub resource: Resource,
    /// Always, or under a condition.
    pub verdict: Verdict,
    /// The policies behind the verdict.
    pub policies: Vec<PolicyPlace>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every call is allowed.
    Allow,
    /// Calls that meet this are allowed, all others are not.
    Depends(Condition),
}

/// Who can do `action` on `resource`.
///
/// # Errors
/// The snapshot does not know the resource, or nobody can ask for that action on it.
pub fn who_can(
    snapshot: &Snapshot,
    action: Action,
    resource: &Resource,
    options: &AskOptions,
) -> Result<Answers, Reason> {
    snapshot.resource(resource)?;
    let environments = &snapshot.parts().environments;
    if !environments.iter().any(|(_, a, kind)| *a == action && *kind == resource.kind()) {
        return Err(Reason::NoPermit);
    }
    let facts = OwnedFacts::assumed(action, resource);
    let mut pairs = Pairs::new(snapshot, options.now);
    let alike = Alike::of(snapshot, &mut pairs, action, resource)?;
    let mut known = HashMap::new();
    let mut lines = Lines::default();
    for who in callers(snapshot) {
        if !environments.contains(&(who.principal().kind(), action, resource.kind())) {
            continue;
        }
        let asked = Asked { who: &who, action, resource, facts: &facts };
        let standing = match alike.likeness(&who) {
            Some(likeness) => known.entry(likeness).or_insert_with(|| pairs.standing(&asked)).clone(),
            None => pairs.standing(&asked),
        };
        lines.add(&who, action, resource, standing);
    }
    Ok(lines.page(options))
}

/// What `principal` can do, on every resource the snapshot has; with `action`, that action alone.
#[must_use]
pub fn what_can(
    snapshot: &Snapshot,
    principal: &Principal,
    action: Option<Action>,
    options: &AskOptions,
) -> Answers {
    let who = Who::One(principal.clone());
    let actions = Action::CALLS.iter().copied().chain(AdminAction::ALL.iter().copied().map(Action::Admin));
    let actions: Vec<Action> =
        actions.filter(|candidate| action.is_none_or(|action| action == *candidate)).collect();
    let environments = &snapshot.parts().environments;
    let mut pairs = Pairs::new(snapshot, options.now);
    let mut lines = Lines::default();
    for resource in members(snapshot) {
        for action in &actions {
            if environments.contains(&(principal.kind(), *action, resource.kind())) {
                let facts = OwnedFacts::assumed(*action, &resource);
                let asked = Asked { who: &who, action: *action, resource: &resource, facts: &facts };
                lines.add(&who, *action, &resource, pairs.standing(&asked));
            }
        }
    }
    lines.page(options)
}

#[derive(Default)]
struct Lines {
    all: Vec<Standing>,
    counts: Counts,
}

impl Lines {
    fn add(
        &mut self,
        who: &Who,
        action: Action,
        resource: &Resource,
        standing: Option<(Verdict, Vec<PolicyPlace>)>,
    ) {
        let Some((verdict, policies)) = standing else {
            self.counts.deny += 1;
            return;
        };
        match verdict {
            Verdict::Allow => self.counts.allow += 1,
            Verdict::Depends(_) => self.counts.depends += 1,
        }
        if let Some(last) = self.all.last_mut()
            && (&last.who, &last.resource, &last.verdict, &last.policies)
                == (who, resource, &verdict, &policies)
        {
            last.actions.push(action);
            return;
        }
        self.all.push(Standing {
            who: who.clone(),
            actions: vec![action],
            resource: resource.clone(),
            verdict,
            policies,
        });
    }

    fn page(mut self, options: &AskOptions) -> Answers {
        self.all.sort_by_cached_key(Standing::key);
        let mut items = self.all;
        if let Some(after) = &options.after {
            items.retain(|line| line.key() > *after);
        }
        let has_more = items.len() > options.limit;
        items.truncate(options.limit);
        let next = items.last().filter(|_| has_more).map(Standing::key);
        Answers { items, next, counts: self.counts }
    }
}

impl Standing {
    /// Classes before callers that are known, then by name.
    fn key(&self) -> String {
        let is_known = matches!(self.who, Who::One(_));
        let action = self.actions.first().map(|action| action.as_str()).unwrap_or_default();
        format!("{} {} {} {action}", u8::from(is_known), self.who, self.resource)
    }
}

/// Everybody that answers are about, for the tests.
#[cfg(test)]
pub(crate) fn everybody(snapshot: &Snapshot) -> Vec<Who> {
    callers(snapshot)
}
