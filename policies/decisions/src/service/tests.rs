//! The service as a client sees it.

mod people;
mod streams;

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use base_ports::MemoryDisk;
use futures_util::StreamExt;
use policies_engine::{DecisionId, Effect, OwnedFacts, OwnedRequest, Principal};
use tower::ServiceExt;

use super::*;
use crate::Sight;
use crate::testing::{
    NOON, Namespaces, allow, at, clock, config, decision, eventually, example, open_with, wait,
};

/// A reader of those namespaces, and of the trust domain where an empty name stands among them.
fn reader(uid: u32, namespaces: &'static [&'static str]) -> Reader {
    let sight = Sight::new(Namespaces(namespaces));
    Reader {
        principal: Principal::local_user(uid, None, &[]),
        reveals: sight.clone(),
        sight,
        credential: None,
    }
}

/// Somebody who sees everything.
fn all() -> Reader {
    reader(1000, &["", "shop", "front", "other"])
}

fn asked_by(mut request: Request<Body>, reader: Reader) -> Request<Body> {
    request.extensions_mut().insert(reader);
    request
}

fn filled() -> (Ledger, Vec<DecisionId>) {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let mut ids = vec![lane.record(example()).0];
    for n in 1..=9 {
        ids.push(lane.record(decision(Effect::Allow, policies_engine::Audit::BestEffort, at(-n))).0);
    }
    eventually("written", || ledger.stats().next_index == 11);
    (ledger, ids)
}

fn get(ledger: &Ledger, uri: &str) -> (StatusCode, String, Value) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    wait(async {
        let answer =
            router(ledger.clone(), Options::default()).oneshot(asked_by(request, all())).await.unwrap();
        let status = answer.status();
        let media = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let body = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        (status, media, serde_json::from_slice(&body).unwrap())
    })
}

