//! Calls that do not pass: status, body and record, and nothing upstream.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ca_identity::tls::ClientAuth;
use policies_engine::{Effect, Phase, PrincipalKind, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{connect, grpc, read, send_all};
use super::harness::{POLICY, Setup};
use super::origin::Origin;

#[tokio::test]
async fn pa_08_a_denied_h1_call_gets_problem_json_with_its_decision_id() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut other = gateway.h1("/other").await;
    let answer = other.get("/hello").await;
    let (id, record) = gateway.records.last();
    assert_eq!((record.effect, record.reason), (Effect::Deny, Reason::NoPermit));
    assert_eq!(answer.status, 403);
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
    let problem = answer.json();
    assert_eq!(problem["status"], 403);
    assert_eq!(problem["reason"], "denied");
    assert_eq!(problem["decision_id"], id.to_string());
    assert_eq!(problem["type"], "urn:portcullis:problem:denied");
    assert_eq!(origin.connections(), 0, "nothing upstream");
    assert_eq!(other.get("/hello").await.status, 403, "the connection lives on");
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"site\",code=\"403\"}", 2).await;
}

#[tokio::test]
async fn pa_03_for_a_call_without_permit_nobody_is_dialled_and_no_body_is_asked_for() {
    let (origin, other_origin) = (Origin::h1().await, Origin::h2().await);
    let gateway = Setup { h2: vec![other_origin.address], ..Setup::with_h1(origin.address) }.start();
    for host in ["site.test", "closed.test", "h2.test"] {
        let mut other = gateway.h1("/other").await;
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
        );
        assert_eq!(other.ask(head).await.status, 403, "{host}");
        let mut other = gateway.h2("/other").await;
        let request = http::Request::post(format!("https://{host}/echo")).body(()).unwrap();
        let refused = other.start(request, false).await.response.await.unwrap();
        assert_eq!(refused.status(), 403, "answered while the body is still open: {host}");
    }
    assert_eq!((origin.connections(), other_origin.connections()), (0, 0));
    assert_eq!(gateway.records.all().len(), 6);
    // The same calls with a permit reach both.
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn pa_08_a_denied_h2_call_is_told_the_same() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut other = gateway.h2("/other").await;
    let answer = other.get("site.test", "/hello").await;
    let (id, _) = gateway.records.last();
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (403, Some("denied")));
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
    let request = http::Request::post("https://site.test/echo").body(()).unwrap();
    assert_eq!(other.ask(request, &[7; 100]).await.status, 403);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_refused_h2_call_may_end_its_body_late() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut other = gateway.h2("/other").await;
    for round in 0..50 {
        let mut asked = other.start(unwanted(), false).await;
        // The whole answer is here, and no reset behind it, so that the body can still be sent.
        let answer = read((&mut asked.response).await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (403, Some("denied")), "{round}");
        send_all(&mut asked.body, Bytes::from_static(&[7; 1000]), false).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        send_all(&mut asked.body, Bytes::from_static(&[7; 1000]), true).await;
        // The next exchange is behind whatever the gateway has to say about this one.
        assert_eq!(other.ask(unwanted(), &[7; 1000]).await.status, 403, "{round}");
        let reset = poll_fn(|context| Poll::Ready(asked.body.poll_reset(context))).await;
        assert!(!matches!(reset, Poll::Ready(Ok(_))), "{round}: {reset:?}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_refused_h2_call_that_sends_on_and_on_is_reset_without_error() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut other = gateway.h2("/other").await;
    let (mut large, mut silent) =
        (other.start(unwanted(), false).await, other.start(unwanted(), false).await);
    for asked in [&mut large, &mut silent] {
        assert_eq!(read((&mut asked.response).await.unwrap()).await.unwrap().status, 403);
    }
    send_all(&mut large.body, Bytes::from_static(&[7; 100_000]), false).await;
    for asked in [&mut large, &mut silent] {
        let reset = tokio::time::timeout(Duration::from_secs(5), poll_fn(|cx| asked.body.poll_reset(cx)));
        assert_eq!(reset.await.unwrap().unwrap(), h2::Reason::NO_ERROR);
    }
    assert_eq!(other.ask(unwanted(), &[7; 100]).await.status, 403, "the connection lives on");
}

fn unwanted() -> http::Request<()> {
    http::Request::post("https://site.test/echo").body(()).unwrap()
}

#[tokio::test]
async fn gc4_a_denied_grpc_call_is_trailers_only_with_details() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let answer = web.call("/shop.Orders/Refund", b"x").await;
    let (id, record) = gateway.records.last();
    assert_eq!((record.reason, record.resource.id()), (Reason::NoPermit, "shop.Orders/Refund"));
    assert_eq!((answer.status, answer.field("grpc-status")), (200, Some("7")));
    assert_eq!(answer.field("content-type"), Some("application/grpc"));
    assert!(answer.field("grpc-message").is_some());
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
    assert!(answer.field("grpc-status-details-bin").is_some());
    assert!(answer.trailers.is_empty() && answer.body.is_empty());
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn pa_05_unknown_routes_and_methods_are_404_and_12_and_recorded() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let answer = web.ask("GET / HTTP/1.1\r\nhost: nowhere.test\r\n\r\n").await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (404, Some("not_found")));
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.resource.id()), (Reason::UnknownRoute, "unknown"));
    assert_eq!(record.facts.unwrap().request().unwrap().host, "nowhere.test");
    let mut web = gateway.h2("/web").await;
    for path in ["/shop.Orders/Delete", "/shop.Orders/Get/more", "/other.Service/Get"] {
        let answer = web.call(path, b"x").await;
        assert_eq!(answer.field("grpc-status"), Some("12"), "{path}");
        assert_eq!(gateway.records.last().1.reason, Reason::UnknownMethod, "{path}");
    }
    let mut tunnel = gateway.h1("/web").await;
    let answer = tunnel.ask("CONNECT grpc.test:443 HTTP/1.1\r\nhost: grpc.test:443\r\n\r\n").await;
    assert_eq!(answer.status, 404, "no route names a tunnel");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn without_a_policy_everything_is_503() {
    let origin = Origin::h1().await;
    let gateway = Setup { policy: None, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    let answer = web.get("/hello").await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("unavailable")));
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.versions), (Reason::NoPolicy, None));
    let answer = web.ask("GET / HTTP/1.1\r\nhost: nowhere.test\r\n\r\n").await;
    assert_eq!(
        (answer.status, gateway.records.last().1.reason),
        (503, Reason::NoPolicy),
        "rw1: before unknown_route"
    );
    gateway.publish(POLICY, 7);
    assert_eq!(web.get("/hello").await.status, 200, "from the first snapshot on");
    assert_eq!(gateway.records.last().1.versions.unwrap().numbers.snapshot, 7);
}

