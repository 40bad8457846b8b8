//! Questions as the standard writes them, against a judge that allows what ends in `Get`.

use super::{Options, router};
use crate::{Canonical, Held, Judge, Question, Unrecorded, Verdict, ext_authz::Asker};
use axum::{
    Extension, Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use base_ports::{Clock, ManualClock, Now, UnixTime};
use ca_identity::IdentitySnapshot;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use policies_engine::{Audit, Decision, DecisionId, Effect, Phase, Reason};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

#[derive(Debug, Default)]
struct Table {
    asked: Mutex<Vec<(Question, Option<Reason>)>>,
}

impl Table {
    fn answer(&self, question: Question, reason: Option<Reason>) -> Result<Verdict, Unrecorded> {
        let is_allowed = reason.is_none() && question.resource.id().ends_with("Get");
        let refusal = Decision::refusal(reason.unwrap_or(Reason::NoPermit));
        let decision = if is_allowed {
            Decision { effect: Effect::Allow, reason: Reason::Permit, audit: Audit::BestEffort, ..refusal }
        } else {
            refusal
        };
        let is_lost = question.resource.id() == "lost";
        self.asked.lock().push((question, reason));
        if is_lost {
            return Err(Unrecorded("disk full".to_owned()));
        }
        Ok(Verdict { decision, id: DecisionId::new(1, 2, 3), policies: 41, advice: None })
    }
}

impl Judge for Table {
    fn judge(&self, question: Question) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        let answer = self.answer(question, None);
        Box::pin(async { answer })
    }

    fn refuse(&self, question: Question, reason: Reason) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        let answer = self.answer(question, Some(reason));
        Box::pin(async { answer })
    }

    fn canonical(&self, _: &Held, _: &str, _: Option<&str>) -> Result<Canonical, String> {
        Err("not asked here".to_owned())
    }

    fn trust(&self) -> Arc<IdentitySnapshot> {
        Arc::default()
    }

    fn now(&self) -> Now {
        ManualClock::new(UnixTime::from_secs(1_763_800_000)).now()
    }
}

fn service() -> (Arc<Table>, Router) {
    let judge = Arc::new(Table::default());
    let types = [("app".to_owned(), "Workload".to_owned())].into();
    let options = Options { url: "https://gw.example.org/tenant".to_owned(), types };
    let router = router(Arc::clone(&judge) as Arc<dyn Judge>, options);
    (judge, router.layer(Extension(Asker("spiffe://example.org/pep".to_owned()))))
}

async fn send(router: &Router, path: &str, kind: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, kind)
        .header("x-request-id", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716")
        .body(body.into())
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["x-request-id"], "bfe9eb29-ab87-4ca3-be83-a1d5d8305716");
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn ask(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    send(router, path, "application/json", body.to_string()).await
}

fn context() -> Value {
    json!({
        "connection": { "mtls": true, "tls": 13, "source_ip": "10.0.0.7", "listener": "public", "protocol": "grpc" },
        "request": { "method": "POST", "host": "orders", "path": "/shop.Orders/Get" },
    })
}

fn question(method: &str) -> Value {
    json!({
        "subject": { "type": "app", "id": "spiffe://example.org/web" },
        "action": { "name": "grpc" },
        "resource": { "type": "Method", "id": format!("shop.Orders/{method}") },
        "context": context(),
    })
}

const ONE: &str = "/access/v1/evaluation";
const MANY: &str = "/access/v1/evaluations";

#[tokio::test]
async fn az1_types_and_facts_are_mapped_and_the_answer_names_the_record() {
    let (judge, router) = service();
    let (status, answer) = ask(&router, ONE, &question("Get")).await;
    assert_eq!(status, StatusCode::OK);
    let id = DecisionId::new(1, 2, 3).to_string();
    assert_eq!(
        answer,
        json!({ "decision": true, "context": { "decision_id": id, "reason": "permit", "policies": 41 } })
    );
    let asked = judge.asked.lock();
    let (question, reason) = &asked[0];
    assert_eq!((question.phase, *reason), (Phase::Authzen, None));
    assert_eq!(question.principal.to_string(), "Workload::\"spiffe://example.org/web\"");
    assert_eq!(question.detail, "asked by spiffe://example.org/pep");
    assert!(policies_engine::Facts::connection(&question.facts).mtls);
    assert_eq!(policies_engine::Facts::rpc(&question.facts), Some(("shop.Orders", "Get")));
}

