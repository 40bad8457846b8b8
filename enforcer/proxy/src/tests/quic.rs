//! HTTP/3 over QUIC with client certificates, seen by a client of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_ports::Tasks;
use bytes::Buf;
use h3::error::Code;
use http::Request;
use policies_engine::{Effect, Phase, Reason};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, VarInt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::client::{framed, grpc, list};
use super::client_h3::{LONG, SOON, code, cut, endpoint, get, post, read};
use super::harness::{POLICY, Setup, WEB};
use super::origin::Origin;

#[tokio::test]
async fn lt_05_a_call_over_http_3_is_judged_recorded_and_forwarded() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let answer = web.get("/head?x=1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.text().to_ascii_lowercase();
    assert!(told.starts_with("get /head?x=1 http/1.1\r\n"), "{told}");
    assert!(told.contains(&format!("portcullis-peer: {WEB}\r\n")), "{told}");
    assert!(!told.contains("transfer-encoding"), "a GET has no body: {told}");
    let (_, record) = gateway.records.last();
    assert_eq!(record.effect, Effect::Allow);
    assert!(format!("{:?}", record.facts).contains("H3"), "{:?}", record.facts);
    gateway.metric("portcullis_requests_total{protocol=\"h3\",route=\"site\",code=\"200\"}", 1).await;
    gateway.metric("portcullis_handshakes_total{result=\"ok\"}", 1).await;
    gateway.metric("portcullis_connections{listener=\"main\",state=\"open\"}", 1).await;
    drop(web);
    gateway.metric("portcullis_connections{listener=\"main\",state=\"open\"}", 0).await;
}

#[tokio::test]
async fn lt_05_bodies_pass_both_ways_whatever_their_size() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let body: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).take(3_000_000).collect();
    let streamed = web.ask(post("/echo").body(()).unwrap(), &body).await.unwrap();
    assert!(streamed.status == 200 && streamed.body == body);
    let known = post("/echo").header("content-length", body.len()).body(()).unwrap();
    let known = web.ask(known, &body).await.unwrap();
    assert!(known.status == 200 && known.body == body);
    let head = Request::head("https://site.test/big?70000").body(()).unwrap();
    let head = web.ask(head, &[]).await.unwrap();
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
}

#[tokio::test]
async fn hx_04_a_body_that_differs_from_its_content_length_never_looks_complete_to_the_upstream() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    for (length, body) in [(3_usize, &b"four"[..]), (9, b"four"), (4, b"")] {
        let request = post("/count").header("content-length", length).body(()).unwrap();
        let answer = web.ask(request, body).await;
        match answer {
            Ok(answer) => assert_eq!(answer.status, 400, "{answer:?}"),
            Err(error) => assert!(code(&error).is_some(), "{error}"),
        }
    }
    assert_eq!(web.get("/echo").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn lt_08_grpc_over_http_3_has_trailers_and_a_denial_has_its_status() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let answer = web.ask(grpc("/shop.Orders/Get"), &framed(b"x")).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())), "{answer:?}");
    let denied = web.ask(grpc("/shop.Orders/Refund"), &framed(b"x")).await.unwrap();
    assert_eq!((denied.status, denied.field("grpc-status")), (200, Some("7")), "{denied:?}");
}

#[tokio::test]
async fn pa_08_a_denial_over_http_3_is_a_403_with_its_decision_on_record() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut nobody = gateway.h3("/nobody").await;
    let answer = nobody.ask(post("/count").body(()).unwrap(), &vec![7; 200_000]).await.unwrap();
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (403, Some("denied")));
    let (id, record) = gateway.records.last();
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
    assert_eq!((record.effect, record.reason), (Effect::Deny, Reason::NoPermit));
    for (uri, status) in [("https://other.test/", 404), ("https://site.test/a//b", 400)] {
        let request = Request::get(uri).body(()).unwrap();
        assert_eq!(nobody.ask(request, &[]).await.unwrap().status, status, "{uri}");
    }
}

