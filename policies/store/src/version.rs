//! Versions of policies as listings, history and blame show them.

use crate::{ChangeId, Checked};
use base_ports::UnixTime;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a version came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A change was committed.
    Change,
    /// Somebody saved a file in the watched directory.
    #[default]
    Directory,
    /// Somebody went back to an older version.
    Rollback,
    /// Another build of portcullis ships other policies or another schema.
    Shipped,
}

/// Whether a version is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Signed and numbered, never in force so far.
    Committed,
    /// In force.
    Active,
    /// Was in force, or was passed over by a later one.
    Retired,
}

/// One version of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// The number people speak of: `policies v41`.
    pub policies: u64,
    /// Newest snapshot with these policies.
    pub snapshot: u64,
    /// Epoch of that snapshot.
    pub epoch: u64,
    /// How it came about.
    pub origin: Origin,
    /// Whether it is in force.
    pub standing: Standing,
    /// Who wrote it, as Cedar names him; empty for versions older than authors.
    pub author: String,
    /// Who approved it.
    pub approvers: Vec<String>,
    /// What it is for.
    pub message: String,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// The version whose content it repeats.
    pub rollback_of: Option<u64>,
    /// The change it was.
    pub change: Option<ChangeId>,
    /// What its check found.
    pub checks: Checked,
    /// When it was committed; RFC 3339.
    pub created: String,
    /// When and by whom it was put into force.
    pub activated: Option<Activated>,
    /// SHA-256 of its manifest, in hexadecimal.
    pub manifest: String,
    /// SHA-256 of the manifest before it.
    pub parent: Option<String>,
    /// The signed note over its manifest (ST4); none for versions older than signatures.
    pub note: Option<Arc<str>>,
}

/// Put into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// When.
    pub at: UnixTime,
    /// By whom, as Cedar names him.
    pub by: String,
}

/// What a version did to one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was not there before.
    Added,
    /// Its text is another one.
    Changed,
    /// It went to another file.
    Moved,
    /// It is gone.
    Removed,
}

/// A version in which one policy changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// That version.
    pub version: VersionInfo,
    /// What it did.
    pub step: Step,
    /// Where the policy stands there; where it stood, when it was removed.
    pub file: String,
    /// Line of its first line, from 1.
    pub line: usize,
    /// Its text in that version, comments before it included; none when it was removed.
    pub text: Option<String>,
}

/// One line of a policy, and the version that last changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlameLine {
    /// Its number in its file, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// The version.
    pub policies: u64,
    /// Who wrote that version.
    pub author: String,
    /// When it was committed; RFC 3339.
    pub created: String,
}
