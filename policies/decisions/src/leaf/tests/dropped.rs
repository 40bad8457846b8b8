//! What the site leaves out is absent from the leaf, its length is told, and nothing stands in for it.

use super::*;
use crate::redact::DropList;

fn call() -> DecisionRecord {
    let declared = Declared {
        headers: ["x-token".into(), "x-empty".into(), "origin".into()].into(),
        query: ["token".into(), "page".into()].into(),
        params: ["id".into()].into(),
        ..Declared::default()
    };
    let sets = |pairs: &[(&str, &[&str])]| {
        let own = |(name, values): &(&str, &[&str])| {
            ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        };
        pairs.iter().map(own).collect::<BTreeMap<String, Vec<String>>>()
    };
    let request = OwnedRequest {
        method: "GET".to_owned(),
        host: "orders".to_owned(),
        path: "/orders/17".to_owned(),
        query: sets(&[("token", &["s3cret", "again"]), ("page", &["2"])]),
        query_names: ["token".to_owned(), "page".to_owned()].into(),
        headers: sets(&[("x-token", &["s3cret"]), ("origin", &["here"])]),
        params: [("id".to_owned(), "17".to_owned())].into(),
        ..OwnedRequest::default()
    };
    let mut record = example();
    let connection = record.facts.as_ref().unwrap().connection().clone();
    record.facts = Some(OwnedFacts::new(connection).with_request(request).into());
    record.versions = Some(Arc::new(Versions { declared: Arc::new(declared), ..versions() }));
    record
}

fn stored(dropped: &[&str]) -> StoredRecord {
    let dropped = DropList::read(dropped.iter().copied()).unwrap();
    let redaction = Redaction::new(&[7; 32], dropped);
    decoded(encoded_by(&Record::Decision(Box::new(call())), 0, &redaction))
}

fn told(stored: &StoredRecord) -> Vec<(&str, u64, bool)> {
    stored.truncated.iter().map(|cut| (cut.field.as_str(), cut.length, cut.sha256.is_some())).collect()
}

#[test]
fn cm2_single_members_are_left_out_and_told_by_length_alone() {
    let stored = stored(&["request.query.token", "request.headers.x-token", "request.headers.x-empty"]);
    assert_eq!(told(&stored), [("request.query.token", 2, false), ("request.headers.x-token", 1, false)],);
    assert!(!stored.leaf.windows(6).any(|window| window == b"s3cret"));
    let request = stored.facts().unwrap().owned_request().unwrap();
    assert_eq!(request.query.keys().collect::<Vec<_>>(), ["page"]);
    assert_eq!(request.headers.keys().collect::<Vec<_>>(), ["origin"]);
    assert!(request.query_names.contains("token"));
    let json = stored.to_json(&LogView::named("l"));
    assert_eq!(json["truncated"][0], serde_json::json!({"field": "request.query.token", "length": 2}));
}

#[test]
fn cm2_every_field_that_may_be_left_out_is_and_nothing_stands_for_it() {
    let all: Vec<_> = DropList::fields().collect();
    let stored = stored(&all);
    let mut fields: Vec<_> = told(&stored).into_iter().map(|(field, ..)| field.to_owned()).collect();
    fields.sort_unstable();
    // Nothing of the example has these two.
    let present = all.iter().filter(|field| !["request.length", "request.media_type"].contains(field));
    assert_eq!(fields, present.map(|field| (*field).to_owned()).collect::<Vec<_>>());
    assert!(stored.truncated.iter().all(|cut| cut.sha256.is_none() && cut.length > 0));
    let json = stored.to_json(&LogView::named("l"));
    let names = |section: &str| json[section].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names("connection"), ["mtls", "tls", "protocol", "listener"]);
    assert_eq!(names("request"), ["method"]);
    assert!(json.get("trace").is_none());
    let text = json.to_string();
    for gone in ["s3cret", "10.0.0.7", "/orders/17", "0.0.0.0", "4b4b4b"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
}

#[test]
fn cm2_what_is_left_out_is_listed_however_much_is_cut() {
    let mut record = call();
    record.determining = (0..40).map(|n| Arc::from(format!("{n}{}", "p".repeat(600)))).collect();
    let redaction = Redaction::new(&[7; 32], DropList::read(["connection.source_ip"]).unwrap());
    let stored = decoded(encoded_by(&Record::Decision(Box::new(record)), 0, &redaction));
    assert!(stored.is_dropped("connection.source_ip"));
    assert!(stored.to_json(&LogView::named("l"))["connection"].get("source_ip").is_none());
}

#[test]
fn cm2_what_is_left_out_is_lacking_for_who_judges_again() {
    let stored = stored(&["request.path", "request.query.token"]);
    let (leaf, mut shared) = (stored.leaf.clone(), Shared::default());
    let decided = Decided::of(&leaf, &mut shared).unwrap().unwrap();
    assert_eq!(decided.cut, ["request.query.token", "request.path"]);
    assert_eq!(stored.incomplete().collect::<Vec<_>>(), decided.cut);
    let mut record = call();
    record.principal = Principal::from_parts("User", "corp/alice").unwrap();
    let redaction = Redaction::new(&[7; 32], DropList::default());
    let leaf = encoded_by(&Record::Decision(Box::new(record)), 0, &redaction);
    let decided = Decided::of(&leaf, &mut shared).unwrap().unwrap();
    assert_eq!(decided.cut, ["principal.id"]);
}
