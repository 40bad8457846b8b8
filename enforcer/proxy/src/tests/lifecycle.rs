//! The life of connections and of the gateway itself: ends that are announced, and ends that are not waited for.

use std::net::SocketAddr;
use std::time::Duration;

use base_net::{Bind, Caps, Timers};
use base_ports::{Clock, SystemClock};
use ca_identity::tls::ClientAuth;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::client::connect;
use super::harness::{Gateway, Setup};
use super::origin::Origin;
use crate::{Carries, ListenerSpec, Proxy, ProxyConfig, ProxyError, Reveal};

#[tokio::test]
async fn dr_01_a_drain_lets_running_calls_end_and_takes_no_new_connection() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (mut idle, mut busy) = (gateway.h1("/web").await, gateway.h1("/web").await);
    let mut streams = gateway.h2("/web").await;
    assert_eq!(idle.get("/hello").await.status, 200);
    assert_eq!(streams.get("site.test", "/hello").await.status, 200);
    busy.send("GET /drip HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    let asked = streams.start(Request::get("https://site.test/drip").body(()).unwrap(), true).await;
    let response = asked.response.await.unwrap();
    let ended = async {
        assert!(idle.is_closed().await, "an idle connection is closed at once");
        assert_eq!(busy.answer().await.unwrap().text(), "dripdripdrip");
        assert!(busy.is_closed().await);
        assert_eq!(super::client::read(response).await.unwrap().text(), "dripdripdrip");
    };
    let drained = tokio::time::timeout(Duration::from_secs(5), gateway.proxy.drain(Duration::from_secs(10)));
    let (drained, ()) = tokio::join!(drained, ended);
    drained.expect("a drain ends with the last connection");
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[b"h2"]);
    assert!(connect(gateway.address, config).await.is_err());
}

#[tokio::test]
async fn dr_02_the_deadline_of_a_drain_cuts_what_is_left() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut busy = gateway.h1("/web").await;
    busy.send("GET /silent HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    while origin.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drained = gateway.proxy.drain(Duration::from_millis(100));
    tokio::time::timeout(Duration::from_secs(3), drained).await.expect("not longer than its deadline");
    assert!(busy.answer().await.is_err());
}

#[tokio::test]
async fn ct_02_a_connection_ends_with_the_certificate_that_opened_it() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let short = |alpn: &'static [u8]| {
        let svid = gateway.ca.svid_with("/web", &[], Duration::from_secs(3));
        gateway.client_tls(Some(svid), &[alpn])
    };
    let tls = connect(gateway.address, short(b"h2")).await.unwrap();
    let (sender, connection) = h2::client::handshake(tls).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(5), connection).await;
    assert!(closed.is_ok(), "closed before its certificate expired");
    drop(sender);
}

#[tokio::test]
async fn ct_02_an_answer_over_http_1_is_cut_when_the_certificate_of_its_caller_ends() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let svid = gateway.ca.svid_with("/web", &[], Duration::from_secs(5));
    let expires = svid.not_after;
    let mut tls = connect(gateway.address, gateway.client_tls(Some(svid), &[b"http/1.1"])).await.unwrap();
    tls.write_all(b"GET /drip?400 HTTP/1.1\r\nhost: site.test\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(8), tls.read_to_end(&mut seen)).await;
    let error = cut.expect("not after the certificate has expired").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "cut, which nobody takes for a clean end");
    let late = SystemClock.now().wall.saturating_since(expires);
    assert!(late < Duration::from_millis(500), "{late:?}");
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.matches("drip").count() > 20, "streamed: {text}");
    gateway.metric("portcullis_connections{", 0).await;
}

