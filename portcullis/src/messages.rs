//! Every message a person can get: its code, once, and the shape in which it is printed.
//! Libraries know no codes; the binary attaches them here.

mod alarm;
mod codes;
#[cfg(test)]
mod tests;

use std::fmt;

use base_telemetry::redact::escape;

pub(crate) use alarm::alarm;
pub(crate) use codes::{codes, find};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Where in a file; line 0 is the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) source: String,
    pub(crate) length: usize,
}

impl Place {
    /// The place of a byte range of `text`.
    pub(crate) fn of(file: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let source = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count().saturating_add(1);
        let rest = source.chars().count().saturating_sub(column.saturating_sub(1));
        let length = text.get(span).map_or(1, |part| part.lines().next().unwrap_or_default().chars().count());
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count().saturating_add(1),
            column,
            source: source.to_owned(),
            length: length.clamp(1, rest.max(1)),
        }
    }
}

/// How many characters of a line are shown before, at and after what is marked.
const EXCERPT: (usize, usize, usize) = (80, 80, 40);

impl Place {
    /// The line before, at and after what is marked, as it may be shown: shortened, escaped, tabs as blanks.
    fn excerpt(&self) -> (String, String, String) {
        let marked_at = self.column.saturating_sub(1);
        let hidden = marked_at.saturating_sub(EXCERPT.0);
        let line = self.source.replace('\t', " ");
        let part = |from: usize, count: usize| {
            escape(&line.chars().skip(from).take(count).collect::<String>()).into_owned()
        };
        let length = self.length.min(EXCERPT.1);
        let before = part(hidden, marked_at.saturating_sub(hidden));
        let before = if hidden > 0 { format!("…{before}") } else { before };
        (before, part(marked_at, length), part(marked_at.saturating_add(length), EXCERPT.2))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape(&self.file))?;
        if self.line > 0 { write!(f, ":{}:{}", self.line, self.column) } else { Ok(()) }
    }
}

/// One message with everything a person needs to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) text: String,
    pub(crate) place: Option<Place>,
    pub(crate) label: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) next: Option<String>,
}

impl Message {
    pub(crate) fn error(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            text: text.into(),
            place: None,
            label: None,
            help: None,
            next: None,
        }
    }

    pub(crate) fn warning(code: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, text) }
    }

    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// `file:line:column: text [code]`, for lists.
    pub(crate) fn in_one_line(&self) -> String {
        let place = self.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let label = self.label.as_ref().map(|label| format!(" ({})", escape(label))).unwrap_or_default();
        format!("{place}{}{label} [{}]", escape(&self.text), self.code)
    }

    /// A message that another process gave as JSON; `None` when it carries no code of the registry.
    pub(crate) fn from_json(json: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let number = |name: &str| {
            json.get(name).and_then(serde_json::Value::as_u64).and_then(|number| usize::try_from(number).ok())
        };
        let mut message = Self::error(find(&text("code")?)?.code, text("message")?);
        message.severity = match text("severity").as_deref() {
            Some("warning") => Severity::Warning,
            Some("note") => Severity::Note,
            _ => Severity::Error,
        };
        message.place = text("file").map(|file| Place {
            file,
            line: number("line").unwrap_or(0),
            column: number("column").unwrap_or(0),
            source: text("source").unwrap_or_default(),
            length: number("length").unwrap_or(1),
        });
        (message.label, message.help, message.next) = (text("label"), text("help"), text("next"));
        Some(message)
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity.as_str(),
            "code": self.code,
            "message": self.text,
            "file": self.place.as_ref().map(|place| place.file.clone()),
            "line": self.place.as_ref().filter(|place| place.line > 0).map(|place| place.line),
            "column": self.place.as_ref().filter(|place| place.line > 0).map(|place| place.column),
            "source": self.place.as_ref().filter(|place| place.line > 0).map(|place| place.source.clone()),
            "length": self.place.as_ref().filter(|place| place.line > 0).map(|place| place.length),
            "label": self.label,
            "help": self.help,
            "next": self.next,
        })
    }
}

impl From<&policies_engine::Diagnostic> for Message {
    fn from(found: &policies_engine::Diagnostic) -> Self {
        let severity = match found.severity {
            policies_engine::Severity::Error => Severity::Error,
            policies_engine::Severity::Warning => Severity::Warning,
            policies_engine::Severity::Note => Severity::Note,
        };
        let mut message = Self { severity, ..Self::error(found.code, found.message.clone()) };
        message.place = Some(Place {
            file: found.file.to_string(),
            line: found.line,
            column: found.column,
            source: found.source_line.clone(),
            length: found.length.max(1),
        });
        message.label = (!found.label.is_empty()).then(|| found.label.clone());
        message.help = found.help.clone();
        message
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity.as_str(), self.code, escape(&self.text))?;
        let label = self.label.as_deref().map(escape).unwrap_or_default();
        match &self.place {
            Some(place) if !place.source.is_empty() => {
                let margin = place.line.to_string().len();
                let (before, marked, after) = place.excerpt();
                let (indent, carets) = (before.chars().count(), "^".repeat(marked.chars().count().max(1)));
                let mark = format!("{:indent$}{carets} {label}", "");
                write!(f, "\n{:margin$}--> {place}\n{} | {before}{marked}{after}", "", place.line)?;
                write!(f, "\n{:margin$} | {}", "", mark.trim_end())?;
            }
            Some(place) => write!(f, "\n --> {place}")?,
            None => {}
        }
        if !label.is_empty() && self.place.as_ref().is_none_or(|place| place.source.is_empty()) {
            write!(f, "\n  {label}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {}", escape(help))?;
        }
        if let Some(next) = &self.next {
            write!(f, "\nnext: {}", escape(next))?;
        }
        Ok(())
    }
}

impl std::error::Error for Message {}

/// The nearest of `known` to what was written: edit distance at most 2, or a shared beginning.
pub(crate) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|word| {
            let distance = strsim::damerau_levenshtein(written, word);
            let prefix = written.len() >= 3 && (word.starts_with(written) || written.starts_with(word));
            (if prefix { distance.min(2) } else { distance }, word)
        })
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, word)| word)
}
