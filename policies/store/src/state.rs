//! The life of a change and the numbers it yields, as pure state machines (ST5, ST6): states, events, guards.
//!
//! Whoever writes a change asks [`Life::after`] first and stores what it answers; whoever numbers or activates a
//! version asks [`Lineage`]. Neither knows a store, a clock or a right: who may cause an event is Cedar's to say.

use crate::content::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Written, or edited since it was checked.
    Draft,
    /// This content was checked and nothing blocks.
    Checked,
    /// Somebody approved this content.
    Approved,
    /// It is a version: signed and numbered.
    Committed,
    /// That version was put into force.
    Activated,
    /// Given up.
    Abandoned,
}

impl Stage {
    /// A stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Draft => "draft",
            Stage::Checked => "checked",
            Stage::Approved => "approved",
            Stage::Committed => "committed",
            Stage::Activated => "activated",
            Stage::Abandoned => "abandoned",
        }
    }

    /// It can still be edited and committed.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Stage::Draft | Stage::Checked | Stage::Approved)
    }
}

/// What can happen to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its files become these.
    Edit { content: Hash },
    /// That content was checked; it passed when nothing blocks.
    Check { content: Hash, passed: bool },
    /// Somebody who saw that content says yes.
    Approve { content: Hash, by: String },
    /// It becomes that version.
    Commit { policies: u64 },
    /// That version came into force.
    Activate,
    /// It is given up.
    Abandon,
}

/// Why an event cannot happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The change has ended, or has not come so far.
    #[error("the change is {}, so it cannot be {wanted}", .stage.as_str())]
    Stage {
        /// Where it stands.
        stage: Stage,
        /// What was asked for.
        wanted: &'static str,
    },
    /// This content was never checked.
    #[error("the change was not checked as it is now")]
    NotChecked,
    /// The check of this content found something that blocks.
    #[error("the last check of the change failed")]
    ChecksFailed,
    /// It was edited after it was read.
    #[error("the change was edited after it was read")]
    Moved,
    /// As many as there can be.
    #[error("the change has {MOST_APPROVALS} approvals, which is the most there can be")]
    TooManyApprovals,
    /// Activating what never was a version.
    #[error("policies v{0} is no version")]
    NeverCommitted(u64),
    /// Numbers in force only grow (ST5).
    #[error("policies v{wanted} is older than v{active}, which is in force; roll back to it instead")]
    Older {
        /// The version asked for.
        wanted: u64,
        /// The version in force.
        active: u64,
    },
}

/// More approvers than this say nothing more.
const MOST_APPROVALS: usize = 64;

/// Everything that decides what may happen to a change next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Life {
    pub(crate) stage: Stage,
    /// SHA-256 over the files it would yield.
    pub(crate) content: Hash,
    /// What was checked last, and whether it passed.
    pub(crate) checked: Option<(Hash, bool)>,
    /// Who approved `content`; kept in keys of their own (ST2).
    #[serde(skip)]
    pub(crate) approvals: BTreeSet<String>,
    pub(crate) version: Option<u64>,
}

impl Life {
    pub(crate) fn new(content: Hash) -> Life {
        Life { stage: Stage::Draft, content, checked: None, approvals: BTreeSet::new(), version: None }
    }

    /// This content was checked, and nothing blocks.
    pub(crate) fn is_sound(&self) -> bool {
        self.checked == Some((self.content, true))
    }

    /// What it is after `event`, or why that cannot happen.
    pub(crate) fn after(&self, event: &Event) -> Result<Life, Refusal> {
        let mut next = self.clone();
        match event {
            Event::Edit { content } => {
                self.must_be_open("edited")?;
                if *content != self.content {
                    next = Life::new(*content);
                }
            }
            Event::Check { content, passed } => {
                self.must_be_open("checked")?;
                self.must_be(*content)?;
                next.checked = Some((*content, *passed));
                if !passed {
                    next.approvals.clear();
                }
            }
            Event::Approve { content, by } => {
                self.must_be_open("approved")?;
                self.must_be(*content)?;
                self.must_be_sound()?;
                next.approvals.insert(by.clone());
                if next.approvals.len() > MOST_APPROVALS {
                    return Err(Refusal::TooManyApprovals);
                }
            }
            Event::Commit { policies } => {
                self.must_be_open("committed")?;
                self.must_be_sound()?;
                next.version = Some(*policies);
                next.stage = Stage::Committed;
                return Ok(next);
            }
            Event::Activate if self.stage == Stage::Committed => {
                next.stage = Stage::Activated;
                return Ok(next);
            }
            Event::Activate => return Err(Refusal::Stage { stage: self.stage, wanted: "activated" }),
            Event::Abandon => {
                self.must_be_open("abandoned")?;
                next.stage = Stage::Abandoned;
                return Ok(next);
            }
        }
        next.stage = match (next.is_sound(), next.approvals.is_empty()) {
            (false, _) => Stage::Draft,
            (true, true) => Stage::Checked,
            (true, false) => Stage::Approved,
        };
        Ok(next)
    }

    fn must_be_open(&self, wanted: &'static str) -> Result<(), Refusal> {
        if self.stage.is_open() { Ok(()) } else { Err(Refusal::Stage { stage: self.stage, wanted }) }
    }

    fn must_be(&self, content: Hash) -> Result<(), Refusal> {
        if self.content == content { Ok(()) } else { Err(Refusal::Moved) }
    }

    fn must_be_sound(&self) -> Result<(), Refusal> {
        match self.checked {
            Some((content, true)) if content == self.content => Ok(()),
            Some((content, false)) if content == self.content => Err(Refusal::ChecksFailed),
            _ => Err(Refusal::NotChecked),
        }
    }
}

/// The numbers of versions: which is the newest, which is in force. Both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lineage {
    /// The newest version of policies; 0 when there is none.
    pub(crate) newest: u64,
    /// The version in force.
    pub(crate) active: Option<u64>,
}

impl Lineage {
    /// After one more version.
    pub(crate) fn committed(self) -> Lineage {
        Lineage { newest: self.newest.saturating_add(1), ..self }
    }

    /// After `policies` came into force; the version in force may come into force again, with other entities.
    pub(crate) fn activated(self, policies: u64) -> Result<Lineage, Refusal> {
        if policies == 0 || policies > self.newest {
            return Err(Refusal::NeverCommitted(policies));
        }
        match self.active {
            Some(active) if policies < active => Err(Refusal::Older { wanted: policies, active }),
            _ => Ok(Lineage { active: Some(policies), ..self }),
        }
    }
}

#[cfg(test)]
mod tests;