#[test]
fn ra3_a_listing_pages_by_cursor_to_its_end() {
    let (ledger, ids) = filled();
    let mut uri = "/v1/decisions?limit=4&kind=decision".to_owned();
    let mut seen = Vec::new();
    loop {
        let (status, media, body) = get(&ledger, &uri);
        assert_eq!((status, media.as_str()), (StatusCode::OK, "application/json"));
        let items = body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match body.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => uri = format!("/v1/decisions?limit=4&kind=decision&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn ra3_a_foreign_cursor_is_400() {
    let (ledger, _) = filled();
    let (_, _, body) = get(&ledger, "/v1/decisions?limit=2");
    let cursor = body["next_cursor"].as_str().unwrap();
    for uri in [
        format!("/v1/decisions?limit=2&effect=deny&cursor={cursor}"),
        format!("/v1/decisions?limit=2&order=asc&cursor={cursor}"),
        format!("/v1/decisions?limit=2&cursor={cursor}00"),
        "/v1/decisions?cursor=feed".to_owned(),
    ] {
        let (status, media, body) = get(&ledger, &uri);
        assert_eq!((status, media.as_str()), (StatusCode::BAD_REQUEST, "application/problem+json"), "{uri}");
        assert_eq!(body["code"], "foreign-cursor");
    }
    let (other, _) = filled();
    let (status, _, _) = get(&other, &format!("/v1/decisions?limit=2&cursor={cursor}"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[test]
fn qy1_an_unknown_filter_is_400_with_did_you_mean() {
    let (ledger, _) = filled();
    let (status, _, body) = get(&ledger, "/v1/decisions?efect=deny");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        body,
        json!({
            "type": "urn:portcullis:problem:unknown-filter", "title": "Bad Request", "status": 400,
            "detail": "unknown filter `efect`, did you mean `effect`?", "code": "unknown-filter",
            "hint": "did you mean `effect`?",
        })
    );
    for (uri, code) in [
        ("/v1/decisions?limit=1001", "bad-filter-value"),
        ("/v1/decisions?effect=deny&effect=allow", "repeated-filter"),
        ("/v1/decisions?from=3", "bad-filter-value"),
        ("/v1/decisions?watch=yes", "bad-filter-value"),
        ("/v1/decisions?watch=true&from=x", "bad-filter-value"),
        ("/v1/decisions?watch=true&limit=3", "bad-filter-value"),
        ("/v1/decisions/nonsense", "bad-id"),
        ("/v1/decisions/0..1", "bad-id"),
    ] {
        let (status, _, body) = get(&ledger, uri);
        assert_eq!((status, body["code"].as_str()), (StatusCode::BAD_REQUEST, Some(code)), "{uri}");
    }
}

#[test]
fn one_record_by_id_and_by_abbreviation() {
    let (ledger, ids) = filled();
    let text = ids[0].to_string();
    let (status, _, body) = get(&ledger, &format!("/v1/decisions/{text}"));
    assert_eq!((status, body["id"].as_str()), (StatusCode::OK, Some(text.as_str())));
    assert_eq!(body["log"]["origin"], "example.org/decisions/main");
    let (status, _, body) = get(
        &ledger,
        &format!("/v1/decisions/{}%E2%80%A6{}", text.get(..18).unwrap(), text.get(24..).unwrap()),
    );
    assert_eq!((status, body["id"].as_str()), (StatusCode::OK, Some(text.as_str())));
    let (status, _, body) = get(&ledger, &format!("/v1/decisions/{}..", text.get(..5).unwrap()));
    assert_eq!((status, body["code"].as_str()), (StatusCode::CONFLICT, Some("ambiguous-id")));
    assert!(body["candidates"].as_array().unwrap().iter().any(|id| *id == text));
    let (status, _, body) = get(&ledger, "/v1/decisions/01JD8Z6N4T0B7K3Q5XW2M9E47Q");
    assert_eq!((status, body["code"].as_str()), (StatusCode::NOT_FOUND, Some("decision-not-found")));
}

#[test]
fn dl4_hostile_text_leaves_escaped() {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let path = "/a\u{1b}[2J\u{202e}\n\"<script>";
    let mut record = allow();
    let request = OwnedRequest { path: path.to_owned(), ..OwnedRequest::default() };
    record.facts = Some(OwnedFacts::local("l").with_request(request).into());
    ledger.lane(0).record(record);
    eventually("written", || ledger.stats().next_index == 2);
    let request = Request::get("/v1/decisions?kind=decision").body(Body::empty()).unwrap();
    let body = wait(async {
        let answer =
            router(ledger.clone(), Options::default()).oneshot(asked_by(request, all())).await.unwrap();
        to_bytes(answer.into_body(), 1 << 20).await.unwrap()
    });
    let text = std::str::from_utf8(&body).unwrap();
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\n']), "{text}");
    let body: Value = serde_json::from_str(text).unwrap();
    assert_eq!(body.pointer("/items/0/request/path").unwrap(), path);
}

#[test]
fn rr4_a_read_is_itself_on_record() {
    let (ledger, ids) = filled();
    for uri in ["/v1/decisions?effect=allow".to_owned(), format!("/v1/decisions/{}", ids[0])] {
        let request = Request::get(uri).header("portcullis-purpose", "case 7").body(Body::empty()).unwrap();
        wait(async {
            router(ledger.clone(), Options::default()).oneshot(asked_by(request, all())).await.unwrap()
        });
    }
    eventually("the reads are written", || {
        let (_, _, body) = get(&ledger, "/v1/decisions?kind=read&order=asc");
        let told = |item: &Value| {
            assert!(item["principal"]["id"] == "1000");
            let mut read = item["body"].clone();
            let bytes = read.as_object_mut().unwrap().remove("bytes").unwrap();
            assert!(bytes.as_u64().unwrap() > 100);
            read
        };
        let reads: Vec<_> = body["items"].as_array().unwrap().iter().take(2).map(told).collect();
        reads
            == [
                json!({"call": "list", "query": "effect=allow", "count": 9, "purpose": "case 7"}),
                json!({"call": "get", "query": format!("id={}", ids[0]), "count": 1, "purpose": "case 7"}),
            ]
    });
    // So is one that failed.
    get(&ledger, "/v1/decisions?efect=deny");
    eventually("the refusal is written", || {
        let (_, _, body) = get(&ledger, "/v1/decisions?kind=read");
        let failed = body["items"].as_array().unwrap().iter().map(|item| item["body"].clone());
        let expected =
            json!({"call": "list", "query": "efect=?", "count": 0, "bytes": 0, "failed": "unknown-filter"});
        failed.into_iter().any(|read| read == expected)
    });
}

#[test]
fn ra6_a_watch_streams_and_resumes_after_the_last_event() {
    let (ledger, _) = filled();
    let watch = |from: &str, last: Option<&str>| {
        let mut request = Request::get(format!("/v1/decisions?watch=true&kind=decision{from}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let ledger = ledger.clone();
        async move {
            let answer = router(ledger, Options::default()).oneshot(asked_by(request, all())).await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            answer.into_body().into_data_stream()
        }
    };
    wait(async {
        let mut events = watch("&from=8", None).await;
        let mut next = async || String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(next().await, "id: 7\n: watching\n\n");
        for index in 8..11 {
            let event = next().await;
            assert!(
                event.starts_with(&format!("id: {index}\ndata: {{")) && event.ends_with("}\n\n"),
                "{event}"
            );
        }
        let (id, _) = ledger.lane(1).record(decision(Effect::Deny, policies_engine::Audit::BestEffort, NOON));
        let event = next().await;
        assert!(event.starts_with("id: 12\n") && event.contains(&id.to_string()), "{event}");

        let mut events = watch("&from=0", Some("9")).await;
        events.next().await;
        let event = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert!(event.starts_with("id: 10\n"), "{event}");
    });
}

#[test]
fn the_description_names_every_call() {
    let description = serde_json::to_value(<Api as utoipa::OpenApi>::openapi()).unwrap();
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    let expected = [
        "/v1/decisions",
        "/v1/decisions/gaps",
        "/v1/decisions/streams",
        "/v1/decisions/{id}",
        "/v1/decisions/{id}/proof",
        "/v1/decisions:aggregate",
        "/v1/decisions:erase",
        "/v1/decisions:export",
        "/v1/decisions:hold",
        "/v1/decisions:release",
        "/v1/decisions:report",
        "/v1/decisions:reveal",
        "/v1/log/checkpoint",
        "/v1/log/consistency",
        "/v1/log/keys",
        "/v1/log/keys:rotate",
        "/v1/log/tile/{path}",
    ];
    assert_eq!(paths, expected);
}
