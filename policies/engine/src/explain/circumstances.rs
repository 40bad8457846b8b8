//! Everything a question tells besides who, what and which, as one document: what `values seen` are read from, and what
//! a case of `policy test` holds.

use crate::{AdminContext, OwnedFacts};
use base_ports::UnixTime;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// The context of the schema in plain JSON: `connection`, `request`, `rpc`, `time`, and what issuance or publishing add.
pub(crate) fn circumstances(
    facts: &OwnedFacts,
    now: UnixTime,
    extra: Option<&AdminContext>,
) -> Map<String, Value> {
    let mut out = facts.to_json();
    out.extend(clock(now).map(|clock| ("time".to_owned(), clock)));
    match extra {
        Some(AdminContext::Change(change)) => {
            let change = json!({
                "scope": change.scope, "widens": change.widens, "tests_passed": change.tests_passed,
                "coverage": change.coverage, "approvals": change.approvals,
                "caller_is_author": change.caller_is_author, "touches_baseline": change.touches_baseline,
                "replay_newly_denied": change.replay_newly_denied,
            });
            out.insert("change".to_owned(), change);
        }
        Some(AdminContext::Issue(issue)) => {
            let issue = json!({
                "kind": issue.kind, "ttl_seconds": issue.ttl_seconds, "audience": issue.audience,
                "attested_by": issue.attested_by, "selectors": issue.selectors, "entry": issue.entry,
            });
            out.extend(issue.as_object().cloned().unwrap_or_default());
        }
        None => {}
    }
    out
}

/// As policies see the clock: UTC to the millisecond, 1 = Monday, minute of the day.
fn clock(now: UnixTime) -> Option<Value> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.as_nanos())).ok()?;
    let (date, time) = (at.date(), at.time());
    let stamp = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    let minute = u32::from(time.hour()) * 60 + u32::from(time.minute());
    Some(json!({ "now": stamp, "weekday": date.weekday().number_from_monday(), "minute": minute }))
}
