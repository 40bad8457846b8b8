//! What the store asks of its surroundings: where activations are recorded, and which snapshots records still name.
//! `portcullis` maps both to the ledger; this crate knows no ledger.

use crate::{Checked, ShadowEnded};
use base_ports::{Now, UnixTime};
use policies_engine::{Diagnostic, Versions};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// How an activation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Activated,
    /// It is in force, and repeats an older version.
    RolledBack,
    /// It is not; the last good one stays.
    Refused,
}

impl Outcome {
    /// A stable word, as records carry it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Activated => "activated",
            Outcome::RolledBack => "rolled_back",
            Outcome::Refused => "refused",
        }
    }
}

/// A snapshot came into force, or was refused.
#[derive(Debug, Clone)]
pub struct Activation {
    /// The snapshot in force after it; none when there never was one.
    pub versions: Option<Arc<Versions>>,
    /// How it ended.
    pub outcome: Outcome,
    /// By whom, as Cedar names him; none for this process itself (an entity changed, a restart).
    pub by: Option<String>,
    /// Code or text of a refusal.
    pub detail: Option<String>,
    /// When.
    pub time: Now,
}

/// Asked before saved files come into force: what one person saves, one person publishes (ST10).
pub trait Saves: Send + Sync + fmt::Debug {
    /// Why what `author` saved may not come into force, given what its check found; none when it may. Must not block.
    fn refusal(&self, author: &str, found: &Checked) -> Option<Diagnostic>;
}

/// Whatever is saved comes into force.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unguarded;

impl Saves for Unguarded {
    fn refusal(&self, _: &str, _: &Checked) -> Option<Diagnostic> {
        None
    }
}

/// Takes note of every activation.
pub trait Activations: Send + Sync + fmt::Debug {
    /// Called before the snapshot is published, once for each. Must not block for long.
    fn note(&self, activation: Activation);

    /// A version in shadow ended by itself. Must not block for long.
    fn shadow_ended(&self, ended: &ShadowEnded);
}

/// Notes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrecorded;

impl Activations for Unrecorded {
    fn note(&self, _: Activation) {}

    fn shadow_ended(&self, _: &ShadowEnded) {}
}

/// A snapshot that is old enough to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    /// Its number.
    pub snapshot: u64,
    /// When it was made; it judged nothing before.
    pub since: UnixTime,
}

/// Which snapshots must stay because retained decision records name them (ST3).
pub trait Pinned: Send + Sync + fmt::Debug {
    /// Those of `old` that a retained record names, or one on its way; in doubt all of them. May block.
    fn named(&self, old: &[Old]) -> BTreeSet<u64>;
}

/// No record names any.
#[derive(Debug, Clone, Copy, Default)]
pub struct NonePinned;

impl Pinned for NonePinned {
    fn named(&self, _: &[Old]) -> BTreeSet<u64> {
        BTreeSet::new()
    }
}
