//! Why a policy store cannot do what it was asked. What is wrong with policies is not of this kind: they are
//! [`policies_engine::Diagnostic`]s.

use crate::{change::ChangeId, state::Refusal};
use base_store::StoreError;
use policies_engine::Diagnostic;

/// Why versions could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PolicyStoreError {
    /// The store underneath.
    #[error("policy versions: {0}")]
    Store(#[from] StoreError),
    /// What is stored is not what was written.
    #[error("stored {what} is damaged: {detail}")]
    Damaged {
        /// Which entry.
        what: String,
        /// In which way.
        detail: String,
    },
    /// Never made, or no longer kept.
    #[error("snapshot {0} is not stored")]
    Unknown(u64),
    /// Never made, or no longer kept.
    #[error("policies v{0} is not stored")]
    UnknownVersion(u64),
    /// Never made, or no longer kept.
    #[error("change {0} is not stored")]
    UnknownChange(ChangeId),
    /// No kept version has it.
    #[error("no stored version has a policy `{0}`")]
    UnknownPolicy(String),
    /// A version that was in force once does not compile with this build.
    #[error("snapshot {number} does not compile with this build: {first}")]
    Refused {
        /// Its number.
        number: u64,
        /// The first finding.
        first: String,
    },
    /// What was sent cannot be taken.
    #[error("{0}")]
    Input(String),
    /// More than a change may hold, or more changes than there may be.
    #[error("{what}: {value}; at most {cap}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        value: u64,
        /// How much there may be.
        cap: u64,
    },
    /// Somebody wrote the change meanwhile: read it again (412).
    #[error("change {id} was written meanwhile: its revision is {revision}")]
    Stale {
        /// The change.
        id: ChangeId,
        /// Its revision now.
        revision: u64,
    },
    /// The change started from a version that is no longer the newest (PS6).
    #[error("policies v{head} is newer than what the change started from{}", listed(.conflicting))]
    Conflict {
        /// The newest version.
        head: u64,
        /// Policies that both changed; empty when they touch different ones and rebasing is enough.
        conflicting: Vec<String>,
    },
    /// The state of a change or of the versions does not allow it.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// It does not compile, or a case fails; all findings.
    #[error("{}", first(.0))]
    Invalid(Vec<Diagnostic>),
    /// The signing key cannot be used.
    #[error("signing key of policies: {0}")]
    Key(String),
}

impl PolicyStoreError {
    pub(crate) fn damaged(what: impl Into<String>, detail: impl ToString) -> PolicyStoreError {
        PolicyStoreError::Damaged { what: what.into(), detail: detail.to_string() }
    }
}

fn listed(ids: &[String]) -> String {
    match ids {
        [] => "; both touch different policies".to_owned(),
        ids => format!("; both changed {}", ids.join(", ")),
    }
}

fn first(found: &[Diagnostic]) -> String {
    match found {
        [] => "the policies are not valid".to_owned(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}
