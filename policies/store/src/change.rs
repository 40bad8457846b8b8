//! Changes of policies as values: what an author writes, what was found about it, who approved it (ST6).
//!
//! `portcullis` shows them and asks Cedar over [`Change::context`]; `changes.rs` makes and stores them.

use crate::{CaseResult, PolicyStoreError, state::Stage};
use base_ports::UnixTime;
use policies_engine::{ChangeContext, Diagnostic, Severity, diff::Difference};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Name of a change: `c17`. Numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub(crate) u64);

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for ChangeId {
    type Err = PolicyStoreError;

    fn from_str(text: &str) -> Result<ChangeId, PolicyStoreError> {
        let number = text.strip_prefix('c').and_then(|number| number.parse().ok());
        let id = number.map(ChangeId).filter(|id| id.to_string() == text);
        id.ok_or_else(|| PolicyStoreError::Input(format!("`{text}` is no change; they are named c1, c2, ..")))
    }
}

/// One file of a change. Names are relative to the directory of policies: `orders.cedar`, `site.cedarschema`,
/// `entities.json`, `orders_test.json`, or `baseline/roles.cedar` in place of the shipped file of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub file: String,
    /// Its whole new text; none deletes it.
    pub text: Option<String>,
}

/// A change to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewChange {
    /// Version of policies that the author started from; none for the newest.
    pub base: Option<u64>,
    /// Who writes it, as Cedar names him: `User::"corp/4711"`.
    pub author: String,
    /// What it is for.
    pub message: String,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// The files that differ from the base.
    pub edits: Vec<Edit>,
}

/// A change as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name.
    pub id: ChangeId,
    /// Grows with every write; `If-Match` compares it.
    pub revision: u64,
    /// Version of policies it started from; 0 when there was none.
    pub base: u64,
    /// Who writes it.
    pub author: String,
    /// What it is for.
    pub message: String,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// When it was made.
    pub created: UnixTime,
    /// When it was written last.
    pub updated: UnixTime,
    /// Where it stands.
    pub stage: Stage,
    /// SHA-256 over what the policies would be, in hexadecimal. Checks and approvals are bound to it.
    pub content: String,
    /// The files that differ from the base.
    pub edits: Vec<Edit>,
    /// What the last check of this content found; none when it was edited since.
    pub checked: Option<Checked>,
    /// What a replay of recorded decisions found for this content.
    pub impact: Option<Impact>,
    /// Who approved this content.
    pub approvals: Vec<Approval>,
    /// The version it became.
    pub version: Option<u64>,
}

impl Change {
    /// What Cedar is asked over (schema type `Change`), when `caller` wants to go on with it; `two_person` when somebody
    /// besides the operator may approve.
    #[must_use]
    pub fn context(&self, caller: &str, two_person: bool) -> ChangeContext {
        let checked = self.checked.clone().unwrap_or_default();
        ChangeContext {
            scope: "/".to_owned(),
            // What was not checked is taken to widen.
            widens: self.checked.is_none() || checked.widens,
            tests_passed: checked.passed,
            coverage: checked.coverage.map_or(0, i64::from),
            approvals: i64::try_from(self.approvals.len()).unwrap_or(i64::MAX),
            caller_is_author: caller == self.author,
            touches_baseline: self.checked.is_none() || checked.touches_baseline,
            replay_newly_denied: self.impact.map_or(0, |impact| impact.newly_denied),
            two_person,
        }
    }
}

/// What a check found, short enough to be stored with the change and in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// It compiles, and every case passed.
    pub passed: bool,
    /// Findings that block.
    pub errors: usize,
    /// Findings that do not.
    pub warnings: usize,
    /// Cases that ran.
    pub tests: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Coverage by cases, in per cent; none when it was not measured.
    pub coverage: Option<u8>,
    /// Somebody would be allowed more than now (IM1), or it is not known.
    pub widens: bool,
    /// A shipped policy would be another one (PS2).
    pub touches_baseline: bool,
    /// Policies left to the slow evaluator.
    pub slow_policies: usize,
}

/// Everything a check found.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// In short.
    pub summary: Checked,
    /// Every finding, warnings too.
    pub diagnostics: Vec<Diagnostic>,
    /// Every case that ran.
    pub cases: Vec<CaseResult>,
    /// How it differs from what is in force; none when it does not compile or nothing is in force.
    pub difference: Option<Difference>,
}

impl Checks {
    /// Of what does not even compile.
    pub(crate) fn refused(diagnostics: Vec<Diagnostic>) -> Checks {
        let errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
        Checks { summary: Checked { errors, ..Checked::default() }, diagnostics, ..Checks::default() }
    }
}

/// What a replay of recorded decisions found (IM2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impact {
    /// Decisions that were replayed.
    pub replayed: i64,
    /// Allowed then, denied by this change.
    pub newly_denied: i64,
    /// Denied then, allowed by this change.
    pub newly_allowed: i64,
}

/// Somebody said yes to one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who, as Cedar names him.
    pub by: String,
    /// When.
    pub at: UnixTime,
}
