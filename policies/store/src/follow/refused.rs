//! Why an offered snapshot is not taken: the code, the words, and whether the offer itself can be believed.

use crate::{note::NoteError, position::Position};
use policies_engine::Diagnostic;
use std::sync::Arc;

/// A snapshot that is refused as a whole; the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    /// As its manifest says, when a pinned key signed that.
    pub(crate) offered: Option<Position>,
    /// What the compiler found.
    pub(crate) findings: Vec<Diagnostic>,
}

impl Refused {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Refused {
        Refused { code, detail: detail.into(), offered: None, findings: Vec::new() }
    }

    /// Signed by the publisher, so it stays refused until something else comes. Without a position somebody on the way
    /// changed it, and the publisher is asked again.
    pub(crate) fn of(self, offered: Position) -> Refused {
        Refused { offered: Some(offered), ..self }
    }

    pub(crate) fn found(code: &'static str, findings: Vec<Diagnostic>) -> Refused {
        let detail = findings.first().map(ToString::to_string).unwrap_or_default();
        Refused { findings, ..Refused::new(code, detail) }
    }

    /// For `status` and `check`, beside findings about files.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let what = match &self.offered {
            Some(offered) => format!("snapshot {offered} of the publisher is refused: {}", self.detail),
            None => format!("what came from the publisher is refused: {}", self.detail),
        };
        let about = Diagnostic::about(self.code, &Arc::from("publisher"), what);
        let about = about.help("the last good snapshot stays in force until the publisher sends a new one");
        std::iter::once(about).chain(self.findings.iter().cloned()).collect()
    }
}

impl From<NoteError> for Refused {
    fn from(cause: NoteError) -> Refused {
        let code = match cause {
            NoteError::Malformed | NoteError::Untrusted | NoteError::Forged | NoteError::OtherManifest => {
                "PC2021"
            }
            NoteError::NotUnderstood => "PC2022",
        };
        Refused::new(code, cause.to_string())
    }
}