#[tokio::test]
async fn a_caller_that_takes_no_refusal_does_not_hold_its_connection() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    setup.timers.header = Duration::from_millis(100);
    let gateway = setup.start();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let tcp = socket.connect(gateway.address).await.unwrap();
    let config = gateway.client_tls(Some(gateway.ca.svid("/other")), &[b"http/1.1"]);
    let mut tls = TlsConnector::from(config).connect("gateway.test".try_into().unwrap(), tcp).await.unwrap();
    let asking = async { while tls.write_all(b"GET / HTTP/1.1\r\nhost: site.test\r\n\r\n").await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("the gateway goes");
    assert!(gateway.records.all().len() > 10, "it was refused for a while");
}

#[tokio::test]
async fn tl_08_without_an_own_svid_nobody_is_taken_in() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
    gateway.trust.update(|snapshot| snapshot.own = None).unwrap();
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[b"h2"]);
    assert!(connect(gateway.address, config).await.is_err());
    gateway.metric("portcullis_handshakes_total{result=\"no_svid\"}", 1).await;
}

#[tokio::test]
async fn tl_05_a_renewal_touches_no_open_connection() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    for round in 0..5 {
        let own = gateway.ca.svid_with("/gateway", &["gateway.test"], Duration::from_secs(3600));
        gateway.trust.update(|snapshot| snapshot.own = Some(own.into())).unwrap();
        assert_eq!(old.get("/hello").await.status, 200, "{round}");
        assert_eq!(new.get("site.test", "/hello").await.status, 200, "{round}");
        assert_eq!(gateway.h2("/web").await.get("site.test", "/hello").await.status, 200, "{round}");
    }
}

#[tokio::test]
async fn a_handshake_that_stands_still_is_ended() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    setup.timers.handshake = Duration::from_millis(60);
    let gateway = setup.start();
    let mut silent = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let read = silent.read_u8().await;
    assert!(read.is_err());
    gateway.metric("portcullis_handshakes_total{result=\"timeout\"}", 1).await;
}

#[tokio::test]
async fn wk_01_all_workers_serve_one_port() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 3, ..Setup::with_h1(origin.address) }.start();
    for _ in 0..24 {
        assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
    }
    let tags: std::collections::BTreeSet<_> =
        gateway.records.all().iter().map(|(id, _)| id.stream_tag()).collect();
    assert!(tags.len() > 1, "one lane per worker: {tags:?}");
}

#[tokio::test]
async fn al_03_long_connections_with_many_calls_are_spread_over_the_workers() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 4, ..Setup::with_h1(origin.address) }.start();
    let (mut connections, mut asked) = (Vec::new(), Vec::new());
    for count in 1..=8 {
        let mut connection = gateway.h2("/web").await;
        for _ in 0..10 {
            let request = Request::get("https://site.test/silent").body(()).unwrap();
            asked.push(connection.start(request, true).await);
        }
        connections.push(connection);
        gateway.records.wait(count * 10).await; // they run
    }
    let mut calls = std::collections::BTreeMap::new();
    for (id, _) in gateway.records.all() {
        *calls.entry(id.stream_tag()).or_insert(0) += 1;
    }
    assert_eq!(calls.len(), 4, "every worker has some: {calls:?}");
    assert!(calls.values().all(|calls| *calls >= 10), "none below half of the mean: {calls:?}");
}

