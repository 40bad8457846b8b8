//! WebSockets over HTTP/1 and HTTP/2: judged as `http:CONNECT`, switched only by the upstream, and ended when the permit is.

use std::time::Duration;

use policies_engine::{Action, Effect, Phase, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use h2::RecvStream;
use http::Request;

use super::client::{Asked, H1, H2, rest, send_all};
use super::harness::{POLICY, Setup};
use super::origin::Origin;

const SOON: Duration = Duration::from_secs(1);

fn wish(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: site.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

async fn switched(caller: &mut H1) {
    let answer = caller.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.field("upgrade"), answer.field("connection")),
        (101, Some("websocket"), Some("upgrade"))
    );
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

async fn hears(caller: &mut H1, wanted: &[u8]) {
    let mut heard = vec![0; wanted.len()];
    timeout(SOON, caller.tls.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, wanted);
}

#[tokio::test]
async fn ws_01_bytes_go_both_ways_once_the_upstream_has_switched() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    // The first message comes with the head, before anybody may send it on.
    web.send(format!("{}early", wish("/socket"))).await;
    switched(&mut web).await;
    hears(&mut web, b"early").await;
    let large = super::origin::pattern(300_000);
    for message in [&b"a"[..], b"bc", &large] {
        web.send(message).await;
        hears(&mut web, message).await;
    }
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.action), (Effect::Allow, Action::HttpConnect));
    // One side ends; the other may still speak.
    web.tls.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, web.tls.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"bye");
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"site\",code=\"101\"}", 1).await;
}

#[tokio::test]
async fn ws_01_any_other_answer_is_an_answer_and_ends_the_connection() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let answer = web.ask(wish("/head")).await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    let told = answer.text().to_lowercase();
    assert!(told.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{told}");
    assert_eq!(told.matches("upgrade: websocket").count(), 1, "{told}");
    assert!(web.is_closed().await);
}

#[tokio::test]
async fn ws_01_an_upstream_that_accepts_another_key_switches_nothing() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.ask(wish("/socket?wrong")).await.status, 502);
    let mut h2 = gateway.h1("/web").await;
    assert_eq!(h2.get("/socket").await.status, 502, "a switch that nobody asked for");
}

#[tokio::test]
async fn mo11_a_permit_to_read_is_no_permit_to_upgrade() {
    let origin = Origin::h1().await;
    let policy =
        r#"@id("read") permit (principal, action in Action::"http:read", resource == Route::"site");"#;
    let gateway = Setup { policy: Some(policy.to_owned()), ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    assert_eq!(web.ask(wish("/socket")).await.status, 403);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn in14_a_websocket_ends_within_a_second_of_the_policy_that_forbids_it() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    web.send(wish("/socket")).await;
    switched(&mut web).await;
    gateway.change(&format!("{POLICY}// nothing new\n"), 2);
    web.send("still").await;
    hears(&mut web, b"still").await;
    let forbid =
        r#"@id("quiet") @owner("net") forbid (principal, action == Action::"http:CONNECT", resource);"#;
    gateway.change(&format!("{POLICY}{forbid}"), 3);
    assert!(rest(&mut web.tls, SOON).await.is_empty());
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.phase), (Reason::RevokedByChange, Phase::Rejudge));
}

#[tokio::test]
async fn a_websocket_needs_an_endpoint_that_speaks_http_1() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h1("/web").await;
    let answer = web.ask(wish("/socket").replace("site.test", "h2.test")).await;
    assert_eq!((answer.status, origin.requests()), (503, 0));
}

/// Asks for a WebSocket over HTTP/2 (RFC 8441).
async fn opened(caller: &mut H2, path: &str) -> (u16, Asked, RecvStream) {
    let mut request = Request::connect(format!("https://site.test{path}"));
    request = request.header("sec-websocket-version", "13");
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let mut asked = caller.start(request, false).await;
    let answer = timeout(SOON * 5, &mut asked.response).await.unwrap().unwrap();
    assert!(answer.headers().get("sec-websocket-accept").is_none());
    (answer.status().as_u16(), asked, answer.into_body())
}

async fn heard(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let Some(part) = timeout(SOON * 5, body.data()).await.unwrap() else { break };
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        all.extend_from_slice(&part);
    }
    all
}

#[tokio::test]
async fn ws_02_a_stream_of_http_2_becomes_a_websocket_over_an_http_1_upstream() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let (status, mut asked, mut body) = opened(&mut web, "/socket").await;
    assert_eq!(status, 200);
    let large = super::origin::pattern(300_000);
    for message in [&b"a"[..], b"bc", &large] {
        let ((), echoed) = tokio::join!(
            send_all(&mut asked.body, bytes::Bytes::copy_from_slice(message), false),
            heard(&mut body, message.len())
        );
        assert!(echoed == message, "{} bytes", echoed.len());
    }
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.action), (Effect::Allow, Action::HttpConnect));
    assert_eq!(record.facts.unwrap().request().unwrap().method, "GET", "as over HTTP/1");
    // Another call of the same connection goes on beside it.
    assert_eq!(web.get("site.test", "/hello").await.status, 200);
    // One side ends; the other may still speak.
    asked.body.send_data(bytes::Bytes::new(), true).unwrap();
    assert_eq!(heard(&mut body, usize::MAX).await, b"bye");
    assert!(body.is_end_stream());
    gateway.metric("portcullis_requests_total{protocol=\"h2\",route=\"site\",code=\"200\"}", 2).await;
}

#[tokio::test]
async fn ws_02_what_is_no_switch_opens_no_stream() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    setup.timeouts.header = Duration::from_millis(500);
    let gateway = setup.start();
    let mut web = gateway.h2("/web").await;
    assert_eq!(opened(&mut web, "/socket?wrong").await.0, 502, "another key was accepted");
    assert_eq!(opened(&mut web, "/hello").await.0, 502, "a success without a switch would open the stream");
    assert_eq!(opened(&mut web, "/early").await.0, 413, "any other answer is an answer");
    assert_eq!(opened(&mut web, "/silent").await.0, 504, "the upstream was late, not the caller");
    assert_eq!(web.get("site.test", "/hello").await.status, 200);
}

#[tokio::test]
async fn in14_a_websocket_over_http_2_ends_within_a_second_of_the_policy_that_forbids_it() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let (status, mut asked, mut body) = opened(&mut web, "/socket").await;
    assert_eq!(status, 200);
    send_all(&mut asked.body, "still".into(), false).await;
    assert_eq!(heard(&mut body, 5).await, b"still");
    let forbid =
        r#"@id("quiet") @owner("net") forbid (principal, action == Action::"http:CONNECT", resource);"#;
    gateway.change(&format!("{POLICY}{forbid}"), 2);
    let end = timeout(SOON, body.data()).await.expect("ended within a second");
    assert!(end.unwrap().is_err(), "reset, not ended as if all was said");
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.phase), (Reason::RevokedByChange, Phase::Rejudge));
    assert_eq!(web.get("site.test", "/hello").await.status, 200, "the connection lives on");
}
