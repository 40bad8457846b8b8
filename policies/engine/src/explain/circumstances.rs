//! Everything a question tells besides who, what and which, as one document: what `values seen` are read from, and what
//! a case of `policy test` holds.

use crate::{AdminContext, ChangeContext, IssueContext, OwnedFacts};
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
            // Every member by name: one more in the schema is one more here.
            let ChangeContext {
                scope,
                widens,
                tests_passed,
                coverage,
                approvals,
                caller_is_author,
                two_person,
                touches_baseline,
                replay_newly_denied,
            } = change;
            let change = json!({
                "scope": scope, "widens": widens, "tests_passed": tests_passed, "coverage": coverage,
                "approvals": approvals, "caller_is_author": caller_is_author, "two_person": two_person,
                "touches_baseline": touches_baseline, "replay_newly_denied": replay_newly_denied,
            });
            out.insert("change".to_owned(), change);
        }
        Some(AdminContext::Issue(issue)) => {
            let IssueContext { kind, ttl_seconds, audience, attested_by, selectors, entry } = issue;
            let issue = json!({
                "kind": kind, "ttl_seconds": ttl_seconds, "audience": audience, "attested_by": attested_by,
                "selectors": selectors, "entry": entry,
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