#[tokio::test]
async fn lt_07_a_caller_without_a_certificate_makes_no_call_over_quic() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let endpoint = endpoint();
    let config = gateway.quic_tls(None);
    let connecting = endpoint.connect_with(config, gateway.quic_address(), "gateway.test").unwrap();
    // The client side may be done before its certificate is judged (TL-10).
    let closed = match connecting.await {
        Ok(connection) => timeout(LONG, connection.closed()).await.unwrap(),
        Err(error) => error,
    };
    let ConnectionError::ConnectionClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(u64::from(close.error_code), 0x100 + 116, "certificate_required");
    gateway.records.wait(1).await;
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.reason), (Effect::Deny, Reason::NoIdentity));
    gateway.metric("portcullis_handshakes_total{result=\"no_certificate\"}", 1).await;
    gateway.metric("portcullis_connections{listener=\"main\",state=\"open\"}", 0).await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a client that tries early data")]
async fn tl_02_a_client_over_quic_gets_no_ticket_and_no_early_data() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let tls = gateway.client_tls(Some(gateway.ca.svid("/web")), &[b"h3"]);
    let mut tls = rustls::ClientConfig::clone(&tls);
    tls.resumption = rustls::client::Resumption::default();
    tls.enable_early_data = true;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = endpoint();
    for _ in 0..3 {
        let connecting =
            endpoint.connect_with(config.clone(), gateway.quic_address(), "gateway.test").unwrap();
        let connection = connecting.into_0rtt().err().expect("nothing to resume").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        connection.close(VarInt::from_u32(0x100), b"");
    }
    gateway.metric("portcullis_handshakes_total{result=\"ok\"}", 3).await;
}

/// Carries datagrams between a client and the gateway, without those that finish the client's handshake.
async fn withholding(gateway: SocketAddr, withholds: Arc<AtomicBool>, tasks: &Tasks) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(gateway).await.unwrap();
    let address = near.local_addr().unwrap();
    tasks.spawn("between", async move {
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                got = near.recv_from(&mut up) => {
                    let Ok((length, from)) = got else { continue };
                    client = Some(from);
                    if !(withholds.load(Ordering::Relaxed) && has_handshake(&up[..length])) {
                        far.send(&up[..length]).await.ok();
                    }
                }
                got = far.recv(&mut down) => {
                    if let (Ok(length), Some(client)) = (got, client) {
                        near.send_to(&down[..length], client).await.ok();
                    }
                }
            }
        }
    });
    address
}

/// Whether a datagram has a Handshake packet (RFC 9000, 17.2).
fn has_handshake(mut datagram: &[u8]) -> bool {
    while let [first, rest @ ..] = datagram
        && first & 0x80 != 0
    {
        let kind = first >> 4 & 3;
        if kind == 2 {
            return true;
        }
        let mut rest = &rest[4..];
        for _ in 0..2 {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        if kind == 0 {
            let token = take_number(&mut rest);
            rest = &rest[token..];
        }
        let length = take_number(&mut rest);
        datagram = &rest[length..];
    }
    false
}

fn take_number(bytes: &mut &[u8]) -> usize {
    let length = 1 << (bytes[0] >> 6);
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    number[1..].iter().fold(usize::from(number[0] & 0x3f), |sum, byte| sum << 8 | usize::from(*byte))
}

#[tokio::test]
async fn qu_02_nothing_is_answered_before_the_client_has_proved_who_it_is() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (tasks, withholds) = (Tasks::new("between"), Arc::new(AtomicBool::new(true)));
    let between = withholding(gateway.quic_address(), Arc::clone(&withholds), &tasks).await;
    // The client has all it needs to send, and sends; only its certificate and its Finished are missing.
    let mut web = gateway.h3_at("/web", between).await;
    let mut stream = web.start(get("/head")).await;
    stream.finish().await.unwrap();
    let mut answer = std::pin::pin!(read(&mut stream));
    assert!(timeout(Duration::from_millis(1500), &mut answer).await.is_err(), "answered");
    assert!(gateway.records.all().is_empty());
    assert!(!gateway.metrics.render("application/openmetrics-text").1.contains("result=\"ok\""));
    withholds.store(false, Ordering::Relaxed);
    assert_eq!(timeout(LONG, answer).await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn ct_05_a_policy_that_forbids_ends_running_calls_over_http_3_within_a_second() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let mut stream = web.start(get("/drip?1000")).await;
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    gateway.change(r#"@id("web-get") permit (principal, action == Action::"grpc", resource);"#, 2);
    assert_eq!(code(&cut(&mut stream).await), Some(Code::H3_REQUEST_CANCELLED));
    let (_, record) = gateway.records.last();
    assert_eq!((record.phase, record.reason), (Phase::Rejudge, Reason::RevokedByChange));
    assert_eq!(web.get("/echo").await.status, 403, "the connection goes on");
}

#[tokio::test]
async fn in14_a_grpc_stream_over_http_3_ends_with_its_status() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let mut stream = web.start(grpc("/shop.Orders/Watch")).await;
    stream.send_data(framed(b"1").into()).await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let mut part = stream.recv_data().await.unwrap().unwrap();
    assert_eq!(part.copy_to_bytes(part.remaining()), framed(b"1"));
    let no_watch = r#"@id("no-watch") @owner("shop") forbid (principal, action == Action::"grpc", resource == Method::"shop.Orders/Watch");"#;
    gateway.change(&format!("{POLICY}{no_watch}"), 2);
    let status = timeout(SOON, async {
        assert!(stream.recv_data().await.unwrap().is_none());
        list(&stream.recv_trailers().await.unwrap().unwrap())
    });
    assert!(status.await.unwrap().contains(&("grpc-status".into(), "7".into())));
}

#[tokio::test]
async fn ct_03_a_revoked_identity_loses_its_calls_over_http_3() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    assert_eq!(web.get("/echo").await.status, 200);
    let id = gateway.ca.svid("/web").id;
    gateway.trust.update(|snapshot| snapshot.revoked.deny(&ca_identity::Revoked::Id(id))).unwrap();
    assert_eq!(web.get("/echo").await.status, 401);
    timeout(LONG, web.quic.closed()).await.expect("the connection ends with its identity");
}

