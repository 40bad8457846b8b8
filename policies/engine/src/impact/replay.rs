//! Judges records by the candidate, one after another, within bounded memory.

use super::{Change, Impact, Recorded, Seen, again::Again, groups::Groups, verdict};
use crate::{Action, Effect, Snapshot};
use std::{collections::BTreeSet, sync::Arc};

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    again: Again,
    groups: Groups,
    impact: Impact,
}

impl Replay {
    /// A replay against `candidate`, with nothing seen yet.
    #[must_use]
    pub fn new(candidate: Arc<Snapshot>) -> Replay {
        Replay { again: Again::new(candidate), groups: Groups::default(), impact: Impact::default() }
    }

    /// Judges one record.
    pub fn see(&mut self, recorded: &Recorded<'_>) -> Seen {
        let (Some(before), false) = (verdict(recorded.reason), matches!(recorded.action, Action::Admin(_)))
        else {
            self.impact.outside += 1;
            return Seen::Outside;
        };
        self.impact.considered += 1;
        let decision = match self.again.judge(recorded) {
            Ok(decision) => decision,
            Err(fact) => {
                self.impact.undecided += 1;
                self.groups.lacking(fact, recorded);
                return Seen::Undecided;
            }
        };
        let is_same_reason = decision.reason == recorded.reason;
        let change = match (before, decision.effect) {
            (Effect::Allow, Effect::Deny) => Change::AllowToDeny,
            (Effect::Deny, Effect::Allow) => Change::DenyToAllow,
            _ if is_same_reason && is_decided_by(&decision.determining, recorded) => {
                self.impact.same += 1;
                return Seen::Same;
            }
            _ => Change::Reason,
        };
        match change {
            Change::AllowToDeny => self.impact.allow_to_deny += 1,
            Change::DenyToAllow => self.impact.deny_to_allow += 1,
            Change::Reason => self.impact.reason_changed += 1,
        }
        self.groups.changed(change, recorded, &decision);
        Seen::Changed(change)
    }

    /// How many records were seen, of any kind.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.impact.considered + self.impact.outside
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Impact {
        self.groups.finish(self.impact)
    }
}

/// Whether the same policies decide; where the record has cut their list, whether it can be so.
fn is_decided_by(determining: &[Arc<str>], recorded: &Recorded<'_>) -> bool {
    if recorded.carried.cut.contains(&"determining") {
        let now: BTreeSet<&str> = determining.iter().map(|id| &**id).collect();
        return recorded.determining.iter().all(|id| now.contains(id));
    }
    determining.len() == recorded.determining.len()
        && determining.iter().zip(recorded.determining).all(|(now, then)| **now == **then)
}
