//! What changes between two snapshots, told in policies and in calls (IM1): which policies came, went or read
//! otherwise, and who may now call what, may no longer, or may under other conditions.
//!
//! The policy store asks before it commits, the command line prints the answer, and `widens` decides whether a second
//! person must look. Only calls that a changed policy or a changed entity can touch are compared.

mod cells;
mod changes;
mod classes;
mod json;
mod side;
mod text;

use crate::rule::Rule;
use crate::{Action, Effect, Principal, PrincipalKind, Resource, ResourceKind, Role, Snapshot};
use cedar_policy::EntityUid;
use cells::{Found, Survey};
use classes::Classes;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Cells, and changed entities, that a [`Difference`] lists; the rest are counted.
pub const LISTED: usize = 200;

/// Everything that differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Difference {
    /// Policies that are not the same in both, by id.
    pub policies: Vec<PolicyChange>,
    /// Entities that are not the same in both, the first [`LISTED`] of them.
    pub entities: Vec<EntityChange>,
    /// Calls that are judged otherwise, the first [`LISTED`] of them: gains, then what depends, then losses.
    pub cells: Vec<Cell>,
    /// How many of each there are, listed or not.
    pub counts: Counts,
    /// Something may be allowed that was not, or is judged or recorded less strictly.
    pub widens: bool,
}

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Policies by kind of change.
    pub policies: [usize; ChangeKind::ALL.len()],
    /// Changed entities.
    pub entities: usize,
    /// Calls that are allowed now and were not.
    pub gains: usize,
    /// Calls that were allowed and are not.
    pub loses: usize,
    /// Calls whose verdict hangs on conditions that differ.
    pub depends: usize,
    /// Calls that were not compared, because a change touches too many; they count as gains for `widens`.
    pub unexamined: usize,
}

/// One policy that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Its id.
    pub id: Arc<str>,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Permit or forbid, in the newer snapshot that has it.
    pub effect: Effect,
    /// Shipped with the product, in either.
    pub is_baseline: bool,
    /// Its file, in the newer snapshot that has it.
    pub file: Arc<str>,
    /// Line of the effect keyword there.
    pub line: usize,
    /// `@owner` there.
    pub owner: Option<String>,
    /// Parts that differ: `effect`, `principal`, `action`, `resource`, `conditions`, `@mode`, `place`, ..
    pub parts: Vec<String>,
    /// By itself it makes judgement or record less strict: a forbid removed or narrowed, an annotation loosened.
    pub loosens: bool,
}

/// What happened to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its effect, scope or conditions differ.
    Changed,
    /// Only annotations differ.
    Annotated,
    /// Only its file or line differs.
    Moved,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [ChangeKind; 5] = [
        ChangeKind::Added,
        ChangeKind::Removed,
        ChangeKind::Changed,
        ChangeKind::Annotated,
        ChangeKind::Moved,
    ];

    /// `added`, `removed`, `changed`, `annotated` or `moved`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
            ChangeKind::Annotated => "annotated",
            ChangeKind::Moved => "moved",
        }
    }
}

/// One entity that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntityChange {
    /// Its uid as Cedar writes it.
    pub uid: String,
    /// `Added`, `Removed` or `Changed`.
    pub kind: ChangeKind,
}

/// Calls of one caller class that are judged otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Who calls.
    pub principal: Caller,
    /// What is asked for.
    pub action: Action,
    /// What is called.
    pub resource: Target,
    /// What became of the verdict.
    pub kind: CellKind,
    /// The policies that make the difference.
    pub policies: Vec<Arc<str>>,
    /// Conditions the verdict hangs on, where it [`CellKind::Depends`].
    pub clause: Option<String>,
    /// Where it depends: something may be allowed that was not.
    pub may_gain: bool,
}

/// What became of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CellKind {
    /// Denied before, allowed now.
    Gains,
    /// The conditions that decide differ.
    Depends,
    /// Allowed before, denied now.
    Loses,
}

impl CellKind {
    /// `gains`, `depends` or `loses`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CellKind::Gains => "gains",
            CellKind::Depends => "depends",
            CellKind::Loses => "loses",
        }
    }
}