#[tokio::test]
async fn qu_06_a_drain_says_goaway_and_lets_running_calls_end() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    let mut stream = web.start(get("/drip?20")).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    let (drained, answer) = tokio::join!(timeout(LONG, gateway.proxy.drain(LONG)), async {
        let mut length = 0;
        while let Some(part) = stream.recv_data().await.unwrap() {
            length += part.remaining();
        }
        length
    });
    drained.unwrap();
    assert!(answer > 0);
    let closed = web.quic.closed().await;
    assert!(!matches!(closed, ConnectionError::TransportError(_)), "{closed}");
    let late = endpoint();
    let connecting = late.connect_with(gateway.quic_tls(None), gateway.quic_address(), "gateway.test");
    assert!(timeout(SOON, connecting.unwrap()).await.map_or(true, |connected| connected.is_err()));
}

#[tokio::test]
async fn h3_01_a_head_that_does_not_end_or_fit_is_refused_with_its_connection() {
    let origin = Origin::h1().await;
    let timers = base_net::Timers { header: Duration::from_millis(300), ..base_net::Timers::default() };
    let gateway = Setup { timers, ..Setup::with_h1(origin.address) }.start();
    let slow = gateway.h3("/web").await;
    let (mut send, _receive) = slow.quic.open_bi().await.unwrap();
    // HEADERS of 100 bytes, of which one comes.
    send.write_all(&[1, 0x40, 100, 0]).await.unwrap();
    let closed = timeout(LONG, slow.quic.closed()).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(u64::from(close.error_code), Code::H3_EXCESSIVE_LOAD.value());
    gateway.metric("portcullis_gate_refused_total{class=\"h3_slow_header\"}", 1).await;
    // HEADERS of 512 MiB: what is held of it has a bound.
    let large = gateway.h3("/web").await;
    let (mut send, _receive) = large.quic.open_bi().await.unwrap();
    send.write_all(&[1, 0xa0, 0, 0, 0]).await.unwrap();
    let refused = timeout(LONG, async {
        loop {
            if let Err(error) = send.write_all(&[0; 16 * 1024]).await {
                return error;
            }
        }
    });
    assert!(matches!(refused.await.unwrap(), quinn::WriteError::Stopped(_)));
}

#[tokio::test]
async fn qu_05_packets_grow_with_the_path_streams_are_bounded_and_datagrams_off() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h3("/web").await;
    for _ in 0..20 {
        assert_eq!(web.get("/big?100000").await.status, 200);
    }
    assert!(web.quic.stats().path.current_mtu > 1400, "{:?}", web.quic.stats().path);
    assert_eq!(web.quic.max_datagram_size(), None);
    let mut open = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), web.quic.open_bi()).await {
        open.push(stream.unwrap());
        assert!(open.len() <= 256);
    }
    // Those that have ended are given back in groups.
    assert!(open.len() > 200, "{}", open.len());
}
