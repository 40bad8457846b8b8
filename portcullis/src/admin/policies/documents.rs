//! Changes, checks and versions as the API shows them (`docs/reference`): one function per kind.

use policies_engine::diff::Difference;
use policies_store::{Change, Checked, Checks, HistoryEntry, Origin, Standing, Step, VersionInfo};
use serde_json::{Value, json};

use crate::messages::Message;

/// A change without the text of its files, as in lists.
pub(super) fn change_in_short(change: &Change) -> Value {
    let files: Vec<_> = change.edits.iter().map(|edit| edit.file.as_str()).collect();
    json!({
        "id": change.id.to_string(), "revision": change.revision, "stage": change.stage.as_str(),
        "base": change.base, "author": change.author, "message": change.message, "ticket": change.ticket,
        "created": change.created.to_string(), "updated": change.updated.to_string(), "content": change.content,
        "files": files, "checked": change.checked.as_ref().map(checked),
        "impact": change.impact.map(|impact| json!({
            "replayed": impact.replayed, "newly_denied": impact.newly_denied, "newly_allowed": impact.newly_allowed,
        })),
        "approvals": change.approvals.iter().map(|approval| json!({ "by": approval.by, "at": approval.at.to_string() })).collect::<Vec<_>>(),
        "version": change.version,
    })
}

/// A change with everything in it.
pub(super) fn change(change: &Change) -> Value {
    let edits: Vec<_> =
        change.edits.iter().map(|edit| json!({ "file": edit.file, "text": edit.text })).collect();
    object("Change", with(change_in_short(change), "edits", edits))
}

fn checked(checked: &Checked) -> Value {
    json!({
        "passed": checked.passed, "errors": checked.errors, "warnings": checked.warnings, "tests": checked.tests,
        "failed": checked.failed, "coverage": checked.coverage, "widens": checked.widens,
        "touches_baseline": checked.touches_baseline, "slow_policies": checked.slow_policies,
    })
}

/// What a check found.
pub(super) fn checks(checks: &Checks) -> Value {
    let cases: Vec<_> = checks
        .cases
        .iter()
        .map(|case| json!({ "file": case.file, "name": case.name, "passed": case.failure.is_none(), "failure": case.failure }))
        .collect();
    let findings: Vec<_> = checks.diagnostics.iter().map(|found| Message::from(found).to_json()).collect();
    let document = with(with(checked(&checks.summary), "cases", cases), "diagnostics", findings);
    let meaning = checks.difference.as_ref();
    let document = with(document, "meaning", meaning.map(Difference::to_json));
    with(document, "text", meaning.map(Difference::to_text))
}

/// A version, with what came of it.
pub(super) fn version(version: &VersionInfo) -> Value {
    json!({
        "version": version.policies, "snapshot": version.snapshot, "epoch": version.epoch,
        "origin": origin(version.origin), "standing": standing(version.standing), "author": version.author,
        "approvers": version.approvers, "message": version.message, "ticket": version.ticket,
        "rollback_of": version.rollback_of, "change": version.change.map(|change| change.to_string()),
        "checks": checked(&version.checks), "created": version.created,
        "activated": version.activated.as_ref().map(|activated| json!({ "at": activated.at.to_string(), "by": activated.by })),
        "manifest": version.manifest, "parent": version.parent, "signed": version.note.is_some(),
    })
}

/// A version in which a policy changed.
pub(super) fn step(entry: &HistoryEntry) -> Value {
    let word = match entry.step {
        Step::Added => "added",
        Step::Changed => "changed",
        Step::Moved => "moved",
        Step::Removed => "removed",
    };
    let version = with(version(&entry.version), "step", word);
    let version = with(version, "file", entry.file.clone());
    with(with(version, "line", entry.line), "text", entry.text.clone())
}

/// A single object with its kind.
pub(super) fn object(kind: &str, value: Value) -> Value {
    let mut document = json!({ "apiVersion": "portcullis/v1", "kind": kind });
    if let (Some(members), Value::Object(fields)) = (document.as_object_mut(), value) {
        members.extend(fields);
    }
    document
}

/// `value` with one more member.
pub(super) fn with(mut value: Value, name: &str, member: impl Into<Value>) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), member.into());
    }
    value
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Change => "change",
        Origin::Directory => "directory",
        Origin::Rollback => "rollback",
        Origin::Shipped => "shipped",
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Committed => "committed",
        Standing::Active => "active",
        Standing::Retired => "retired",
    }
}