#[tokio::test]
async fn heads_that_are_not_canonical_are_refused_recorded_and_end_the_connection() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    for (head, status, rule) in [
        ("GET /a/../b HTTP/1.1\r\nhost: site.test\r\n\r\n", 400, "CC-05"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "H1-08"),
        (
            "GET / HTTP/1.1\r\nhost: site.test\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "H1-12",
        ),
        ("GET / HTTP/3.1\r\nhost: site.test\r\n\r\n", 505, "H1-04"),
        ("TRACE / HTTP/1.1\r\nhost: site.test\r\n\r\n", 405, "H1-05"),
    ] {
        let mut web = gateway.h1("/web").await;
        let answer = web.ask(head).await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (status, Some("malformed")), "{head}");
        let (id, record) = gateway.records.last();
        // The rule, and what was wrong in fixed words.
        let (broken, flaw) = record.detail.as_deref().and_then(|detail| detail.split_once(": ")).unwrap();
        assert_eq!((record.reason, broken, flaw.is_empty()), (Reason::NotCanonical, rule, false));
        assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
        if answer.field("connection") == Some("close") {
            assert!(web.is_closed().await, "{head}");
        }
    }
    let mut h2 = gateway.h2("/web").await;
    assert_eq!(h2.get("site.test", "/a//b").await.status, 400);
    let request = grpc("/shop.Orders/Get");
    let (mut parts, ()) = request.into_parts();
    parts.headers.insert("grpc-timeout", "soon".parse().unwrap());
    let answer = h2.ask(http::Request::from_parts(parts, ()), b"x").await;
    assert_eq!(answer.field("grpc-status"), Some("3"), "a malformed timeout of a grpc call");
    assert_eq!(h2.get("site.test", "/hello").await.status, 200, "only the stream ended");
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn tl_07_a_host_that_the_listener_does_not_serve_is_421() {
    let origin = Origin::h1().await;
    let gateway = Setup { hosts: vec!["site.test".into()], ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    let answer = web.ask("GET / HTTP/1.1\r\nhost: closed.test\r\n\r\n").await;
    assert_eq!((answer.status, gateway.records.last().1.reason), (421, Reason::AuthorityMismatch));
}

#[tokio::test]
async fn no_identity_is_a_tls_alert_and_a_record() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let tls = connect(gateway.address, gateway.client_tls(None, &[b"http/1.1"])).await;
    // TLS 1.3 clients may finish before the server judged them; the alert comes with the first read (TL-10).
    if let Ok(mut tls) = tls {
        let read = tls.read_u8().await;
        assert!(read.unwrap_err().to_string().contains("CertificateRequired"));
    }
    gateway.records.wait(1).await;
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.phase), (Reason::NoIdentity, Phase::Connect));
    gateway.metric("portcullis_handshakes_total{result=\"no_certificate\"}", 1).await;
}

