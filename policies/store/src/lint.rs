//! `policy lint` over a directory or one file of it: findings, edits, and what could not be asked (PC2101 to PC2121).
//! Starts and stores nothing; writes files only when it is asked for edits.

use crate::{
    cases::{CaseReport, beside, cases, run_loaded},
    check::compile,
    part::part,
    replace::replace,
};
use base_ports::UnixTime;
use policies_engine::{
    Coverage, Diagnostic, EntitySet, PolicySource, Severity, Snapshot,
    lint::{self, LintInput, Usage},
};
use std::{io, path::Path, sync::Arc};

/// What lint is asked about, besides the files.
#[derive(Debug, Clone, Copy)]
pub struct LintAsk<'a> {
    /// The clock.
    pub now: UnixTime,
    /// What a running process knows.
    pub usage: Option<&'a Usage>,
    /// Least coverage by cases, in percent.
    pub threshold: u8,
}

/// What lint found.
#[derive(Debug, Clone, Default)]
pub struct LintReport {
    /// Every finding, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that were looked at.
    pub files: Vec<Arc<str>>,
    /// Rules that could not be asked, and what they lack. All of them when the policies do not compile.
    pub silent: Vec<(&'static str, &'static str)>,
    /// Whether the policies compile.
    pub is_valid: bool,
    /// How many they are, when they do.
    pub policies: usize,
}

/// Looks at the directory or file `path`, together with the shipped policies and `entities`. Blocks.
#[must_use]
pub fn lint_path(path: &Path, entities: &EntitySet, ask: LintAsk<'_>) -> LintReport {
    let part = part(path);
    let outside = part.rules.as_ref().map(|rules| rules.outside.clone()).unwrap_or_default();
    let sources: Vec<PolicySource> =
        part.rules.as_ref().map(|rules| rules.policies().collect()).unwrap_or_default();
    let cases = cases(&part.rules);
    let files =
        sources.iter().filter(|source| !source.is_baseline).map(|source| Arc::clone(&source.file)).collect();
    let compiled = compile(part.rules, entities);
    let (diagnostics, silent, policies) = match compiled {
        Ok(snapshot) => {
            let report = run_loaded(&snapshot, &cases, &beside(path));
            let (found, silent) = judge(&snapshot, &sources, &report, ask);
            (found, silent, Some(snapshot.policies().filter(|policy| !policy.is_baseline).count()))
        }
        Err(found) => (
            lint::with_guards(found, &sources),
            vec![("PC2103 to PC2120", "the policies do not compile")],
            None,
        ),
    };
    let (is_valid, policies) = (policies.is_some(), policies.unwrap_or_default());
    LintReport { diagnostics: outside.conceal(diagnostics), files, silent, is_valid, policies }
}

fn judge(
    snapshot: &Snapshot,
    sources: &[PolicySource],
    cases: &CaseReport,
    ask: LintAsk<'_>,
) -> (Vec<Diagnostic>, Vec<(&'static str, &'static str)>) {
    let coverage: Option<(&Coverage, u8)> =
        (!cases.cases.is_empty()).then_some((&cases.coverage, ask.threshold));
    let input = LintInput { now: ask.now, usage: ask.usage, coverage };
    let mut found = lint::lint(snapshot, sources, &input);
    found.extend(cases.diagnostics.iter().cloned());
    (found, lint::silent(snapshot, &input))
}

/// Makes the edits of the findings that `is_wanted` takes, as long as there are some, and writes the files that
/// changed; returns their names with the number of edits. An edit after which more is wrong than before is not made.
///
/// # Errors
/// What the disk said; files before that one are written.
pub fn fix_path(
    path: &Path,
    entities: &EntitySet,
    ask: LintAsk<'_>,
    is_wanted: &dyn Fn(&Diagnostic) -> bool,
) -> io::Result<Vec<(Arc<str>, usize)>> {
    const ROUNDS: usize = 32;
    let Ok(rules) = part(path).rules else { return Ok(Vec::new()) };
    let before: Vec<PolicySource> = rules.policies().collect();
    let findings =
        |sources: &[PolicySource]| findings(sources, compile(Ok(rules.with_texts(sources)), entities), ask);
    let mut now = before.clone();
    let mut counts = vec![0; before.len()];
    let mut found = findings(&now);
    for _ in 0..ROUNDS {
        let wanted: Vec<Diagnostic> = found.iter().filter(|finding| is_wanted(finding)).cloned().collect();
        let mut next = now.clone();
        let mut edits = vec![0; next.len()];
        for (source, edits) in next.iter_mut().zip(&mut edits).filter(|(source, _)| !source.is_baseline) {
            let (text, count) = lint::apply(&source.file, &source.text, &wanted);
            source.text = text.into();
            *edits = count;
        }
        let after = findings(&next);
        if edits.iter().all(|count| *count == 0) || errors(&after) > errors(&found) {
            break;
        }
        counts.iter_mut().zip(&edits).for_each(|(sum, count)| *sum += count);
        (now, found) = (next, after);
    }
    let mut written = Vec::new();
    for ((old, new), count) in before.iter().zip(&now).zip(counts) {
        if old.text != new.text {
            replace(path, &new.file, &new.text)?;
            written.push((Arc::clone(&new.file), count));
        }
    }
    Ok(written)
}

fn findings(
    sources: &[PolicySource],
    compiled: Result<Snapshot, Vec<Diagnostic>>,
    ask: LintAsk<'_>,
) -> Vec<Diagnostic> {
    match compiled {
        Ok(snapshot) => judge(&snapshot, sources, &CaseReport::default(), ask).0,
        Err(found) => lint::with_guards(found, sources),
    }
}

fn errors(found: &[Diagnostic]) -> usize {
    found.iter().filter(|finding| finding.severity == Severity::Error).count()
}

#[cfg(test)]
mod tests;
