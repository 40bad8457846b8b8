//! Revelations and erasures: to whom, what is told, and what goes on record.

use base_ports::SystemRng;

use super::*;
use crate::{DropList, LedgerConfig, People, Redaction, testing::query};

fn committed(require_purpose: bool) -> (Ledger, Options, DecisionId) {
    let redaction =
        Redaction::new(&[7; 32], DropList::default()).with(People::Committed, Arc::new(SystemRng));
    let config = LedgerConfig { redaction: Arc::new(redaction), ..config() };
    let ledger = open_with(config, Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut record = example();
    record.principal = Principal::from_parts("User", "alice").unwrap();
    let (id, _) = ledger.lane(0).record(record);
    eventually("written", || ledger.stats().next_index == 2);
    (ledger, Options { require_purpose, ..Options::default() }, id)
}

/// Sees everything, and may reveal in those namespaces.
fn revealing(namespaces: &'static [&'static str]) -> Reader {
    Reader { reveals: Sight::new(Namespaces(namespaces)), ..all() }
}

fn post(
    ledger: &Ledger,
    options: Options,
    (uri, body): (&str, Value),
    purpose: Option<&str>,
    reader: Reader,
) -> (StatusCode, Value) {
    let mut request = Request::post(uri).header("content-type", "application/json");
    if let Some(purpose) = purpose {
        request = request.header("portcullis-purpose", purpose);
    }
    let mut request = request.body(Body::from(body.to_string())).unwrap();
    request.extensions_mut().insert(reader.principal.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = router(ledger.clone(), options).oneshot(asked_by(request, reader)).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    })
}

/// What was put on record of revelations: the question and why it failed.
fn reads(ledger: &Ledger) -> Vec<(String, Option<String>)> {
    let asked = query(&[("kind", "read"), ("since", "2000d"), ("order", "asc")], NOON);
    let rows = ledger.query(&asked).unwrap().rows.into_iter();
    rows.filter_map(|row| match row.body {
        crate::Body::Read(reading) if reading.call.as_deref() == Some("reveal") => {
            Some((reading.query, reading.failed))
        }
        _ => None,
    })
    .collect()
}

#[test]
fn rr3_only_who_may_reveal_is_told_and_each_question_is_on_record() {
    let (ledger, options, id) = committed(true);
    let ask = ("/v1/decisions:reveal", json!({"id": id.to_string()}));
    let told = |namespaces, purpose| post(&ledger, options, ask.clone(), purpose, revealing(namespaces));
    let (status, body) = told(&["shop"], Some("inquiry 7"));
    assert_eq!(
        (status, body["state"].as_str(), body["value"].as_str()),
        (StatusCode::OK, Some("clear"), Some("alice"))
    );
    assert_eq!((body["salt"].as_str().unwrap().len(), body["index"].as_str()), (64, Some("1")));
    for (namespaces, purpose, status, code) in [
        // What he may not have opened is not there for him, although he may read it.
        (&["front"][..], Some("why not"), StatusCode::NOT_FOUND, "decision-not-found"),
        (&[], Some("why not"), StatusCode::NOT_FOUND, "decision-not-found"),
        (&["shop"], None, StatusCode::BAD_REQUEST, "purpose-required"),
    ] {
        let (answered, body) = told(namespaces, purpose);
        assert_eq!((answered, body["code"].as_str()), (status, Some(code)), "{body}");
    }
    eventually("all are on record", || reads(&ledger).len() == 4);
    let reads = reads(&ledger);
    assert!(reads[0].0.ends_with("field=principal.id state=clear") && reads[0].1.is_none(), "{reads:?}");
    assert!(reads[1..].iter().all(|(query, failed)| query.contains(&id.to_string()) && failed.is_some()));
}

#[test]
fn cm5_an_erasure_needs_a_person_and_a_reason_that_does_not_name_her() {
    let (ledger, options, id) = committed(false);
    let erase = |subject: &str, reason: &str| {
        let body = json!({"subject": subject, "reason": reason});
        post(&ledger, options, ("/v1/decisions:erase", body), None, all())
    };
    for (subject, reason) in
        [("", "why"), ("alice", ""), ("alice", " "), ("alice", "a\nb"), ("alice", "for alice")]
    {
        assert_eq!(erase(subject, reason).0, StatusCode::BAD_REQUEST, "{subject} {reason}");
    }
    assert_eq!(erase("bob", "request 11").1["erased"], 0);
    assert_eq!(
        erase("alice", "request 12"),
        (
            StatusCode::OK,
            json!({
                "apiVersion": "portcullis/v1", "kind": "Erasure", "erased": 1,
            })
        )
    );
    let ask = ("/v1/decisions:reveal", json!({"id": id.to_string()}));
    let (status, body) = post(&ledger, options, ask, None, all());
    assert_eq!((status, body["state"].as_str(), body.get("value")), (StatusCode::OK, Some("erased"), None));
}