#[tokio::test]
async fn wk_04_a_panic_ends_its_connection_alone_is_counted_and_leaves_no_lock_behind() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (mut other, mut streams) = (gateway.h1("/web").await, gateway.h2("/web").await);
    assert_eq!(other.get("/hello").await.status, 200);
    for over_h2 in [false, true] {
        let before = base_ports::task::panics();
        gateway.records.panics.store(true, std::sync::atomic::Ordering::Relaxed);
        if over_h2 {
            let asked = streams.start(Request::get("https://site.test/hello").body(()).unwrap(), true).await;
            assert!(asked.response.await.is_err());
        } else {
            assert!(gateway.h1("/web").await.ask_once("/hello").await.is_err());
        }
        // Counted once the connection is unwound.
        let counted = async {
            while base_ports::task::panics() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), counted).await.expect("it is counted");
        assert_eq!(other.get("/hello").await.status, 200, "the worker that judged and recorded goes on");
        assert_eq!(gateway.h2("/web").await.get("site.test", "/hello").await.status, 200);
    }
    drop(other);
    gateway.metric("portcullis_connections{", 0).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_named_error() {
    let taken = base_net::Listener::bind(&Bind::Tcp(([127, 0, 0, 1], 0).into()), false).unwrap();
    let address = taken.local_addr().unwrap();
    let gateway = Setup::default().start();
    let error = second(&gateway, vec![address]);
    assert!(matches!(&error, ProxyError::Bind { listener, .. } if &**listener == "public"), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn a_second_gateway_never_shares_a_port_in_silence() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    for _ in 0..3 {
        let error = second(&gateway, vec![gateway.address]);
        assert!(
            matches!(&error, ProxyError::Bind { address, .. } if *address == format!("tcp://{}", gateway.address)),
            "{error}"
        );
        assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200, "the first goes on");
    }
    let free = ([127, 0, 0, 1], free_port()).into();
    assert!(matches!(second(&gateway, vec![free, free]), ProxyError::Bind { .. }), "nor with itself");
}

/// Starts a second proxy there, which must fail.
fn second(gateway: &Gateway, binds: Vec<SocketAddr>) -> ProxyError {
    let config = ProxyConfig {
        workers: 2,
        handshakes: 1_024,
        longest_delay: Duration::from_millis(50),
        listeners: vec![ListenerSpec {
            carries: Carries::Http,
            sockets: Vec::new(),
            certificates: Vec::new(),
            forwarders: Vec::new(),
            name: "public".into(),
            number: 0,
            is_sidecar: false,
            binds,
            quic: Vec::new(),
            callers: None,
            client_auth: ClientAuth::Required,
            hosts: Vec::new(),
            timers: Timers::default(),
            caps: Caps::default(),
            handshakes_per_source: 64,
            max_body: None,
            max_held: 20 << 20,
            audience: Vec::new(),
            issuers: Vec::new(),
            tells_shed: true,
            profile: enforcer_codec::Profile::Mesh,
        }],
        mark: "mark".into(),
        reveal_decision_id: Reveal::Never,
        quic_reset_key: None,
    };
    Proxy::start(config, gateway.ports()).unwrap_err()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn reveal_has_three_words() {
    assert_eq!("always".parse::<Reveal>().unwrap(), Reveal::Always);
    assert_eq!("denied".parse::<Reveal>().unwrap(), Reveal::default());
    assert_eq!(
        "sometimes".parse::<Reveal>().unwrap_err().to_string(),
        "`sometimes` is none of denied, always, never"
    );
}

#[tokio::test]
async fn al_04_a_connection_takes_256_streams_and_goes_by_its_age_not_with_all_others() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    let most = Duration::from_millis(1_500);
    setup.timers.max_age = most;
    let gateway = setup.start();
    let mut streams = gateway.h2("/web").await;
    assert_eq!(streams.get("site.test", "/hello").await.status, 200);
    assert_eq!(streams.sender.current_max_send_streams(), 256);
    let mut open = Vec::new();
    for _ in 0..8 {
        let (mut connection, begun) = (gateway.h1("/web").await, SystemClock.now().mono);
        open.push(async move {
            assert_eq!(connection.get("/hello").await.status, 200);
            assert!(connection.is_closed().await);
            SystemClock.now().mono.saturating_since(begun)
        });
    }
    let ages = futures_util::future::join_all(open).await;
    let (least, longest) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    // Up to a tenth earlier, and the last quarter is left for what runs.
    assert!(*least >= most.mul_f64(0.9 * 0.75) && *longest < most + Duration::from_millis(500), "{ages:?}");
    assert!(*longest - *least >= Duration::from_millis(5), "they go together: {ages:?}");
}
