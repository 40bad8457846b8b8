//! Findings about policy and schema text: where, what, and what to do, with the line itself.
//! Made by `compile` and `lint`, shown by `policy validate`, `policy lint`, `check` and the log.

use std::{fmt, ops::Range, sync::Arc};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; shown where findings are asked for.
    Note,
    /// Shown; blocks only on demand.
    Warning,
    /// Blocks the snapshot.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it blocks.
    pub severity: Severity,
    /// Stable code, `PC2001`.
    pub code: &'static str,
    /// File it is about.
    pub file: Arc<str>,
    /// Line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length of the marked text on that line, in characters.
    pub length: usize,
    /// The line itself.
    pub source_line: String,
    /// What is wrong at the mark.
    pub label: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// An edit that does it and changes nothing else.
    pub fix: Option<Fix>,
}

/// An edit of the file that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Bytes of the file.
    pub range: Range<usize>,
    /// What to put there.
    pub text: String,
}

impl Diagnostic {
    /// A finding about a whole file.
    #[must_use]
    pub fn about(code: &'static str, file: &Arc<str>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            file: Arc::clone(file),
            line: 0,
            column: 0,
            length: 0,
            source_line: String::new(),
            label: String::new(),
            message: message.into(),
            help: None,
            fix: None,
        }
    }

    /// A finding at the bytes `start..start + length` of `text`.
    #[must_use]
    pub fn at(
        code: &'static str,
        file: &Arc<str>,
        text: &str,
        start: usize,
        length: usize,
        message: impl Into<String>,
    ) -> Diagnostic {
        let place = Place::of(text, start, length);
        Diagnostic {
            line: place.line,
            column: place.column,
            length: place.length,
            source_line: place.source_line,
            ..Diagnostic::about(code, file, message)
        }
    }

    /// With a text at the mark.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// As a warning.
    #[must_use]
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }

    /// With an edit that does what the help says.
    #[must_use]
    pub fn fix(mut self, range: Range<usize>, text: impl Into<String>) -> Diagnostic {
        self.fix = Some(Fix { range, text: text.into() });
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: severity CODE: message`, the line with its mark, and the help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {} {}: {}", self.severity.as_str(), self.code, self.message)?;
        if self.line > 0 {
            let gutter = self.line.to_string().len();
            write!(f, "\n {} | {}", self.line, self.source_line)?;
            let before = " ".repeat(self.column.saturating_sub(1));
            write!(f, "\n {:gutter$} | {before}{} {}", "", "^".repeat(self.length.max(1)), self.label)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n help: {help}")?;
        }
        Ok(())
    }
}

/// A byte offset told in lines and characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) length: usize,
    pub(crate) source_line: String,
}

impl Place {
    pub(crate) fn of(text: &str, start: usize, length: usize) -> Place {
        let start = floor_boundary(text, start.min(text.len()));
        let (before, after) = text.split_at_checked(start).unwrap_or((text, ""));
        let line_before = before.rsplit('\n').next().unwrap_or_default();
        let line_after = after.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let marked =
            line_after.get(..floor_boundary(line_after, length.min(line_after.len()))).unwrap_or_default();
        Place {
            line: before.matches('\n').count() + 1,
            column: line_before.chars().count() + 1,
            length: marked.chars().count(),
            source_line: format!("{line_before}{line_after}"),
        }
    }
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_told_in_characters_on_its_own_line() {
        let text = "one\nté two\r\nthree";
        let at = text.find("two").unwrap();
        let place = Place::of(text, at, 30);
        assert_eq!((place.line, place.column, place.length), (2, 4, 3));
        assert_eq!(place.source_line, "té two");
        assert_eq!(Place::of(text, text.len(), 4).line, 3);
        assert_eq!(Place::of(text, 9999, 4).column, 6);
        assert_eq!(Place::of("é", 1, 1).column, 1);
    }

    #[test]
    fn the_text_shows_line_mark_and_help() {
        let file = Arc::from("a.cedar");
        let found = Diagnostic::at("PC2001", &file, "permit(x);\n", 7, 1, "no such thing")
            .label("here")
            .help("write y");
        assert_eq!(
            found.to_string(),
            "a.cedar:1:8: error PC2001: no such thing\n 1 | permit(x);\n   |        ^ here\n help: write y"
        );
        assert_eq!(
            Diagnostic::about("PC2010", &file, "too big").to_string(),
            "a.cedar: error PC2010: too big"
        );
    }
}
