//! Runs the `*_test.json` of a directory, in the shape of Cedar's `run-tests` (TE1). Starts and stores nothing.

use crate::{
    check::compile,
    open,
    part::{home, part},
    rules::Rules,
};
use policies_engine::{Coverage, CoverageTally, Diagnostic, EntitySet, Snapshot};
use serde_json::Value;
use std::{io::Read, path::Path, sync::Arc};

/// What came of all cases of a directory.
#[derive(Debug, Clone, Default)]
pub struct CaseReport {
    /// Why cases could not run: bad policies, files that hold no cases. Empty when all ran.
    pub diagnostics: Vec<Diagnostic>,
    /// Every case that ran, file by file.
    pub cases: Vec<CaseResult>,
    /// What the cases show of each policy (TE4).
    pub coverage: Coverage,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What was expected and what came; none when the case passed.
    pub failure: Option<String>,
}

/// Runs every case of the directory or file `path` on its policies, the shipped ones and `entities`. Blocks.
#[must_use]
pub fn run_cases(path: &Path, entities: &EntitySet) -> CaseReport {
    let rules = part(path).rules;
    let cases = cases(&rules);
    let outside = rules.as_ref().map(|rules| rules.outside.clone()).unwrap_or_default();
    let mut report = match compile(rules, entities) {
        Ok(snapshot) => run_loaded(&snapshot, &cases, &beside(path)),
        Err(diagnostics) => CaseReport { diagnostics, ..CaseReport::default() },
    };
    report.diagnostics = outside.conceal(report.diagnostics);
    report
}

/// Case files, by name and text.
pub(crate) fn cases(rules: &Result<Rules, Vec<Diagnostic>>) -> Vec<(String, Arc<str>)> {
    rules.iter().flat_map(Rules::cases).collect()
}

/// An entity file beside the case files of the directory or file `path`.
pub(crate) fn beside(path: &Path) -> impl Fn(&str) -> Result<Value, String> {
    |name| entity_file(home(path), name)
}

/// Runs case files, by name and text, on `snapshot`; `entities` reads an entity file that a case names.
pub(crate) fn run_loaded(
    snapshot: &Snapshot,
    files: &[(String, Arc<str>)],
    entities: &dyn Fn(&str) -> Result<Value, String>,
) -> CaseReport {
    let mut report = CaseReport::default();
    let mut tally = CoverageTally::default();
    for (file, text) in files {
        match policies_engine::run_cases_seen(snapshot, text, entities, &mut tally) {
            Ok(outcomes) => report.cases.extend(outcomes.into_iter().map(|outcome| CaseResult {
                file: file.clone(),
                name: outcome.name,
                failure: outcome.failure,
            })),
            Err(cause) => {
                let help = "a case file is a list of {name, request, entities, decision, reason, num_errors}";
                let found = Diagnostic::about("PC2002", &Arc::from(file.as_str()), cause.to_string());
                report.diagnostics.push(found.help(help));
            }
        }
    }
    report.coverage = tally.finish(snapshot);
    report
}

/// An entity file beside the case file, never outside its directory.
fn entity_file(dir: &Path, name: &str) -> Result<Value, String> {
    const BYTES: u64 = 64 << 20;
    let fault = |cause: &dyn std::fmt::Display| format!("entities `{name}`: {cause}");
    if Path::new(name).file_name().is_none_or(|last| last != name) {
        return Err(fault(&"only files beside the case file can be named"));
    }
    let home = dir.canonicalize().map_err(|cause| fault(&cause))?;
    let path = dir.join(name).canonicalize().map_err(|cause| fault(&cause))?;
    if !path.starts_with(&home) {
        return Err(fault(&"the file lies outside the directory"));
    }
    let mut bytes = Vec::new();
    let file = open::file(&path).map_err(|cause| fault(&cause))?;
    let read = file.take(BYTES + 1).read_to_end(&mut bytes).map_err(|cause| fault(&cause))?;
    if u64::try_from(read).is_ok_and(|read| read <= BYTES) {
        serde_json::from_slice(&bytes).map_err(|cause| fault(&cause))
    } else {
        Err(fault(&format!("more than {BYTES} bytes")))
    }
}

#[cfg(test)]
mod tests;