#[tokio::test]
async fn another_trust_domain_is_untrusted_and_recorded() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let foreign = ca_identity::testing::TestCa::new("other.org", gateway.trust.now());
    let mut snapshot = gateway.ca.snapshot(None);
    snapshot.own = Some(foreign.svid("/web").into());
    if let Ok(mut tls) = connect(gateway.address, gateway.client_tls_with(snapshot, &[b"h2"])).await {
        assert!(tls.read_u8().await.is_err());
    }
    gateway.records.wait(1).await;
    let (_, record) = gateway.records.last();
    assert_eq!(
        (record.reason, record.detail.as_deref()),
        (Reason::IdentityUntrusted, Some("unknown_trust_domain"))
    );
}

#[tokio::test]
async fn tl_06_an_optional_certificate_makes_the_caller_anonymous() {
    let origin = Origin::h1().await;
    let policy = r#"@id("anyone") permit (principal is Anonymous, action in Action::"http:read", resource == Route::"site");"#;
    let setup = Setup {
        policy: Some(policy.to_owned()),
        client_auth: ClientAuth::Optional,
        ..Setup::with_h1(origin.address)
    };
    let gateway = setup.start();
    let tls = connect(gateway.address, gateway.client_tls(None, &[b"h2"])).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(tls).await.unwrap();
    let tasks = base_ports::Tasks::new("client");
    tasks.spawn("h2", async move { drop(connection.await) });
    let request = http::Request::get("https://site.test/head").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let answer = read(response.await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("portcullis-peer") && answer.text().contains("portcullis-decision-id"));
    let (_, record) = gateway.records.last();
    assert_eq!(record.principal.kind(), PrincipalKind::Anonymous);
    assert!(record.credential.is_none());
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 403, "a workload is not anonymous");
}

#[tokio::test]
async fn a_revoked_identity_is_refused_on_a_connection_that_is_open() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    assert_eq!((old.get("/hello").await.status, new.get("site.test", "/hello").await.status), (200, 200));
    let id = gateway.ca.id("/web");
    gateway.trust.update(|snapshot| snapshot.revoked.deny(&ca_identity::Revoked::Id(id))).unwrap();
    let answer = old.get("/hello").await;
    assert_eq!((answer.status, gateway.records.last().1.reason), (401, Reason::IdentityRevoked));
    assert!(answer.field("www-authenticate").is_some());
    assert!(old.is_closed().await);
    assert_eq!(new.get("site.test", "/hello").await.status, 401);
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn h1_32_a_slow_head_is_408_and_silence_is_closed() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    setup.timers.header = Duration::from_millis(80);
    setup.timers.idle = Duration::from_millis(150);
    let gateway = setup.start();
    let mut slow = gateway.h1("/web").await;
    let answer = slow.ask("GET / HTTP/1.1\r\nho").await;
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    assert!(slow.is_closed().await);
    let mut idle = gateway.h1("/web").await;
    assert_eq!(idle.get("/hello").await.status, 200);
    assert!(idle.is_closed().await, "still for longer than idle");
}

#[tokio::test]
async fn dt_03_plain_http_is_told_once_that_tls_is_required() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    for request in
        ["GET / HTTP/1.1\r\nhost: site.test\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /x"]
    {
        let mut raw = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        raw.write_all(request.as_bytes()).await.unwrap();
        let mut heard = String::new();
        let read = tokio::time::timeout(Duration::from_secs(3), raw.read_to_string(&mut heard));
        read.await.unwrap().unwrap();
        assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("tls_required"), "{request}: {heard}");
        assert!(heard.contains("connection: close"), "{heard}");
    }
    assert_eq!((origin.requests(), gateway.records.all().len()), (0, 0));
    gateway.metric("portcullis_handshakes_total{result=\"plain\"}", 3).await;
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
}
