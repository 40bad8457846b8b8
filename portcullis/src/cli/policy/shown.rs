//! How changes, versions and their authors look to people; every verb of `policy` shows them the same way.

use serde_json::Value;

use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit, table};

/// A member that is a text; empty when it is absent.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// `41` or `v41`, as people write a version.
pub(super) fn version_number(written: &str) -> Result<u64, Fault> {
    written.strip_prefix('v').unwrap_or(written).parse().map_err(|error| {
        let fault = Message::error("PC0104", format!("`{written}` is no version: {error}"));
        Fault::new(
            Exit::Usage,
            fault.help("versions are numbers, such as v41").next("portcullis policy versions"),
        )
    })
}

/// `uid 1001` for a local user, the id alone for everybody else.
pub(super) fn who(principal: &str) -> String {
    let id = principal.split('"').nth(1).unwrap_or(principal);
    if principal.starts_with("Portcullis::LocalUser::") { format!("uid {id}") } else { id.to_owned() }
}

/// Seconds are enough for people.
pub(super) fn time(rfc3339: &str) -> String {
    rfc3339.split(['.', 'Z']).next().unwrap_or_default().replace('T', " ")
}

fn all(value: &Value, name: &str, each: impl Fn(&Value) -> String) -> String {
    value.get(name).and_then(Value::as_array).into_iter().flatten().map(each).collect::<Vec<_>>().join(", ")
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A table of changes.
pub(super) fn changes(items: Vec<Value>) -> Answer {
    let rows = items.iter().map(|change| {
        vec![
            text(change, "id").to_owned(),
            text(change, "stage").to_owned(),
            format!("v{}", number(change, "base")),
            who(text(change, "author")),
            all(change, "approvals", |approval| who(text(approval, "by"))),
            text(change, "message").to_owned(),
            all(change, "files", string),
        ]
    });
    let text = table(&["ID", "STAGE", "BASE", "AUTHOR", "APPROVED BY", "MESSAGE", "FILES"], rows);
    list("Change", items, text)
}

/// A table of versions.
pub(super) fn versions(items: Vec<Value>) -> Answer {
    let rows = items.iter().map(|version| {
        let origin = match version.get("rollback_of").and_then(Value::as_u64) {
            Some(of) => format!("rollback to v{of}"),
            None => text(version, "origin").to_owned(),
        };
        vec![
            format!("v{}", number(version, "version")),
            text(version, "standing").to_owned(),
            time(text(version, "created")),
            who(text(version, "author")),
            all(version, "approvers", |approver| who(approver.as_str().unwrap_or_default())),
            origin,
            text(version, "message").to_owned(),
        ]
    });
    let headers = ["VERSION", "STATE", "COMMITTED", "AUTHOR", "APPROVED BY", "FROM", "MESSAGE"];
    let text = table(&headers, rows);
    list("PolicyVersion", items, text)
}

/// What a status says about how the policies in force came to be, and what waits.
pub(crate) fn standing(status: &Value) -> Vec<String> {
    let of = |pointer: &str| status.pointer(pointer).filter(|value| !value.is_null());
    let mut lines = Vec::new();
    if let Some(version) = of("/policies/in_force") {
        let activated = version.get("activated").cloned().unwrap_or_default();
        let mut line = format!(
            "v{} in force since {} by {}",
            number(version, "version"),
            time(text(&activated, "at")),
            who(text(&activated, "by"))
        );
        if !text(version, "message").is_empty() {
            line.push_str(&format!(": {}", text(version, "message")));
        }
        lines.push(line);
    }
    if of("/policies/differs") == Some(&Value::Bool(true)) {
        lines.push("the directory holds other files; they count when they are saved again".to_owned());
    }
    if let Some(shadow) = of("/policies/shadow") {
        lines.push(format!("v{} in shadow until {}", number(shadow, "version"), time(text(shadow, "until"))));
    }
    if let Some(ended) = of("/policies/shadow_ended") {
        let (version, at, why) = (number(ended, "version"), time(text(ended, "at")), text(ended, "why"));
        lines.push(format!("v{version} in shadow ended by itself at {at}: {why}"));
    }
    for (pointer, what) in [("/policies/open_changes", "open changes"), ("/policies/slow", "slow policies")] {
        let items = of(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let names: Vec<_> =
            items.iter().map(|item| item.as_str().unwrap_or_else(|| text(item, "id"))).collect();
        if !names.is_empty() {
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    }
    lines
}

/// A list with a text of its own.
pub(super) fn list(kind: &str, items: Vec<Value>, text: String) -> Answer {
    Answer { text, ..Answer::list(kind, items, &[]) }
}

/// One change in lines.
pub(super) fn change(change: &Value) -> String {
    let mut lines = vec![format!(
        "change {}  {}  on v{}  by {}",
        text(change, "id"),
        text(change, "stage"),
        number(change, "base"),
        who(text(change, "author"))
    )];
    for (label, value) in [
        ("message", text(change, "message").to_owned()),
        ("ticket", text(change, "ticket").to_owned()),
        ("files", all(change, "files", string)),
        ("approved by", all(change, "approvals", |approval| who(text(approval, "by")))),
        (
            "version",
            change.get("version").and_then(Value::as_u64).map(|v| format!("v{v}")).unwrap_or_default(),
        ),
    ] {
        if !value.is_empty() {
            lines.push(format!("{label:<12} {value}"));
        }
    }
    match change.get("checked").filter(|checked| !checked.is_null()) {
        Some(checked) => lines.push(format!("{:<12} {}", "checks", checks(checked))),
        None => lines.push(format!("{:<12} not checked as it is now", "checks")),
    }
    lines.join("\n")
}

/// A change, and what a check of it says it means.
pub(super) fn checked(checks: &Value, change: &Value) -> String {
    let meaning = text(checks, "text").trim_end();
    let about = self::change(change);
    if meaning.is_empty() { about } else { format!("{about}\n\n{meaning}\n") }
}

/// The outcome of a check in one line.
pub(super) fn checks(checked: &Value) -> String {
    let is = |name: &str| checked.get(name).and_then(Value::as_bool) == Some(true);
    let mut parts = vec![if is("passed") { "passed" } else { "FAILED" }.to_owned()];
    let (tests, failed) = (number(checked, "tests"), number(checked, "failed"));
    parts.push(match (tests, failed) {
        (0, _) => "no cases".to_owned(),
        (tests, 0) => format!("{tests} cases passed"),
        (tests, failed) => format!("{failed} of {tests} cases failed"),
    });
    if let Some(coverage) = checked.get("coverage").and_then(Value::as_u64) {
        parts.push(format!("coverage {coverage} %"));
    }
    for (name, count) in [("error", number(checked, "errors")), ("warning", number(checked, "warnings"))] {
        if count > 0 {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    parts.push(if is("widens") { "lets somebody do more than before" } else { "opens nothing" }.to_owned());
    if is("touches_baseline") {
        parts.push("changes shipped policies".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_see_short_names_and_times() {
        assert_eq!(who("Portcullis::LocalUser::\"1001\""), "uid 1001");
        assert_eq!(who("Workload::\"spiffe://example.org/ci\""), "spiffe://example.org/ci");
        assert_eq!(who(""), "");
        assert_eq!(time("2026-11-22T07:00:00.123456789Z"), "2026-11-22 07:00:00");
        assert_eq!(time("2026-11-22T07:00:00Z"), "2026-11-22 07:00:00");
        assert!(
            version_number("41").is_ok() && version_number("v41").is_ok() && version_number("c1").is_err()
        );
    }

    #[test]
    fn a_check_says_what_matters_for_publishing() {
        let checked = json!({ "passed": false, "errors": 1, "warnings": 0, "tests": 3, "failed": 2, "coverage": 80, "widens": true, "touches_baseline": true });
        assert_eq!(
            checks(&checked),
            "FAILED, 2 of 3 cases failed, coverage 80 %, 1 error, lets somebody do more than before, changes shipped policies"
        );
        let change = json!({ "id": "c1", "stage": "draft", "base": 3, "author": "Portcullis::LocalUser::\"0\"", "files": ["a.cedar"], "checked": null });
        assert_eq!(
            super::change(&change),
            "change c1  draft  on v3  by uid 0\nfiles        a.cedar\nchecks       not checked as it is now"
        );
    }
}