#[tokio::test]
async fn az1_what_policies_do_not_know_is_false_and_what_is_not_used_is_named() {
    let (judge, router) = service();
    // The example of the standard, section 6.
    let todo = json!({
        "subject": { "type": "user", "id": "alice@example.com" },
        "resource": { "type": "account", "id": "123" },
        "action": { "name": "can_read", "properties": { "method": "GET" } },
        "context": { "time": "1985-10-26T01:22-07:00" },
    });
    let (status, answer) = ask(&router, ONE, &todo).await;
    assert_eq!((status, &answer["decision"]), (StatusCode::OK, &json!(false)));
    assert_eq!(answer["context"]["reason"], "entity_missing");
    assert!(judge.asked.lock()[0].0.detail.contains("unknown subject type `user`"));

    let mut more = question("Get");
    more["context"]["time"] = json!("now");
    more["subject"]["properties"] = json!({ "department": "Sales" });
    more["action"]["properties"] = json!({ "urgency": 1 });
    let (_, answer) = ask(&router, ONE, &more).await;
    assert_eq!(answer["decision"], true);
    assert_eq!(
        answer["context"]["ignored"],
        json!(["action.properties.urgency", "context.time", "subject.properties.department"])
    );
}

#[tokio::test]
async fn az1_a_required_fact_that_is_absent_is_never_assumed() {
    let (judge, router) = service();
    for (pointer, reason) in [
        ("/context/connection", "context_incomplete"),
        ("/context/connection/mtls", "context_incomplete"),
        ("/context/request", "context_incomplete"),
        ("/context/request/path", "context_incomplete"),
    ] {
        let mut lacking = question("Get");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        lacking.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let (status, answer) = ask(&router, ONE, &lacking).await;
        assert_eq!((status, &answer["decision"]), (StatusCode::OK, &json!(false)), "{pointer}");
        assert_eq!(answer["context"]["reason"], reason, "{pointer}");
    }
    let mut wrong = question("Get");
    wrong["context"]["connection"]["mtls"] = json!("yes");
    let (_, answer) = ask(&router, ONE, &wrong).await;
    assert_eq!(
        (&answer["decision"], &answer["context"]["reason"]),
        (&json!(false), &json!("context_invalid"))
    );
    assert!(judge.asked.lock().iter().all(|(_, reason)| reason.is_some()), "a policy was asked");
}

