//! Rules about annotations and about what became of a policy: PC2105, PC2110, PC2114, PC2117, PC2118,
//! PC2120.

use super::{scope::days, subject::Subject};
use crate::{Diagnostic, logic::Logic};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const SHADOW: Duration = Duration::from_secs(30 * 86_400);
const AHEAD: Duration = Duration::from_secs(14 * 86_400);

/// PC2105: nothing matched it for a long time.
pub(crate) fn unused(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let Some(usage) = subject.input.usage.filter(|usage| usage.window >= DAY) else { return Vec::new() };
    let used = usage.policies.get(&**subject.id());
    let is_new = used
        .and_then(|used| used.since)
        .is_some_and(|since| subject.input.now.saturating_since(since) < usage.window);
    // What a shadow policy matches is recorded as what it would do; what a forbid overrules is PC2106.
    let is_told = subject.rule.notes.is_shadow || used.is_some_and(|used| used.overruled.is_some());
    if is_new || is_told || used.is_some_and(|used| used.matched > 0) {
        return Vec::new();
    }
    let help = if subject.rule.is_permit() {
        "remove what nobody needs: what is not granted cannot be misused"
    } else {
        "a forbid may be a fence that nobody tries; remove it only when what it guards is gone"
    };
    let found = subject.at_effect(format!("`{}` matched no call in {}", subject.id(), days(usage.window)));
    vec![found.help(help)]
}

/// PC2110: a forbid that nobody owns.
pub(crate) fn ownerless(subject: &Subject<'_>) -> Vec<Diagnostic> {
    if subject.rule.is_permit() || subject.rule.notes.owner.is_some() {
        return Vec::new();
    }
    let found = subject.at_effect("this forbid has no `@owner`");
    vec![
        found
            .label("whom does a refused caller ask?")
            .help("write `@owner(\"team\")` above it; `explain` shows the owner"),
    ]
}

/// PC2114: the cases see less of the policy than they should.
pub(crate) fn uncovered(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let Some((_, threshold)) = subject.input.coverage else { return Vec::new() };
    let of_policy = subject.survey.coverage.get(&**subject.id());
    let Some(policy) = of_policy.filter(|policy| policy.percent() < threshold) else { return Vec::new() };
    let message = format!(
        "cases cover {} % of `{}`; at least {threshold} % are asked for",
        policy.percent(),
        policy.id
    );
    let missing = policy.missing.first().cloned().unwrap_or_default();
    let found = subject.at_effect(message).label(missing);
    vec![found.help("`portcullis policy test --coverage` lists what no case shows")]
}

/// PC2117: a shadow policy that was forgotten.
pub(crate) fn old_shadows(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let since = subject.input.usage.and_then(|usage| usage.policies.get(&**subject.id())?.since);
    let age = since.map(|since| subject.input.now.saturating_since(since)).filter(|age| *age > SHADOW);
    let Some(age) = age.filter(|_| subject.rule.notes.is_shadow) else { return Vec::new() };
    let found = subject.at_note("mode", format!("`{}` is in shadow mode for {}", subject.id(), days(age)));
    vec![found.help("look at what it would do (`portcullis decisions query --would deny`), then let it go live or remove it")]
}

/// PC2118: a permit that ends soon, or has ended.
pub(crate) fn expiring(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let Some(expires) = subject.rule.notes.expires else { return Vec::new() };
    let now = subject.input.now;
    let left = expires.saturating_since(now);
    let found = if now >= expires {
        subject
            .at_note("expires", format!("`{}` grants nothing since {expires}", subject.id()))
            .help("remove it, or set a new date")
    } else if left <= AHEAD {
        let message = format!("`{}` ends in {}", subject.id(), days(left));
        subject.at_note("expires", message).help("set a new date, or tell those who need it")
    } else {
        return Vec::new();
    };
    vec![found]
}

/// PC2120: a policy that stock Cedar judges.
pub(crate) fn slow(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let Logic::Slow(why) = &subject.rule.logic else { return Vec::new() };
    let message = format!("`{}` is not compiled: {why}", subject.id());
    let found = subject.at_effect(message).label("stock Cedar judges it for every call it may match");
    vec![
        found.help(
            "it is right and takes microseconds; write the condition in another way, or narrow its scope",
        ),
    ]
}
