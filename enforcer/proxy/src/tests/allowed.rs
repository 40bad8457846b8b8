//! Calls that pass: what the upstream receives, what the caller gets back.

use policies_engine::{Action, CredentialKind, Effect, Protocol, Reason};

use super::client::Answer;
use super::harness::{Setup, WEB};
use super::origin::Origin;
use crate::Reveal;

#[tokio::test]
async fn lt_03_an_allowed_h1_call_passes_and_is_on_record() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let answer = web.get("/hello").await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.field("portcullis-decision-id"), None, "revealed on refusals only");
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.reason), (Effect::Allow, Reason::Permit));
    assert_eq!(record.principal.id(), WEB);
    assert_eq!((record.resource.id(), record.resource.service()), ("site", Some("shop")));
    assert_eq!(record.action, Action::HttpGet);
    assert_eq!(record.credential.unwrap().kind, CredentialKind::X509);
    let facts = record.facts.unwrap();
    assert!(facts.connection().mtls);
    assert_eq!((facts.connection().protocol, facts.connection().tls), (Protocol::H1, 13));
    assert_eq!(facts.connection().sni.as_deref(), Some("gateway.test"));
    let request = facts.request().unwrap();
    assert_eq!((request.method, request.host, request.path), ("GET", "site.test", "/hello"));
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"site\",code=\"200\"}", 1).await;
    gateway.metric("portcullis_handshakes_total{result=\"ok\"}", 1).await;
    gateway.metric("portcullis_connections{listener=\"main\",state=\"open\"}", 1).await;
    gateway.metric("portcullis_request_duration_seconds_count{protocol=\"h1\",route=\"site\"}", 1).await;
    let decisions = "portcullis_decisions_total{effect=\"allow\",would=\"\",reason=\"permit\",mode=\"enforce\",service=\"shop\"}";
    gateway.metric(decisions, 1).await;
}

#[tokio::test]
async fn tl_11_identity_headers_are_made_from_tls_facts_and_spoofed_ones_are_gone() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let spoofed = "GET /head HTTP/1.1\r\nhost: site.test\r\nPortcullis-Peer: spiffe://example.org/admin\r\n\
        x-forwarded-client-cert: URI=spiffe://example.org/admin\r\nportcullis-decision-id: mine\r\n\
        x-forwarded-for: 1.2.3.4\r\nx-keep: yes\r\nconnection: x-drop\r\nx-drop: 1\r\n\r\n";
    let answer = web.ask(spoofed).await;
    let (id, record) = gateway.records.last();
    let seen = answer.text();
    check_identity(seen, &id.to_string(), &hex(&record.credential.unwrap().fingerprint.unwrap()));
    assert!(!seen.contains("x-forwarded-for") && !seen.contains("x-drop"), "{seen}");
    assert!(seen.contains("x-keep: yes"), "{seen}");
}

#[tokio::test]
async fn tl_11_identity_headers_reach_an_h2_upstream_too() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let request = http::Request::get("https://h2.test/head")
        .header("portcullis-peer", "spiffe://example.org/admin")
        .header("x-forwarded-client-cert", "URI=spiffe://example.org/admin");
    let answer = web.ask(request.body(()).unwrap(), &[]).await;
    let (id, record) = gateway.records.last();
    check_identity(answer.text(), &id.to_string(), &hex(&record.credential.unwrap().fingerprint.unwrap()));
}

fn check_identity(seen: &str, id: &str, fingerprint: &str) {
    for line in [
        format!("portcullis-peer: {WEB}"),
        format!("x-forwarded-client-cert: Hash={fingerprint};URI={WEB}"),
        format!("portcullis-decision-id: {id}"),
    ] {
        let name = line.split(':').next().unwrap();
        let lines: Vec<_> = seen.lines().filter(|seen| seen.starts_with(&format!("{name}:"))).collect();
        assert_eq!(lines, [line.as_str()], "{seen}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn lt_15_every_pair_of_versions_carries_a_call() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let gateway = Setup { h2: vec![h2.address], ..Setup::with_h1(h1.address) }.start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let check = |answer: Answer| assert_eq!((answer.status, answer.text()), (200, "hello"));
    for _ in 0..3 {
        check(old.get("/hello").await);
        check(old.ask("GET /hello HTTP/1.1\r\nhost: h2.test\r\n\r\n").await);
        check(new.get("site.test", "/hello").await);
        check(new.get("h2.test", "/hello").await);
    }
    assert_eq!((h1.connections(), h2.connections()), (1, 1), "pooled");
    assert_eq!((h1.requests(), h2.requests()), (6, 6));
    assert_eq!(gateway.records.all().len(), 12);
}

#[tokio::test]
async fn h1_29_pipelined_requests_are_answered_in_order() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    web.send(
        "POST /echo HTTP/1.1\r\nhost: site.test\r\ncontent-length: 3\r\n\r\noneGET /hello HTTP/1.1\r\nhost: site.test\r\n\r\n\
         POST /echo HTTP/1.1\r\nhost: site.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
    )
    .await;
    for expected in ["one", "hello", "two"] {
        assert_eq!(web.answer().await.unwrap().text(), expected);
    }
    assert_eq!(gateway.records.all().len(), 3);
}

#[tokio::test]
async fn a_close_is_carried_out_after_the_answer() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let answer = web.ask("GET /hello HTTP/1.1\r\nhost: site.test\r\nconnection: close\r\n\r\n").await;
    assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
    assert!(web.is_closed().await);
    let mut web = gateway.h1("/web").await;
    let answer = web.ask("GET /hello HTTP/1.0\r\nhost: site.test\r\n\r\n").await;
    assert_eq!(answer.text(), "hello");
    assert!(web.is_closed().await, "1.0 is never kept alive");
}

#[tokio::test]
async fn h1_23_continue_is_said_after_the_permit_only() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let head = |host: &str| {
        format!("POST /echo HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
    };
    let interim = web.ask(head("site.test")).await;
    assert_eq!(interim.status, 100);
    assert_eq!(gateway.records.all().len(), 1, "judged before");
    assert_eq!(web.ask("body").await.text(), "body");
    assert_eq!(web.ask(head("closed.test")).await.status, 403, "no wish for a body that is not permitted");
    assert!(web.is_closed().await);
}

#[tokio::test]
async fn a_head_request_has_a_length_and_no_body() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut h2 = gateway.h2("/web").await;
    let request = http::Request::head("https://site.test/hello").body(()).unwrap();
    let answer = h2.ask(request, &[]).await;
    assert_eq!((answer.status, answer.field("content-length"), answer.body.len()), (200, Some("5"), 0));
}

#[tokio::test]
async fn hr_08_reserved_headers_of_an_answer_are_stripped() {
    let origin = Origin::h1().await;
    let gateway = Setup { reveal: Reveal::Always, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    let answer = web.get("/reserved").await;
    assert_eq!(answer.field("portcullis-peer"), None);
    assert_eq!(answer.field("x-own"), Some("1"));
    let (id, _) = gateway.records.last();
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()), "always revealed here");
}
