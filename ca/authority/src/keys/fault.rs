//! Why a key of the authority does not change its state (AU-04): each says what to do instead.

use base_ports::UnixTime;
use ca_identity::KeyId;

use super::{KeyKind, KeyState};

/// A step that the state of the keys does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// There is a successor already.
    #[error(
        "the {kind} key {key_id} is prepared already; `portcullis ca activate --kind {kind}`, or prepare another with --replace"
    )]
    Waits {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
    },
    /// There is no successor.
    #[error("no {kind} key is prepared; `portcullis ca prepare --kind {kind}`")]
    NonePrepared {
        /// What it would be for.
        kind: KeyKind,
    },
    /// The successor would have to be replaced at once (RG-24).
    #[error(
        "the prepared {kind} key {key_id} ends at {not_after}, too soon to begin with it; `portcullis ca prepare --kind {kind} --replace`"
    )]
    NearEnd {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// Its end.
        not_after: UnixTime,
    },
    /// A role of this process verifies by an older bundle (AU-05).
    #[error(
        "the {role} has not taken the bundle {sequence} with the new {kind} key yet; try again in a second"
    )]
    NotTaken {
        /// What the key is for.
        kind: KeyKind,
        /// Which role.
        role: String,
        /// The bundle.
        sequence: u64,
    },
    /// Verifiers elsewhere may not have seen it yet (AU-05).
    #[error(
        "the {kind} key {key_id} is prepared, and others know it by {until}; `portcullis ca activate --kind {kind}` then, or now with --force"
    )]
    NotKnown {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// From when on it may sign.
        until: UnixTime,
    },
    /// Only an old key is tainted or revoked.
    #[error(
        "the {kind} key {key_id} is {state}, and only an old one can be tainted or revoked; `portcullis ca rotate --kind {kind} --yes` makes it old"
    )]
    NotOld {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// Where it stands.
        state: KeyState,
    },
    /// None or several could be meant.
    #[error("{found} {kind} keys are old; name one with --key, as `portcullis ca show` lists them")]
    Which {
        /// What it is for.
        kind: KeyKind,
        /// How many are old.
        found: usize,
    },
    /// Revoked before its certificates were issued anew.
    #[error(
        "the {kind} key {key_id} is not tainted: `portcullis ca taint --kind {kind} --key {key_id}` has what it signed issued anew first; --skip-taint does without"
    )]
    NotTainted {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
    },
    /// Nobody could verify anything (AU-08).
    #[error("the bundle would be empty")]
    LastRoot,
}

impl SlotError {
    /// A stable word for problem documents and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Waits { .. } => "key_waits",
            Self::NonePrepared { .. } => "none_prepared",
            Self::NearEnd { .. } => "key_near_end",
            Self::NotTaken { .. } => "bundle_not_taken",
            Self::NotKnown { .. } => "key_not_known",
            Self::NotOld { .. } => "key_not_old",
            Self::Which { .. } => "which_key",
            Self::NotTainted { .. } => "key_not_tainted",
            Self::LastRoot => "last_root",
        }
    }
}
