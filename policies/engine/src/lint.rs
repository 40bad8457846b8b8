//! Lint: what is valid and still wrong, or will be (PC2101 to PC2121).
//!
//! `policy lint`, `check` and the gates of the policy store ask [`lint`] about a compiled snapshot. PC2101, PC2102,
//! PC2107 and most of PC2111 are errors of compilation already; [`with_guards`] adds the edit that lint can make.
//! Each rule is one function over one policy; it reads no file and no clock, and what only a running process knows
//! comes in as [`Usage`]. Shipped policies are not judged.

mod condition;
mod fix;
mod guard;
mod letters;
mod notes;
mod scope;
mod subject;
mod survey;
#[cfg(test)]
mod tests;
mod walk;
mod words;

use crate::{
    Coverage, Diagnostic, PolicySource, Severity, Snapshot, rule::Rule, scope::ScopeIndex, snapshot::Parts,
};
use base_ports::UnixTime;
use std::{collections::HashMap, sync::Arc, thread, time::Duration};
use subject::{Places, Subject};
use survey::{Survey, kinds};

pub use fix::apply;
pub use guard::with_guards;

/// What lint is told besides policies.
#[derive(Debug, Clone, Copy)]
pub struct LintInput<'a> {
    /// The clock.
    pub now: UnixTime,
    /// What became of the policies in force; none when no running process was asked.
    pub usage: Option<&'a Usage>,
    /// What the cases cover, and the least percentage; none when no cases ran.
    pub coverage: Option<(&'a Coverage, u8)>,
}

/// What a running process knows about the policies in force.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// How far back its records were read.
    pub window: Duration,
    /// By policy id; a policy without a record is not in it.
    pub policies: HashMap<String, PolicyUse>,
}

/// What became of one policy.
#[derive(Debug, Clone, Default)]
pub struct PolicyUse {
    /// Calls it decided, helped to decide, or would have.
    pub matched: u64,
    /// The forbid that refused every call that this permit matched, and how many.
    pub overruled: Option<(String, u64)>,
    /// Since when it is in force as it stands.
    pub since: Option<UnixTime>,
}

/// A rule of lint.
#[derive(Debug, Clone, Copy)]
pub struct LintRule {
    /// Its code.
    pub code: &'static str,
    /// How bad what it finds is.
    pub severity: Severity,
    judge: fn(&Subject<'_>) -> Vec<Diagnostic>,
}

/// Every rule that judges compiled policies, by code.
pub const RULES: &[LintRule] = {
    use Severity::{Error, Note, Warning};
    &[
        LintRule { code: "PC2103", severity: Error, judge: scope::everything },
        LintRule { code: "PC2104", severity: Warning, judge: scope::offered },
        LintRule { code: "PC2105", severity: Warning, judge: notes::unused },
        LintRule { code: "PC2106", severity: Warning, judge: scope::overruled },
        LintRule { code: "PC2108", severity: Warning, judge: condition::path_patterns },
        LintRule { code: "PC2109", severity: Note, judge: condition::identity_paths },
        LintRule { code: "PC2110", severity: Warning, judge: notes::ownerless },
        LintRule { code: "PC2111", severity: Warning, judge: condition::undeclared },
        LintRule { code: "PC2112", severity: Warning, judge: condition::one_of_many },
        LintRule { code: "PC2113", severity: Warning, judge: scope::anybody },
        LintRule { code: "PC2114", severity: Warning, judge: notes::uncovered },
        LintRule { code: "PC2115", severity: Warning, judge: scope::anonymous_writes },
        LintRule { code: "PC2116", severity: Warning, judge: condition::fallible_forbids },
        LintRule { code: "PC2117", severity: Warning, judge: notes::old_shadows },
        LintRule { code: "PC2118", severity: Warning, judge: notes::expiring },
        LintRule { code: "PC2119", severity: Note, judge: condition::timed_streams },
        LintRule { code: "PC2120", severity: Note, judge: notes::slow },
    ]
};

/// Codes of lint that compilation or the text alone gives.
pub const OTHER_CODES: &[&str] = &["PC2101", "PC2102", "PC2107", "PC2121"];

/// Everything there is to say about `snapshot`, its own warnings too. `sources` are the files it was compiled from.
#[must_use]
pub fn lint(snapshot: &Snapshot, sources: &[PolicySource], input: &LintInput<'_>) -> Vec<Diagnostic> {
    judge(snapshot, sources, input, (&|_| true, &|_, _| true))
}

/// The warnings of `snapshot` with PC2104 and PC2111, for those who only check: what names nothing is a typing error.
#[must_use]
pub fn warnings(snapshot: &Snapshot, sources: &[PolicySource]) -> Vec<Diagnostic> {
    // These ask no clock.
    let input = LintInput { now: UnixTime::from_nanos(0), usage: None, coverage: None };
    let is_asked = |rule: &LintRule| matches!(rule.code, "PC2104" | "PC2111");
    // To look at the text of a policy takes longer than to compile a change of it, so most are not looked at.
    let is_told = |rule: &Rule, survey: &Survey<'_>| {
        !scope::is_offered(rule, snapshot, survey) || !condition::is_declared(rule, snapshot)
    };
    judge(snapshot, sources, &input, (&is_asked, &is_told))
}

