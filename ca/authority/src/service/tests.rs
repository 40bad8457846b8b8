//! The routers as a client sees them: statuses, headers, problem documents.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::testing::{Bench, HOUR, request};

mod agents;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn etag(&self) -> String {
        self.headers[ETAG].to_str().unwrap().to_owned()
    }

    /// Checks that it is a problem document of that kind.
    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:portcullis:problem:{code}"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
    }
}

async fn ask(
    router: &Router,
    method: Method,
    uri: &str,
    headers: &[(http::HeaderName, &str)],
    caller: Option<Caller>,
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    if let Some(caller) = caller {
        request = request.extension(caller);
    }
    let body = match body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, body }
}

fn web() -> Value {
    json!({
        "spiffe_id": "spiffe://example.org/web", "selectors": ["unix:uid:1000"],
        "x509_ttl": "30m", "dns_names": ["web.example.org"], "labels": {"team": "shop"},
    })
}

#[tokio::test]
async fn ra4_an_entry_is_created_read_changed_and_deleted_by_its_etag() {
    let router = entries(Bench::new().open().await);
    let put = |uri: String, tag: Option<String>, body: Value| {
        let router = router.clone();
        async move {
            let headers: Vec<_> = tag.iter().map(|tag| (IF_MATCH, tag.as_str())).collect();
            ask(&router, Method::PUT, &uri, &headers, None, Some(body)).await
        }
    };
    let created = ask(&router, Method::POST, "/v1/entries", &[], None, Some(web())).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    assert_eq!(
        (&created.body["kind"], &created.body["apiVersion"]),
        (&json!("Entry"), &json!("portcullis/v1"))
    );
    assert_eq!(created.body["x509_ttl"], "1800s");
    assert!(created.body["revision"].is_string());
    let uri = created.headers[LOCATION].to_str().unwrap().to_owned();
    let read = ask(&router, Method::GET, &uri, &[], None, None).await;
    assert_eq!((read.status, read.etag(), &read.body), (StatusCode::OK, created.etag(), &created.body));
    let tag = created.etag();
    let same = ask(&router, Method::GET, &uri, &[(IF_NONE_MATCH, &tag)], None, None).await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);

    let mut changed = web();
    changed["hint"] = json!("main");
    put(uri.clone(), None, changed.clone()).await.is_problem(428, "if_match_required");
    put(uri.clone(), Some("\"0\"".into()), changed.clone()).await.is_problem(412, "stale_revision");
    put(uri.clone(), Some("rubbish".into()), changed.clone()).await.is_problem(412, "stale_revision");
    let second = put(uri.clone(), Some(tag.clone()), changed).await;
    assert_eq!((second.status, &second.body["hint"]), (StatusCode::OK, &json!("main")));
    assert_ne!(second.etag(), tag);

    let delete = |headers: Vec<(http::HeaderName, String)>| {
        let (router, uri) = (router.clone(), uri.clone());
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, tag)| (name.clone(), tag.as_str())).collect();
            ask(&router, Method::DELETE, &uri, &headers, None, None).await
        }
    };
    delete(vec![]).await.is_problem(428, "if_match_required");
    delete(vec![(IF_MATCH, tag)]).await.is_problem(412, "stale_revision");
    assert_eq!(delete(vec![(IF_MATCH, second.etag())]).await.status, StatusCode::NO_CONTENT);
    delete(vec![(IF_MATCH, "*".into())]).await.is_problem(404, "unknown_entry");
}