#[tokio::test]
async fn az2_what_is_no_question_is_400_and_a_denial_is_200() {
    let (judge, router) = service();
    let without = |pointer: &str| {
        let mut body = question("Get");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut body } else { body.pointer_mut(parent).unwrap() };
        parent.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |pointer: &str, value: Value| {
        let mut body = question("Get");
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let mut deep = json!(1);
    (0..70).for_each(|_| deep = json!([deep]));
    for (body, said) in [
        (without("/subject"), "`subject` is missing"),
        (without("/subject/type"), "`subject.type` is missing"),
        (without("/subject/id"), "`subject.id` is missing"),
        (without("/action"), "`action` is missing"),
        (without("/action/name"), "`action.name` is missing"),
        (without("/resource"), "`resource` is missing"),
        (with("/subject", json!("alice")), "`subject` is not an object"),
        (with("/subject/id", json!(1)), "`subject.id` is not a string"),
        (with("/resource/type", json!(null)), "`resource.type` is not a string"),
        (with("/context", json!([])), "`context` is not an object"),
        (with("/context", json!({ "x": deep })), "deeper than 64"),
        (json!([]), "not an object"),
    ] {
        let (status, answer) = ask(&router, ONE, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
        assert!(answer["error"].as_str().unwrap().contains(said), "{answer} instead of {said}");
    }
    for (kind, body) in
        [("application/json", ""), ("application/json", "{"), ("text/plain", "{}"), ("", "{}")]
    {
        assert_eq!(
            send(&router, ONE, kind, body.to_owned()).await.0,
            StatusCode::BAD_REQUEST,
            "{kind} {body}"
        );
    }
    assert!(judge.asked.lock().is_empty(), "a judge was asked");
    let (status, answer) = ask(&router, ONE, &question("Refund")).await;
    assert_eq!((status, &answer["decision"]), (StatusCode::OK, &json!(false)));
    assert_eq!(answer["context"]["reason"], "no_permit");
    let mut lost = question("Get");
    lost["resource"]["id"] = json!("lost");
    assert_eq!(ask(&router, ONE, &lost).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

fn many(items: Vec<Value>, options: Value) -> Value {
    let mut body = question("Get");
    body["evaluations"] = json!(items);
    body["options"] = options;
    body
}

fn decisions(answer: &Value) -> Vec<bool> {
    answer["evaluations"].as_array().unwrap().iter().map(|one| one["decision"].as_bool().unwrap()).collect()
}

#[tokio::test]
async fn az3_defaults_are_replaced_as_whole_objects_and_order_is_kept() {
    let (judge, router) = service();
    let items = vec![
        json!({}),
        json!({ "resource": { "id": "shop.Orders/Refund" } }),
        json!({ "subject": { "type": "app" } }),
        json!({ "context": {} }),
        json!({ "subject": 1 }),
        json!("nonsense"),
        json!({ "subject": { "type": "Workload", "id": "spiffe://example.org/other" } }),
    ];
    let (status, answer) = ask(&router, MANY, &many(items, json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(decisions(&answer), [true, false, true, false, false, false, true]);
    let at = |index: usize, pointer: &str| answer["evaluations"][index].pointer(pointer).cloned();
    assert_eq!(at(3, "/context/reason"), Some(json!("context_incomplete")), "the context was merged");
    assert_eq!(at(4, "/context/error/status"), Some(json!(400)));
    assert_eq!(at(5, "/context/error/message"), Some(json!("an evaluation is not an object")));
    let asked = judge.asked.lock();
    assert_eq!(asked.len(), 5, "one record each");
    assert_eq!(asked[4].0.principal.id(), "spiffe://example.org/other");
}

#[tokio::test]
async fn az3_the_three_semantics_end_where_they_should() {
    let (_, router) = service();
    let items = || {
        ["Get", "Refund", "Get", "Refund"]
            .map(|name| json!({ "resource": { "id": format!("shop.Orders/{name}") } }))
            .to_vec()
    };
    for (semantic, expected) in [
        ("execute_all", vec![true, false, true, false]),
        ("deny_on_first_deny", vec![true, false]),
        ("permit_on_first_permit", vec![true]),
    ] {
        let options = json!({ "evaluations_semantic": semantic });
        let (_, answer) = ask(&router, MANY, &many(items(), options)).await;
        assert_eq!(decisions(&answer), expected, "{semantic}");
    }
    let bad = ask(&router, MANY, &many(items(), json!({ "evaluations_semantic": "first" }))).await;
    assert_eq!(bad.0, StatusCode::BAD_REQUEST);
    let empty = ask(&router, MANY, &many(Vec::new(), json!({}))).await;
    assert_eq!(
        (empty.0, &empty.1["decision"]),
        (StatusCode::OK, &json!(true)),
        "no items: a single question"
    );
    let (status, _) = ask(&router, MANY, &many(vec![json!({}); 501], json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&router, MANY, &json!({ "evaluations": {} })).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn az5_the_metadata_names_what_is_offered_and_nothing_else() {
    let (_, router) = service();
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap())
    };
    let (status, bytes) = get("/.well-known/authzen-configuration/tenant").await;
    assert_eq!(status, StatusCode::OK);
    let metadata: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(metadata["policy_decision_point"], "https://gw.example.org/tenant");
    assert_eq!(
        metadata["access_evaluations_endpoint"],
        "https://gw.example.org/tenant/access/v1/evaluations"
    );
    assert!(metadata.get("search_subject_endpoint").is_none() && metadata["capabilities"] == json!([]));
    assert_eq!(get("/.well-known/authzen-configuration/other").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/.well-known/authzen-configuration").await.0, StatusCode::NOT_FOUND);
}