/// `snapshot` without its forbids: which permits match a call that a forbid refused (PC2106).
#[must_use]
pub fn permits(snapshot: &Snapshot) -> Snapshot {
    let parts = snapshot.parts();
    let rules: Arc<[_]> = parts.rules.iter().filter(|rule| rule.is_permit()).cloned().collect();
    let by_id: HashMap<_, _> =
        rules.iter().enumerate().map(|(at, rule)| (Arc::clone(&rule.id), at)).collect();
    Snapshot::assemble(Parts {
        index: ScopeIndex::of(&rules).into(),
        by_id: by_id.into(),
        distrust: Arc::default(),
        candidate: None,
        rules,
        ..parts.clone()
    })
}

/// Codes of rules that could not be asked, and what they lack.
#[must_use]
pub fn silent(snapshot: &Snapshot, input: &LintInput<'_>) -> Vec<(&'static str, &'static str)> {
    let mut silent = Vec::new();
    if !kinds(snapshot).contains("Service") {
        silent.push(("PC2104", "no service is known; give the configuration with -c"));
    }
    if input.usage.is_none() {
        silent.push(("PC2105", "needs the ledger; ask a running process with --live"));
        silent.push(("PC2117", "needs the history; ask a running process with --live"));
    }
    if input.coverage.is_none() {
        silent.push(("PC2114", "no *_test.json"));
    }
    silent
}

/// Whether some rule can have a word about a policy.
type IsTold<'a> = dyn Fn(&Rule, &Survey<'_>) -> bool + Sync + 'a;

fn judge(
    snapshot: &Snapshot,
    sources: &[PolicySource],
    input: &LintInput<'_>,
    (is_asked, is_told): (&(dyn Fn(&LintRule) -> bool + Sync), &IsTold<'_>),
) -> Vec<Diagnostic> {
    // Trees can be deep; the stack of the caller need not be.
    on_large_stack(|| {
        let mut found = snapshot.warnings().to_vec();
        let survey = Survey::of(snapshot, input);
        let rules = snapshot.parts().rules.iter();
        let rules: Vec<&Arc<Rule>> =
            rules.filter(|rule| !rule.is_baseline && is_told(rule, &survey)).collect();
        let places = Places::of(sources, &rules);
        for rule in rules {
            let Ok(policy) = rule.policy() else { continue };
            let Ok(tree) = policy.to_pst() else { continue };
            let subject = Subject::new(snapshot, input, rule, tree.body(), &places, &survey);
            for LintRule { code, severity, judge } in RULES.iter().filter(|rule| is_asked(rule)) {
                let told = judge(&subject).into_iter();
                found.extend(told.map(|finding| Diagnostic { code, severity: *severity, ..finding }));
            }
        }
        for source in sources.iter().filter(|source| !source.is_baseline) {
            let hidden = letters::hidden(source, &found);
            found.extend(hidden);
        }
        found.sort_by(|a, b| (&a.file, a.line, a.column, a.code).cmp(&(&b.file, b.line, b.column, b.code)));
        found
    })
    .unwrap_or_else(|| snapshot.warnings().to_vec())
}

/// Runs `work` where deep recursion is safe; none when that thread cannot be had.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    const STACK_BYTES: usize = 16 << 20;
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("policy-lint".to_owned()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