#[tokio::test]
async fn ra7_unknown_fields_and_parameters_wrong_types_and_methods_are_refused() {
    let router = entries(Bench::new().open().await);
    let post = |body: Value| {
        let router = router.clone();
        async move { ask(&router, Method::POST, "/v1/entries", &[], None, Some(body)).await }
    };
    let with = |field: &str, value: Value| {
        let mut body = web();
        body[field] = value;
        body
    };
    post(with("selector", json!("unix:uid:1"))).await.is_problem(400, "body_invalid");
    post(json!({"spiffe_id": "spiffe://example.org/web"})).await.is_problem(400, "body_invalid");
    post(with("x509_ttl", json!(30))).await.is_problem(400, "body_invalid");
    for (field, value) in [
        ("spiffe_id", json!("web")),
        ("spiffe_id", json!("spiffe://example.org/portcullis/agent/local")),
        ("spiffe_id", json!("spiffe://other.example/web")),
        ("selectors", json!([])),
        ("selectors", json!(["unx:uid:1"])),
        ("x509_ttl", json!("30")),
        ("x509_ttl", json!("30y")),
        ("x509_ttl", json!("1s")),
        ("dns_names", json!(["*.example.org"])),
        ("expires_at", json!("tomorrow")),
    ] {
        post(with(field, value)).await.is_problem(400, "entry_invalid");
    }
    assert_eq!(post(web()).await.status, StatusCode::CREATED);
    post(web()).await.is_problem(409, "already_exists");

    for uri in
        ["/v1/entries?spiffe=x", "/v1/entries?limit=0", "/v1/entries?limit=1001", "/v1/entries?limit=a"]
    {
        ask(&router, Method::GET, uri, &[], None, None).await.is_problem(400, "query_invalid");
    }
    let patched = ask(&router, Method::PATCH, "/v1/entries", &[], None, None).await;
    patched.is_problem(405, "method_not_allowed");
    assert!(patched.headers.contains_key(ALLOW));
    let plain = Request::builder().method(Method::POST).uri("/v1/entries").header(CONTENT_TYPE, "text/plain");
    let answer = router.clone().oneshot(plain.body(Body::from(web().to_string())).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    post(with("hint", json!("x".repeat(1 << 20)))).await.is_problem(413, "body_too_large");
}

#[tokio::test]
async fn ra3_lists_come_in_pages_and_by_filter() {
    let router = entries(Bench::new().open().await);
    for n in 0..5 {
        let mut body = web();
        body["spiffe_id"] = json!(format!("spiffe://example.org/web{n}"));
        ask(&router, Method::POST, "/v1/entries", &[], None, Some(body)).await;
    }
    let (mut seen, mut uri) = (Vec::new(), "/v1/entries?limit=2".to_owned());
    loop {
        let page = ask(&router, Method::GET, &uri, &[], None, None).await;
        assert_eq!(page.body["kind"], "EntryList");
        seen.extend(page.body["items"].as_array().unwrap().iter().map(|item| item["spiffe_id"].to_string()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        uri = format!("/v1/entries?limit=2&cursor={cursor}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    let uri = "/v1/entries?spiffe_id=spiffe://example.org/web3&selector=unix:uid:1000";
    let one = ask(&router, Method::GET, uri, &[], None, None).await;
    assert_eq!(one.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn s24_a_node_attests_with_a_token_and_signs_for_its_entries() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (router, admin) = (enrolment(Arc::clone(&authority)), entries(Arc::clone(&authority)));
    let token = authority.create_join_token(HOUR).await.unwrap().token;
    let csr = || STANDARD.encode(request().1);
    let attest = |token: &str| json!({"evidence": {"type": "join_token", "token": token}, "csr": csr()});
    let post = |uri: &'static str, caller: Option<Caller>, body: Value| {
        let router = router.clone();
        async move { ask(&router, Method::POST, uri, &[], caller, Some(body)).await }
    };
    let agents = "/v1/agents:attest";
    post(agents, None, attest("wrong")).await.is_problem(403, "token_refused");
    post(agents, None, json!({"evidence": {"type": "tpm"}, "csr": ""})).await.is_problem(400, "body_invalid");
    let mut more = attest(&token);
    more["spiffe_id"] = json!("spiffe://example.org/admin");
    post(agents, None, more).await.is_problem(400, "body_invalid");
    let mut bad = attest(&token);
    bad["csr"] = json!("AAAA");
    post(agents, None, bad).await.is_problem(400, "csr_invalid");
    let joined = post(agents, None, attest(&token)).await;
    assert_eq!(joined.status, StatusCode::OK, "{}", joined.body);
    post(agents, None, attest(&token)).await.is_problem(403, "token_refused");
    assert_eq!(joined.body["chain"].as_array().unwrap().len(), 2);
    assert_eq!(joined.body["bundle"]["authorities"].as_array().unwrap().len(), 1);
    let agent = SpiffeId::parse(joined.body["spiffe_id"].as_str().unwrap()).unwrap();

    let entry = ask(&admin, Method::POST, "/v1/entries", &[], None, Some(web())).await.body["id"].clone();
    let sign = json!({"entry_id": entry, "csr": csr()});
    let svids = "/v1/svids:sign";
    let signed = post(svids, Some(Caller::Svid(agent)), sign.clone()).await;
    assert_eq!(signed.body["spiffe_id"], "spiffe://example.org/web", "{}", signed.body);
    assert_eq!(post(svids, Some(Caller::Local { uid: 0 }), sign.clone()).await.status, StatusCode::OK);
    post(svids, None, sign.clone()).await.is_problem(401, "unauthenticated");
    let stranger = Caller::Svid(SpiffeId::parse("spiffe://example.org/web").unwrap());
    post(svids, Some(stranger), sign.clone()).await.is_problem(403, "not_an_agent");
    bench.gate.close(true);
    let refused = post(svids, Some(Caller::Local { uid: 0 }), sign.clone()).await;
    refused.is_problem(403, "gate_refused");
    assert!(refused.body["decision_id"].as_str().unwrap().starts_with("decision-"));
    bench.gate.close(false);
    bench.store.fail(true);
    post(svids, Some(Caller::Local { uid: 0 }), sign).await.is_problem(503, "store_unavailable");
}

#[tokio::test]
async fn s24_an_agent_gets_tokens_for_its_entries() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (router, admin) = (enrolment(Arc::clone(&authority)), entries(Arc::clone(&authority)));
    let mut entry = web();
    (entry["jwt_ttl"], entry["jwt_jti"]) = (json!("10m"), json!(true));
    let entry = ask(&admin, Method::POST, "/v1/entries", &[], None, Some(entry)).await.body;
    assert_eq!((&entry["jwt_ttl"], &entry["jwt_jti"]), (&json!("600s"), &json!(true)));
    let mut short = web();
    (short["spiffe_id"], short["jwt_ttl"]) = (json!("spiffe://example.org/short"), json!("59s"));
    let short = ask(&admin, Method::POST, "/v1/entries", &[], None, Some(short)).await;
    short.is_problem(400, "entry_invalid");
    let post = |caller: Option<Caller>, body: Value| {
        let router = router.clone();
        async move { ask(&router, Method::POST, "/v1/svids:signJwt", &[], caller, Some(body)).await }
    };
    let local = || Some(Caller::Local { uid: 0 });
    let body = |audience: Value| json!({"entry_id": entry["id"], "audience": audience});
    let issued = post(local(), body(json!(["orders"]))).await;
    assert_eq!(issued.status, StatusCode::OK, "{}", issued.body);
    assert_eq!(issued.body["spiffe_id"], "spiffe://example.org/web");
    let facts = ca_identity::inspect::token(issued.body["token"].as_str().unwrap()).unwrap();
    assert_eq!((facts.audience, facts.expires), (vec!["orders".to_owned()], bench.now() + HOUR / 6));
    assert!(facts.jti.is_some());
    assert_eq!(issued.body["expires_at"], facts.expires.to_string());
    for audience in [json!([]), json!([""])] {
        post(local(), body(audience)).await.is_problem(400, "audience_invalid");
    }
    post(local(), body(json!("orders"))).await.is_problem(400, "body_invalid");
    post(None, body(json!(["orders"]))).await.is_problem(401, "unauthenticated");
    let stranger = Caller::Svid(SpiffeId::parse("spiffe://example.org/web").unwrap());
    post(Some(stranger), body(json!(["orders"]))).await.is_problem(403, "not_an_agent");
    let mut answers = Vec::new();
    for _ in 0..500 {
        answers.push(post(local(), body(json!(["orders"]))).await);
    }
    let limited = answers.iter().find(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).unwrap();
    limited.is_problem(429, "too_many_tokens");
    assert_eq!(limited.headers[http::header::RETRY_AFTER], "1");
}

#[test]
fn the_openapi_part_names_every_path() {
    let paths: Vec<_> = openapi().paths.paths.keys().cloned().collect();
    let known = [
        "/v1/agents",
        "/v1/agents/{name}",
        "/v1/agents:acknowledge",
        "/v1/agents:attest",
        "/v1/agents:ban",
        "/v1/agents:evict",
        "/v1/agents:renew",
        "/v1/agents:sync",
        "/v1/authorities:activate",
        "/v1/authorities:prepare",
        "/v1/authorities:revoke",
        "/v1/authorities:rotate",
        "/v1/authorities:taint",
        "/v1/crls",
        "/v1/crls/{key_id}",
        "/v1/entries",
        "/v1/entries/{id}",
        "/v1/federations",
        "/v1/federations/{domain}",
        "/v1/federations/{domain}/bundle",
        "/v1/federations/{domain}:refresh",
        "/v1/revocations",
        "/v1/revocations:lift",
        "/v1/svids",
        "/v1/svids:mint",
        "/v1/svids:sign",
        "/v1/svids:signJwt",
    ];
    assert_eq!(paths, known);
}

#[tokio::test]
async fn fb_01_relationships_are_made_changed_refreshed_and_ended_over_rest() {
    let bench = Bench::new();
    let router = federations(bench.open().await);
    let ca = ca_identity::testing::TestCa::new("partner.org", ca_identity::testing::now());
    let (all, one, url) = ("/v1/federations", "/v1/federations/partner.org", "https://partner.org/");
    let call = async |method: Method, uri: &str, body: Option<Value>| {
        ask(&router, method, uri, &[], Some(Caller::Local { uid: 7 }), body).await
    };
    let web = json!({ "trust_domain": "partner.org", "url": url, "profile": "https_web" });
    let made = call(Method::POST, all, Some(web.clone())).await;
    assert_eq!((made.status.as_u16(), made.body["state"].as_str()), (201, Some("none")));
    call(Method::POST, all, Some(web)).await.is_problem(409, "federation_exists");
    let own = json!({ "trust_domain": "example.org", "url": url, "profile": "https_web" });
    call(Method::POST, all, Some(own)).await.is_problem(400, "own_trust_domain");
    let bare = json!({ "trust_domain": "b.org", "url": url, "profile": "https_spiffe" });
    call(Method::POST, all, Some(bare)).await.is_problem(400, "endpoint_id");
    call(Method::GET, "/v1/federations/no.org", None).await.is_problem(404, "unknown_federation");
    call(Method::GET, "/v1/federations/No.org", None).await.is_problem(400, "federation_invalid");
    call(Method::GET, &format!("{one}/bundle"), None).await.is_problem(404, "no_bundle");

    bench.endpoints.answer(url, Ok(&ca.bundle().to_jwks()));
    let fetched = call(Method::POST, &format!("{one}:refresh"), Some(json!({}))).await;
    assert_eq!(
        (&fetched.body["state"], &fetched.body["last_fetch"]["result"]),
        (&json!("current"), &json!("fetched"))
    );
    assert_eq!(fetched.body["bundle"]["sequence"], "1");
    call(Method::POST, &format!("{one}:other"), Some(json!({}))).await.is_problem(404, "no_such_path");
    let kept = call(Method::GET, &format!("{one}/bundle"), None).await;
    assert_eq!(kept.body["keys"].as_array().unwrap().len(), 1);
    let pem = ca_identity::pem::write_certificates(ca.bundle().certificates());
    let set = call(Method::PUT, &format!("{one}/bundle"), Some(json!({ "bundle": pem }))).await;
    assert_eq!((set.status.as_u16(), set.body["bundle"]["from"].as_str()), (200, Some("local user 7")));
    call(Method::PUT, &format!("{one}/bundle"), Some(json!({ "bundle": "no" })))
        .await
        .is_problem(400, "bundle_not_json");

    let hosted =
        json!({ "url": "https://h.org/", "profile": "https_spiffe", "endpoint_id": "spiffe://h.org/b" });
    let changed = call(Method::PUT, one, Some(hosted)).await;
    assert_eq!(
        (changed.status.as_u16(), changed.body["endpoint_id"].as_str()),
        (200, Some("spiffe://h.org/b"))
    );
    assert_eq!(call(Method::GET, all, None).await.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(call(Method::DELETE, one, None).await.status, StatusCode::NO_CONTENT);
    call(Method::DELETE, one, None).await.is_problem(404, "unknown_federation");
}
