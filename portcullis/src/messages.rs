//! Every message a person can get: its code, once, and the shape in which it is printed.
//! Libraries know no codes; the binary attaches them here.

use std::fmt;

/// A code and what it means. Codes are API: never reused, never renamed.
pub(crate) struct Code {
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

/// The registry, in order.
pub(crate) static CODES: &[Code] = &[
    Code { code: "PC0101", title: "the configuration is not valid TOML", text: "The file could not be read as TOML at the place shown." },
    Code { code: "PC0102", title: "a required key is missing", text: "The section is there, and this key has no default." },
    Code { code: "PC0103", title: "unknown key", text: "Unknown keys refuse to start, so that a typing error cannot switch a protection off." },
    Code { code: "PC0104", title: "wrong value", text: "The value has the wrong type, unit or range." },
    Code { code: "PC0105", title: "dangling reference", text: "A key names something that the file does not define." },
    Code { code: "PC0106", title: "defined twice", text: "Two objects carry the same name or address." },
    Code { code: "PC0107", title: "file cannot be read", text: "The file is missing, unreadable, too large or not UTF-8." },
    Code { code: "PC0108", title: "unsafe permissions", text: "A file or directory can be changed by others; portcullis refuses to trust it." },
    Code { code: "PC0110", title: "unknown environment variable", text: "A variable begins with PORTCULLIS_ and names no key; it is ignored." },
    Code { code: "PC0131", title: "admin listener beyond loopback", text: "The admin listener has no client certificates, so it binds to loopback only." },
    Code { code: "PC0132", title: "role over several hosts", text: "Roles over several hosts ([join]) are not available yet." },
    Code { code: "PC0140", title: "no running portcullis", text: "The command talks to a running process over its admin socket and found none." },
    Code { code: "PC0141", title: "refused by the running portcullis", text: "The API answered with an error; its own text follows." },
    Code { code: "PC0142", title: "timed out", text: "What was waited for did not happen in time." },
    Code { code: "PC0150", title: "exists already", text: "init never overwrites a file." },
    Code { code: "PC1001", title: "identity could not be obtained", text: "The Workload API gave no SVID." },
    Code { code: "PC1002", title: "not a usable certificate", text: "The file holds no certificate that can be read." },
    Code { code: "PC1010", title: "certificate authority cannot start", text: "The key files and the records of the authority do not fit together." },
    Code { code: "PC2001", title: "policies are not valid", text: "At least one policy, schema or entity file has an error; the last good set stays in force." },
    Code { code: "PC2002", title: "policy cases failed", text: "At least one case of a *_test.json file gave another answer than it expects." },
    Code { code: "PC4001", title: "listener cannot start", text: "A listener could not be bound or configured." },
    Code { code: "PC4030", title: "observe mode is on", text: "Calls that policies deny are let through and recorded as would-be denials." },
    Code { code: "PC5001", title: "no such decision", text: "No decision with this id is on record, or it is not visible to you." },
    Code { code: "PC6001", title: "state directory cannot be used", text: "The directory is in use by another process, newer than this binary, or damaged." },
    Code { code: "PC9001", title: "internal error", text: "Something happened that should be impossible. Please report it with the text shown." },
];

/// Looks a code up, as `portcullis help PC0103` does.
pub(crate) fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code.eq_ignore_ascii_case(code))
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// Where in a file.
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
        Self { severity: Severity::Error, code, text: text.into(), place: None, label: None, help: None, next: None }
    }

    pub(crate) fn warning(code: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, text) }
    }

    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
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

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": self.code,
            "message": self.text,
            "file": self.place.as_ref().map(|place| place.file.clone()),
            "line": self.place.as_ref().map(|place| place.line),
            "column": self.place.as_ref().map(|place| place.column),
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
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.text)?;
        if let Some(place) = &self.place {
            let margin = place.line.to_string().len();
            write!(f, "\n{:margin$}--> {}:{}:{}", "", place.file, place.line, place.column)?;
            if !place.source.is_empty() {
                let carets = "^".repeat(place.length);
                write!(f, "\n{} | {}", place.line, place.source)?;
                write!(f, "\n{:margin$} | {:indent$}{carets}", "", "", indent = place.column.saturating_sub(1))?;
                if let Some(label) = &self.label {
                    write!(f, " {label}")?;
                }
            }
        }
        if let (Some(label), None) = (&self.label, &self.place) {
            write!(f, "\n  {label}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\nnext: {next}")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
        assert!(find("pc0103").is_some());
    }

    #[test]
    fn a_message_shows_the_line_and_points_at_it() {
        let text = "version = 1\n[[ca.entry]]\nselector = [\"unix:user:web\"]\n";
        let start = text.find("selector").unwrap();
        let shown = Message::error("PC0103", "unknown key `selector` in [[ca.entry]]")
            .at(Place::of("portcullis.toml", text, start..start + 8))
            .label("did you mean `selectors`?")
            .help("keys are a, b")
            .next("portcullis config explain ca.entry")
            .to_string();
        assert_eq!(
            shown,
            "error[PC0103]: unknown key `selector` in [[ca.entry]]\n --> portcullis.toml:3:1\n3 | selector = [\"unix:user:web\"]\n  | ^^^^^^^^ did you mean `selectors`?\nhelp: keys are a, b\nnext: portcullis config explain ca.entry"
        );
    }

    #[test]
    fn did_you_mean_takes_near_words_only() {
        let known = ["selectors", "spiffe_id", "hint"];
        assert_eq!(nearest("selector", known.into_iter()), Some("selectors"));
        assert_eq!(nearest("spifeid", known.into_iter()), Some("spiffe_id"));
        assert_eq!(nearest("banana", known.into_iter()), None);
    }
}