/// Callers that are judged alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Exactly that one.
    One(Principal),
    /// Everybody of that kind whom neither entities nor policies name.
    Others {
        /// The kind.
        kind: PrincipalKind,
        /// Their trust domain; `None` stands for every one that is not named either, and for kinds without.
        trust_domain: Option<String>,
        /// Their roles.
        roles: Vec<Role>,
    },
}

/// Targets that are judged alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Exactly that one.
    One(Resource),
    /// Everything of that kind that neither entities nor policies name.
    Others {
        /// The kind.
        kind: ResourceKind,
        /// Trust domain or policy scope they are in, where that tells them apart.
        within: Option<String>,
    },
}

/// Calls that are compared at most: as much as is told within a second.
const EXAMINED: usize = 50_000;

/// Compares two snapshots.
#[must_use]
pub fn diff(old: &Snapshot, new: &Snapshot) -> Difference {
    compare(old, new, EXAMINED, LISTED)
}

fn compare(old: &Snapshot, new: &Snapshot, budget: usize, listed: usize) -> Difference {
    let policies = changes::policies(old, new);
    let entities = cells::entities(old, new);
    let mut counts = Counts { entities: entities.len(), ..Counts::default() };
    for change in &policies {
        if let Some(count) = counts.policies.get_mut(change.kind as usize) {
            *count += 1;
        }
    }
    let mut difference = Difference { policies, counts, ..Difference::default() };
    if difference.policies.is_empty() && entities.is_empty() {
        return difference;
    }
    let classes = Classes::of([old, new]);
    let (uids, changes): (HashSet<_>, Vec<_>) = entities.into_iter().unzip();
    let mut survey = Survey::new([old, new], &classes, uids, budget);
    survey.policies([old, new], &difference.policies);
    survey.entities();
    let mut found = std::mem::take(&mut survey.found);
    found.sort_by(|a, b| (a.kind, &a.policies, a.at).cmp(&(b.kind, &b.policies, b.at)));
    let count = |kind| found.iter().filter(|found| found.kind == kind).count();
    let counts = &mut difference.counts;
    counts.gains = count(CellKind::Gains);
    counts.depends = count(CellKind::Depends);
    counts.loses = count(CellKind::Loses);
    counts.unexamined = survey.unexamined;
    difference.widens = difference.policies.iter().any(|change| change.loosens)
        || found.iter().any(|found| found.may_gain)
        || survey.unexamined > 0;
    let cell = |found: Found| {
        let (principal, _) = classes.callers.get(found.at.caller)?;
        let (resource, _) = classes.targets.get(found.at.target)?;
        Some(Cell {
            principal: principal.clone(),
            action: side::actions().nth(found.at.action)?,
            resource: resource.clone(),
            kind: found.kind,
            clause: survey.clause(found.at).filter(|_| found.kind == CellKind::Depends),
            policies: found.policies,
            may_gain: found.may_gain,
        })
    };
    difference.cells = found.into_iter().take(listed).filter_map(cell).collect();
    difference.entities = changes.into_iter().take(listed).collect();
    difference
}

/// Entities that are not the same in both.
pub(crate) fn changed_entities(old: &Snapshot, new: &Snapshot) -> Vec<EntityUid> {
    cells::entities(old, new).into_iter().map(|(uid, _)| uid).collect()
}

/// Whether two readings of a policy judge the same calls alike.
pub(crate) fn is_same_rule(old: &Rule, new: &Rule) -> bool {
    changes::judges_alike(old, new)
}

impl Difference {
    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.counts.entities == 0 && self.cells.is_empty()
    }

    /// A shipped policy differs, or one of the site takes its id.
    #[must_use]
    pub fn touches_baseline(&self) -> bool {
        self.policies.iter().any(|change| change.is_baseline)
    }

    /// Number of policies of that kind of change.
    #[must_use]
    pub fn count(&self, kind: ChangeKind) -> usize {
        self.counts.policies.get(kind as usize).copied().unwrap_or_default()
    }

    /// Where each listed policy stands.
    fn places(&self) -> BTreeMap<&str, (&str, usize)> {
        self.policies.iter().map(|change| (&*change.id, (&*change.file, change.line))).collect()
    }
}

#[cfg(test)]
mod tests;
