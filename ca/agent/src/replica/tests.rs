//! Streams that begin, break and lie. What a real authority sends is tested where both halves are: in `portcullis`.

use ca_identity::testing::{TestCa, now};
use serde_json::{Value, json};

use super::*;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn receiver() -> Receiver {
    Receiver::new(
        domain(),
        Replica::new(&domain(), &TestCa::new("example.org", now()).bundle().to_jwks()).unwrap(),
    )
}

fn entry(id: &str, revision: u64) -> Value {
    json!({
        "id": id, "revision": revision, "spiffe_id": format!("spiffe://example.org/{id}"),
        "selectors": ["unix:uid:1"], "dns_names": [], "federates_with": [], "hint": "", "created_at_nanos": 1,
    })
}

fn entries(whole: bool, put: &[Value], gone: &[&str]) -> String {
    json!({ "frame": "entries", "whole": whole, "put": put, "gone": gone }).to_string()
}

/// The `state` that fits what `replica` holds, with these entries.
fn state(replica: &Replica, entries: &[(&str, u64)], revision: u64) -> String {
    let text: String = entries.iter().map(|(id, revision)| format!("{id} {revision}\n")).collect();
    let versions = Versions { entries: hash(text.as_bytes()), ..replica.versions() };
    json!({ "frame": "state", "revision": revision, "versions": versions }).to_string()
}

#[test]
fn ag_01_parts_count_once_the_authority_says_that_they_are_whole() {
    let mut receiver = receiver();
    assert!(!receiver.current().is_known());
    assert_eq!(receiver.begin().revision, None);
    let begun = receiver.current();
    assert!(matches!(
        receiver.take(entries(true, &[entry("a", 1), entry("b", 2)], &[]).as_bytes()),
        Ok(Taken::Part)
    ));
    assert!(receiver.current().entries().is_empty(), "nobody sees a part");
    let whole = state(&begun, &[("a", 1), ("b", 2)], 2);
    assert!(matches!(receiver.take(whole.as_bytes()), Ok(Taken::New)));
    assert_eq!(receiver.current().entries().len(), 2);
    assert!(receiver.current().is_known());
    assert!(matches!(receiver.take(whole.as_bytes()), Ok(Taken::Same)), "the compare of each minute");

    receiver.take(entries(false, &[entry("b", 5)], &["a"]).as_bytes()).unwrap();
    receiver.take(state(&begun, &[("b", 5)], 5).as_bytes()).unwrap();
    assert_eq!(receiver.current().entries().len(), 1);
    let resume = receiver.begin();
    assert_eq!((resume.revision, &resume.versions), (Some(5), &receiver.current().versions()));
}

#[test]
fn ag_01_a_stream_that_breaks_between_parts_changes_nothing() {
    let mut receiver = receiver();
    let begun = receiver.current();
    receiver.take(entries(true, &[entry("a", 1)], &[]).as_bytes()).unwrap();
    receiver.take(state(&begun, &[("a", 1)], 1).as_bytes()).unwrap();
    receiver.take(entries(false, &[], &["a"]).as_bytes()).unwrap();
    assert_eq!(receiver.begin().revision, Some(1), "what was staged is forgotten");
    assert!(matches!(receiver.take(state(&begun, &[("a", 1)], 1).as_bytes()), Ok(Taken::Same)));
    assert_eq!(receiver.current().entries().len(), 1);
}

#[test]
fn ag_01_drift_and_nonsense_have_everything_sent_anew_and_the_last_copy_stays() {
    for line in [
        "{}".to_owned(),
        "no json".to_owned(),
        json!({ "frame": "denied", "whole": false, "put": "AAAA", "gone": "" }).to_string(),
        json!({ "frame": "bundle", "document": "{}" }).to_string(),
        json!({ "frame": "state", "revision": 9, "versions": Versions::default() }).to_string(),
        entries(false, &[], &["a"]) + "\n" + "{}",
    ] {
        let mut receiver = receiver();
        let begun = receiver.current();
        receiver.take(entries(true, &[entry("a", 1)], &[]).as_bytes()).unwrap();
        let whole = state(&begun, &[("a", 1)], 1);
        receiver.take(whole.as_bytes()).unwrap();
        assert!(receiver.take(line.as_bytes()).is_err(), "{line}");
        assert_eq!(receiver.begin(), Resume::default(), "{line}");
        assert_eq!(receiver.current().entries().len(), 1, "{line}");
        receiver.take(entries(true, &[entry("a", 1)], &[]).as_bytes()).unwrap();
        receiver.take(whole.as_bytes()).unwrap();
        assert_eq!(receiver.begin().revision, Some(1), "trust is back: {line}");
    }
}

#[test]
fn what_a_newer_authority_says_besides_is_passed_over() {
    let mut receiver = receiver();
    let begun = receiver.current();
    assert!(matches!(receiver.take(br#"{"frame":"weather","sun":true}"#), Ok(Taken::Part)));
    let mut odd = entry("odd", 1);
    odd["selectors"] = json!(["tpm:key:1"]);
    receiver.take(entries(true, &[odd, entry("a", 2)], &[]).as_bytes()).unwrap();
    receiver.take(state(&begun, &[("a", 2), ("odd", 1)], 2).as_bytes()).unwrap();
    let ids: Vec<_> = receiver.current().entries().into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["a"], "an entry with unknown selectors is nobody's");
}
