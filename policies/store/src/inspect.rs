//! What is known about rules before they are put anywhere: whether they compile, whether somebody could still change
//! them (PS2), what their cases say, how they differ from what is in force (ST6).
//!
//! Called for every save of the directory, every check of a change and every version. Blocks; numbers and stores
//! nothing.

use crate::{
    Checked, Checks,
    cases::run_loaded,
    content::Content,
    files::{FileKind, Files},
    rules::Rules,
};
use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, AdminAction, AdminContext, ChangeContext, Coverage, Diagnostic, Numbers,
    OwnedFacts, PolicySource, Principal, Resource, Role, Severity, Snapshot,
    diff::{Difference, diff},
    lint::{self, LintInput},
};
use serde_json::Value;
use std::sync::Arc;

/// Cases that fail are told one by one up to here.
const TOLD: usize = 20;

/// What there is to compare with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// The snapshot in force.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// Its rules.
    pub(crate) rules: Option<Rules>,
}

/// What was found, and the snapshot when nothing blocks it.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) checks: Checks,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What must hold before something is in force.
    Save,
    /// Everything lint says, too.
    Check,
}

/// Compiles, runs the cases, and compares.
pub(crate) fn inspect(
    content: &Content,
    numbers: Numbers,
    before: &Before,
    (depth, now): (Depth, UnixTime),
) -> Inspected {
    let mut checks = Checks::default();
    let snapshot = match compile(content, numbers, before.snapshot.as_ref(), now) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(found) => return Inspected { checks: Checks::refused(found), snapshot: None },
    };
    let coverage = run_cases(&content.rules, &snapshot, &mut checks);
    let sources: Vec<PolicySource> = content.rules.policies().collect();
    let found = match depth {
        Depth::Save => lint::warnings(&snapshot, &sources),
        Depth::Check => {
            let coverage = (!checks.cases.is_empty()).then_some((&coverage, 0));
            lint::lint(&snapshot, &sources, &LintInput { now, usage: None, coverage })
        }
    };
    let errors = found.iter().filter(|finding| finding.severity == Severity::Error).count();
    checks.summary.errors += errors;
    checks.summary.warnings = found.len() - errors;
    checks.diagnostics.extend(found);
    checks.diagnostics = content.rules.outside.conceal(std::mem::take(&mut checks.diagnostics));
    let Checked { errors, failed, .. } = checks.summary;
    checks.summary.passed = errors == 0 && failed == 0;
    checks.summary.slow_policies = snapshot.slow_policies().count();
    let difference = before.snapshot.as_ref().map(|before| diff(before, &snapshot));
    checks.summary.touches_baseline = replaces(&content.rules, before.rules.as_ref())
        || difference.as_ref().is_some_and(Difference::touches_baseline);
    checks.summary.widens = difference.as_ref().is_none_or(|difference| difference.widens);
    checks.difference = difference;
    Inspected { checks, snapshot: Some(snapshot) }
}

/// The snapshot, if it compiles and somebody could change it again.
pub(crate) fn compile(
    content: &Content,
    numbers: Numbers,
    previous: Option<&Arc<Snapshot>>,
    now: UnixTime,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let compiled = Snapshot::compile_after(previous, content.input(numbers));
    let snapshot = compiled.map_err(|found| content.rules.outside.conceal(found))?;
    match locks_out(&snapshot, now) {
        None => Ok(snapshot),
        Some(action) => {
            let what = "nobody could change policies any more";
            let message = format!("{what}: role `operator` would lose `{}`", action.as_str());
            let finding = Diagnostic::about("PC2031", &content.rules.shown("baseline/roles.cedar"), message);
            Err(vec![finding.help("keep a permit for Portcullis::Role::\"operator\", and no forbid over it")])
        }
    }
}

/// What an operator could no longer do, with everything in order and everybody's consent.
fn locks_out(snapshot: &Snapshot, now: UnixTime) -> Option<AdminAction> {
    const NEEDED: [AdminAction; 3] =
        [AdminAction::PolicyDraft, AdminAction::PolicyPublish, AdminAction::PolicyRollback];
    let operator = Principal::local_user(0, None, &[Role::Operator]);
    let (resource, facts) = (Resource::policy_scope("/"), OwnedFacts::local("admin"));
    let change = ChangeContext {
        scope: "/".to_owned(),
        tests_passed: true,
        coverage: 100,
        approvals: 2,
        two_person: true,
        ..ChangeContext::default()
    };
    let change = AdminContext::Change(change);
    NEEDED.into_iter().find(|action| {
        let request = AccessRequest {
            principal: &operator,
            action: Action::Admin(*action),
            resource: &resource,
            facts: &facts,
            now,
            extra: (*action != AdminAction::PolicyDraft).then_some(&change),
        };
        !snapshot.decide(&request).is_allowed()
    })
}

/// Runs the cases, and tells of those that fail.
fn run_cases(rules: &Rules, snapshot: &Snapshot, checks: &mut Checks) -> Coverage {
    let cases: Vec<(String, Arc<str>)> = rules.cases().collect();
    if cases.is_empty() {
        return Coverage::default();
    }
    let report = run_loaded(snapshot, &cases, &|name| facts(&rules.files, name));
    let failures = report.cases.iter().filter_map(|case| {
        let message = format!("case `{}` fails: {}", case.name, case.failure.as_ref()?);
        Some(Diagnostic::about("PC2030", &Arc::from(case.file.as_str()), message))
    });
    let failures: Vec<Diagnostic> = failures.collect();
    checks.summary.tests = report.cases.len();
    checks.summary.failed = failures.len();
    checks.summary.errors += report.diagnostics.len();
    checks.summary.coverage = (!report.cases.is_empty()).then(|| report.coverage.percent());
    checks.diagnostics.extend(report.diagnostics);
    checks.diagnostics.extend(failures.into_iter().take(TOLD));
    checks.cases = report.cases;
    report.coverage
}

/// An entity file that a case names.
fn facts(files: &Files, name: &str) -> Result<Value, String> {
    let text =
        files.get(name).ok_or_else(|| format!("entities `{name}`: no such file beside the case file"))?;
    serde_json::from_str(text).map_err(|cause| format!("entities `{name}`: {cause}"))
}

/// Whether files stand in place of shipped ones, or cease to, that did not before.
fn replaces(after: &Rules, before: Option<&Rules>) -> bool {
    let of = |rules: &Rules| -> Vec<(String, Arc<str>)> {
        let replaced = rules.files.of(FileKind::Baseline);
        replaced.map(|(name, text)| (name.to_owned(), Arc::clone(text))).collect()
    };
    before.map(of).unwrap_or_default() != of(after)
}

#[cfg(test)]
mod tests;
