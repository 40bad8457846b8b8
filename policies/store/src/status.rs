//! What is in force and what was refused, for `status`, `check` and metrics.

use base_ports::UnixTime;
use policies_engine::{Diagnostic, Numbers};

/// The state of a policy store.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Numbers of the snapshot in force; none when there never was one.
    pub numbers: Option<Numbers>,
    /// Policies in force, shipped ones included.
    pub policies: usize,
    /// When that snapshot came into force in this process.
    pub since: Option<UnixTime>,
    /// Why the newest files are not in force; empty when they are.
    pub diagnostics: Vec<Diagnostic>,
    /// Findings about what is in force.
    pub warnings: Vec<Diagnostic>,
    /// The directory holds other files than the version in force, which was activated or rolled back to since they
    /// were saved; they count again when they are saved again. `portcullis policy pull DIR` writes the version back.
    pub differs: bool,
    /// The version that is evaluated beside the one in force, and until when.
    pub shadow: Option<Shadowed>,
    /// The last one, when it ended by itself and none came after it.
    pub shadow_ended: Option<ShadowEnded>,
    /// Counts since the start.
    pub reloads: Reloads,
}

/// A version in shadow (SH3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// Its number.
    pub policies: u64,
    /// When it ends by itself.
    pub until: UnixTime,
}

/// A version whose shadow ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowEnded {
    /// Its number.
    pub policies: u64,
    /// When.
    pub at: UnixTime,
    /// Why, for people.
    pub why: String,
}

/// How often the files or entities were read and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reloads {
    /// A new snapshot came into force.
    pub applied: u64,
    /// Nothing differed.
    pub unchanged: u64,
    /// Something was wrong, the last good snapshot stays.
    pub refused: u64,
}
