//! Findings in the forms that people and machines of a build read: pretty, compact, JSON, GitHub annotations, SARIF and
//! JUnit. Made by `policy lint` and `policy test`; data goes to stdout, whether it fails is for the caller to say.

mod junit;
mod sarif;

use policies_engine::{Diagnostic, Fix};
use serde_json::json;

use super::{data, harmless};
use crate::messages::{Message, Severity};

/// The form of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// For people, with the line and what to do
    Pretty,
    /// One line each
    Compact,
    /// One JSON document
    Json,
    /// Annotations of GitHub Actions
    Github,
    /// SARIF 2.1.0
    Sarif,
    /// JUnit XML
    Junit,
}

/// From which severity on findings fail a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    #[value(alias = "info")]
    Note,
    Warning,
    Error,
}

impl Level {
    /// Whether a finding of that severity fails.
    pub(crate) fn is_reached_by(self, severity: Severity) -> bool {
        match self {
            Level::Note => true,
            Level::Warning => severity != Severity::Note,
            Level::Error => severity == Severity::Error,
        }
    }
}

/// One finding, and the edit that mends it.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) message: Message,
    pub(crate) fix: Option<Fix>,
}

impl From<&Diagnostic> for Finding {
    fn from(found: &Diagnostic) -> Self {
        Self { message: Message::from(found), fix: found.fix.clone() }
    }
}

/// What a command found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The command, as `policy lint`.
    pub(crate) command: &'static str,
    pub(crate) findings: Vec<Finding>,
    /// What was looked at and could have failed: files, or cases.
    pub(crate) looked_at: Vec<LookedAt>,
    /// What people read below: counts, and what was not asked.
    pub(crate) summary: Vec<String>,
}

/// A file or a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LookedAt {
    pub(crate) file: String,
    /// Name of a case; none for a file as a whole.
    pub(crate) name: Option<String>,
}

impl Findings {
    pub(crate) fn print(&self, style: Style) {
        match style {
            Style::Pretty => {
                for finding in &self.findings {
                    finding.message.to_string().lines().for_each(data);
                    data("");
                }
                self.summary.iter().for_each(|line| data(line));
            }
            Style::Compact => self.lines().iter().for_each(|line| data(line)),
            Style::Json => {
                data(&harmless(&serde_json::to_string_pretty(&self.to_json()).unwrap_or_default()))
            }
            Style::Github => self.findings.iter().for_each(|finding| data(&annotation(&finding.message))),
            Style::Sarif => {
                data(&harmless(&serde_json::to_string_pretty(&sarif::log(self)).unwrap_or_default()))
            }
            Style::Junit => junit::document(self).lines().for_each(data),
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |Finding { message, .. }: &Finding| {
            format!("{}: {}", message.severity.as_str(), message.in_one_line())
        };
        self.findings.iter().map(line).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        let items = self.findings.iter().map(|finding| {
            let mut item = finding.message.to_json();
            if let Some(members) = item.as_object_mut() {
                members.insert("fixable".to_owned(), finding.fix.is_some().into());
            }
            item
        });
        json!({ "apiVersion": "portcullis/v1", "kind": "FindingList", "command": self.command,
            "items": items.collect::<Vec<_>>(), "summary": self.summary })
    }

    /// `3 findings: 1 error, 2 warnings`.
    pub(crate) fn count(&self) -> String {
        let of = |severity: Severity, name: &str| {
            let count = self.findings.iter().filter(|finding| finding.message.severity == severity).count();
            (count > 0).then(|| plural(count, name))
        };
        let parts: Vec<_> =
            [of(Severity::Error, "error"), of(Severity::Warning, "warning"), of(Severity::Note, "note")]
                .into_iter()
                .flatten()
                .collect();
        match parts.as_slice() {
            [] => "no findings".to_owned(),
            parts => format!("{}: {}", plural(self.findings.len(), "finding"), parts.join(", ")),
        }
    }
}

pub(crate) fn plural(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// `::error file=a.cedar,line=3,col=1,endColumn=7,title=PC2103::text`, with line breaks in the text escaped.
fn annotation(message: &Message) -> String {
    let level = match message.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut place = String::new();
    if let Some(at) = &message.place {
        place.push_str(&format!("file={},", property(&at.file)));
        if at.line > 0 {
            let end = at.column.saturating_add(at.length);
            place.push_str(&format!("line={},col={},endColumn={end},", at.line, at.column));
        }
    }
    let parts = [Some(&message.text), message.label.as_ref(), message.help.as_ref()];
    let text = parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("\n");
    format!("::{level} {place}title={}::{}", message.code, escaped(&text))
}

fn escaped(text: &str) -> String {
    let visible: Vec<_> = text.lines().map(base_telemetry::redact::escape).collect();
    visible.join("\n").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests;
