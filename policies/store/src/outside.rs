//! Files that are links out of the directory, and findings about them that show nothing of their text.
//!
//! Findings go to the log and over the admin API; a link must not make them a way to read the first line of a file
//! that this process can read and their reader cannot.

use policies_engine::{Diagnostic, Severity};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// The files, as findings name them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outside(BTreeSet<Arc<str>>);

impl Outside {
    /// Notes whether `path`, a file of `dir` that is shown as `shown`, is a link out of `dir`. In doubt it is.
    pub(crate) fn look_at(&mut self, dir: &Path, path: &Path, shown: &Arc<str>) {
        if path.symlink_metadata().is_ok_and(|about| !about.is_symlink()) {
            return;
        }
        let is_inside =
            dir.canonicalize().and_then(|home| Ok(path.canonicalize()?.starts_with(home))).unwrap_or(false);
        if !is_inside {
            self.0.insert(Arc::clone(shown));
        }
    }

    /// The findings; those about the text of these files without line and mark, and without a message that may quote.
    pub(crate) fn conceal(&self, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        // These say that a file was not read, or not to its end.
        const UNREAD: [&str; 3] = ["PC0108", "PC2010", "PC2013"];
        for finding in &mut found {
            if self.0.contains(&finding.file) && !(finding.line == 0 && UNREAD.contains(&finding.code)) {
                conceal(finding);
            }
        }
        found
    }
}

fn conceal(finding: &mut Diagnostic) {
    let place = match finding.line {
        0 => String::new(),
        line => format!(" at line {line}, column {}", finding.column),
    };
    // A warning is about text that was understood as policies; an error may be about anything.
    let message = match finding.severity {
        Severity::Note | Severity::Warning => format!("{}{place}", finding.message),
        Severity::Error => {
            format!(
                "not valid{place}; its text is not shown, because the file is a link out of the directory"
            )
        }
    };
    let blank = Diagnostic::about(finding.code, &finding.file, message);
    let blank = blank.help("copy the file into the directory to be shown the place");
    *finding = Diagnostic { severity: finding.severity, ..blank };
}

#[cfg(test)]
mod tests;
