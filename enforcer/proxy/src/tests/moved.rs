//! Callers over QUIC that change their address: they stay who they are, at their worker, and what was permitted to their
//! address is judged again (QU-01, QU-03).

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use policies_engine::{Phase, Reason};
use tokio::time::timeout;

use super::client_h3::{H3, LONG, code, cut, get, post, read};
use super::harness::Setup;
use super::origin::Origin;

impl H3 {
    /// Goes on from another port of that address.
    fn moves(&self, to: &str) {
        self._endpoint.rebind(UdpSocket::bind((to, 0)).unwrap()).unwrap();
    }
}

/// Reads may come from one address only.
const AT_HOME: &str = r#"@id("home") permit (principal, action in Action::"http:read", resource)
when { context.connection.source_ip == ip("127.0.0.1") };"#;

#[tokio::test]
async fn qu_03_what_was_permitted_to_an_address_ends_when_its_caller_goes_on_from_another() {
    let origin = Origin::h1().await;
    let gateway =
        Setup { workers: 2, policy: Some(AT_HOME.into()), ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h3("/web").await;
    let mut stream = web.start(get("/drip?1000")).await;
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    web.moves("127.0.0.1");
    // Another port is no other address.
    let mut parts = 0;
    while parts < 10 {
        assert!(stream.recv_data().await.unwrap().is_some());
        parts += 1;
    }
    web.moves("127.0.0.2");
    assert_eq!(code(&cut(&mut stream).await), Some(Code::H3_REQUEST_CANCELLED));
    let (_, record) = gateway.records.last();
    assert_eq!((record.phase, record.reason), (Phase::Rejudge, Reason::RevokedByChange));
    assert_eq!(record.facts.unwrap().connection().source_ip.to_string(), "127.0.0.2");
    assert_eq!(web.get("/echo").await.status, 403, "new calls are judged by where they come from");
    web.moves("127.0.0.1");
    assert_eq!(web.get("/echo").await.status, 200, "and back");
}

#[tokio::test]
async fn qu_01_a_caller_that_changes_its_address_again_and_again_stays_with_its_worker() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    let web = gateway.h3("/web").await;
    let body = vec![7; 2_000_000];
    for _ in 0..8 {
        let moved = async {
            for _ in 0..3 {
                web.moves("127.0.0.1");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut sender = web.sender.clone();
        let called = async {
            let mut stream = sender.send_request(post("/echo").body(()).unwrap()).await.unwrap();
            stream.send_data(Bytes::copy_from_slice(&body)).await.unwrap();
            stream.finish().await.unwrap();
            read(&mut stream).await.unwrap()
        };
        let (answer, ()) = timeout(LONG, async { tokio::join!(called, moved) }).await.unwrap();
        assert!(answer.status == 200 && answer.body == body);
    }
    gateway.metric("portcullis_handshakes_total{result=\"ok\"}", 1).await;
    let metrics = gateway.metrics.render("application/openmetrics-text").1;
    let passed =
        metrics.lines().find(|line| line.starts_with("portcullis_quic_steered_total{result=\"passed\"}"));
    let passed: f64 = passed.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default();
    assert!(passed > 10.0, "nothing came to the wrong worker: {metrics}");
}

#[tokio::test]
async fn qu_03_a_caller_that_changes_its_address_keeps_its_identity_and_its_calls() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 3, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h3("/web").await;
    let mut stream = web.start(get("/drip?20")).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    let before = web._endpoint.local_addr().unwrap();
    web.moves("127.0.0.1");
    assert_ne!(web._endpoint.local_addr().unwrap(), before);
    let rest = timeout(LONG, async { while stream.recv_data().await.unwrap().is_some() {} });
    rest.await.unwrap();
    assert_eq!(web.get("/echo").await.status, 200);
    gateway.metric("portcullis_handshakes_total{result=\"ok\"}", 1).await;
}
