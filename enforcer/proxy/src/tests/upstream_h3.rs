//! Endpoints over HTTP/3: who is expected gets calls, over streams that end as those of HTTP/2 do, and HTTP/2 takes over
//! where QUIC leads nowhere (LT-06, LT-07, LT-15, QU-07).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, ManualClock, SystemClock};
use bytes::Bytes;
use ca_identity::testing::TestCa;
use ca_identity::{IdPattern, IdentitySnapshot};
use enforcer_traffic::fleet::{CheckSettings, Probe};
use enforcer_traffic::{ClusterSpec, RetrySettings, Timeouts, TlsSettings, UpstreamProtocol};
use http::Request;
use tokio::time::Instant;

use super::client::{framed, grpc};
use super::harness::{Gateway, Setup};
use super::origin::{Origin, checksum, pattern};
use super::origin_h3::H3Origin;
use super::secured::{Front, H2};

const SHOP: &str = "spiffe://example.org/shop";
const SOON: Duration = Duration::from_secs(1);

fn expecting(ids: &[&str]) -> ClusterSpec {
    let expect = ids.iter().map(|id| IdPattern::parse(id).unwrap()).collect();
    ClusterSpec {
        tls: Some(TlsSettings::Workloads { expect, sni: None }),
        requires_h3: true,
        ..ClusterSpec::default()
    }
}

fn setup(origins: &[SocketAddr], expect: &[&str]) -> Setup {
    let spoken = UpstreamProtocol::Http3;
    Setup { h2: origins.to_vec(), spoken, cluster: expecting(expect), ..Setup::default() }
}

/// A gateway before an origin that is who it should be.
fn started() -> (H3Origin, Gateway) {
    let origin = H3Origin::start();
    let gateway = setup(&[origin.address], &[SHOP]).start();
    origin.shows(&gateway, gateway.ca.svid("/shop"));
    (origin, gateway)
}

#[tokio::test]
async fn lt_15_calls_of_every_version_of_http_go_to_an_endpoint_over_http_3() {
    let (origin, gateway) = started();
    let (mut one, mut two, mut three) =
        (gateway.h1("/web").await, gateway.h2("/web").await, gateway.h3("/web").await);
    let body = pattern(400_000);
    let count = format!("400000 {} 0", checksum(&body));
    let ask = format!("POST /count HTTP/1.1\r\nhost: h2.test\r\ncontent-length: {}\r\n\r\n", body.len());
    assert_eq!(one.ask([ask.as_bytes(), &body].concat()).await.text(), count);
    let chunked =
        "POST /count HTTP/1.1\r\nhost: h2.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(one.ask(chunked).await.text().starts_with("3 "));
    let big = one.ask("GET /big?300000 HTTP/1.1\r\nhost: h2.test\r\n\r\n").await;
    assert!(big.status == 200 && big.body == pattern(300_000));
    let head = two.ask(Request::head("https://h2.test/big?300000").body(()).unwrap(), &[]).await;
    assert!(head.status == 200 && head.body.is_empty());
    let told = two.get("h2.test", "/head?x=1").await;
    let told = told.text();
    assert!(told.starts_with("GET https://h2.test/head?x=1\r\n"), "{told}");
    assert!(told.contains("portcullis-peer: spiffe://example.org/web\r\n"), "{told}");
    let request = |path: &str| Request::get(format!("https://h2.test{path}")).body(()).unwrap();
    assert_eq!(three.ask(request("/hello"), &[]).await.unwrap().text(), "hello");
    let request = Request::post("https://h2.test/echo").body(()).unwrap();
    assert!(three.ask(request, &body).await.unwrap().body == body);
    assert_eq!(origin.connections(), 1, "one connection serves all calls");
    gateway.metric("portcullis_pool_dials_total{result=\"ok\"}", 1).await;
}

#[tokio::test]
async fn lt_08_grpc_to_an_endpoint_over_http_3_has_its_trailers_both_ways() {
    let (origin, gateway) = started();
    let mut caller = gateway.h2("/web").await;
    let answer = caller.call("/shop.Orders/Get", b"x").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &framed(b"x")[..]));
    assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())), "{answer:?}");
    let only = caller.call("/shop.Orders/Get", b"only").await;
    let code = only.fields.iter().chain(&only.trailers).find(|(name, _)| name == "grpc-status");
    assert_eq!(code.map(|(_, code)| code.as_str()), Some("5"), "{only:?}");
    let mut running = caller.start(grpc("/shop.Orders/Watch"), false).await;
    let mut stream = running.response.await.unwrap().into_body();
    for message in [b"1", b"2"] {
        running.body.send_data(Bytes::from(framed(message)), false).unwrap();
        assert_eq!(&stream.data().await.unwrap().unwrap()[..], framed(message));
    }
    running.body.send_data(Bytes::new(), true).unwrap();
    assert!(stream.data().await.is_none());
    assert_eq!(stream.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn lt_07_an_endpoint_over_quic_with_another_identity_gets_no_call() {
    let past = SystemClock.now().wall - Duration::from_secs(7200);
    let old = TestCa::new("old.org", past);
    let stranger = TestCa::new("strange.org", SystemClock.now().wall);
    let cases: [(&str, &str, Option<&TestCa>, &str); 3] = [
        ("another id", SHOP, None, "unexpected_id"),
        ("another trust domain", "spiffe://strange.org/billing", Some(&stranger), "unknown_trust_domain"),
        ("expired", "spiffe://old.org/billing", Some(&old), "expired"),
    ];
    for (name, expect, ca, word) in cases {
        let clock: Arc<dyn Clock> = match name {
            "expired" => Arc::new(ManualClock::new(past)),
            _ => Arc::new(SystemClock),
        };
        let origin = H3Origin::at(clock);
        // HTTP/2 is no way round it.
        let mut setup = Setup { retry: RetrySettings::default(), ..setup(&[origin.address], &[expect]) };
        setup.cluster.requires_h3 = false;
        let gateway = setup.start();
        origin.trust.publish(gateway.ca.snapshot(Some(ca.unwrap_or(&gateway.ca).svid("/billing")))).unwrap();
        if name == "expired" {
            gateway.trust.update(|trusted| trusted.bundles.insert(old.bundle()).unwrap()).unwrap();
        }
        let mut caller = gateway.h2("/web").await;
        assert_eq!(caller.get("h2.test", "/hello").await.status, 502, "{name}");
        let answer = caller.call("/shop.Orders/Get", b"x").await;
        assert!(answer.fields.iter().any(|(name, value)| name == "grpc-status" && value == "14"), "{name}");
        gateway.metric(&format!("portcullis_pool_dials_total{{result=\"{word}\"}}"), 2).await;
        assert_eq!(origin.requests(), 0, "{name}");
    }
}

#[tokio::test]
async fn tl_10_an_endpoint_over_quic_that_rejects_our_certificate_is_not_asked_twice_by_a_call() {
    let origin = H3Origin::start();
    let gateway = Setup { retry: RetrySettings::default(), ..setup(&[origin.address], &[SHOP]) }.start();
    let other = TestCa::new("other.org", SystemClock.now().wall);
    let shown = gateway.ca.snapshot(Some(gateway.ca.svid("/shop")));
    origin.trust.publish(IdentitySnapshot { bundles: other.snapshot(None).bundles, ..shown }).unwrap();
    for _ in 0..10 {
        let mut caller = gateway.h2("/web").await;
        assert_eq!(caller.get("h2.test", "/hello").await.status, 503);
    }
    assert_eq!(origin.requests(), 0);
    let metrics = gateway.metrics.render("application/openmetrics-text").1;
    let dials = metrics.lines().filter(|line| line.starts_with("portcullis_pool_dials_total"));
    let dials: f64 = dials.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
    assert_eq!(dials, 10.0, "{metrics}");
}

#[tokio::test]
async fn pl_01_a_renewed_svid_makes_a_new_connection_over_quic_and_loses_no_call() {
    let (origin, gateway) = started();
    let mut caller = gateway.h2("/web").await;
    let mut running = caller.start(grpc("/shop.Orders/Watch"), false).await;
    let mut stream = running.response.await.unwrap().into_body();
    for nth in 1..=4 {
        for _ in 0..3 {
            assert_eq!(caller.get("h2.test", "/hello").await.status, 200);
        }
        assert_eq!(origin.connections(), nth);
        // The stream of the first connection goes on.
        running.body.send_data(Bytes::from(framed(b"m")), false).unwrap();
        let part = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(part.len()).unwrap();
        let svid = gateway.ca.svid_with("/gateway", &["gateway.test"], Duration::from_secs(3600));
        gateway.trust.update(|trusted| trusted.own = Some(Arc::new(svid))).unwrap();
    }
    gateway.metric(&format!("portcullis_upstream_connections{{endpoint=\"{}\"}}", origin.address), 1).await;
}

#[tokio::test]
async fn out1_a_running_call_over_http_3_ends_when_its_endpoint_is_denied() {
    let (origin, gateway) = started();
    let mut caller = gateway.h2("/web").await;
    let running = caller.start(grpc("/shop.Orders/Watch"), false).await;
    let mut stream = running.response.await.unwrap().into_body();
    let shop = gateway.ca.id("/shop");
    gateway.trust.update(|trusted| trusted.revoked.deny(&ca_identity::Revoked::Id(shop))).unwrap();
    let status = async {
        while stream.data().await.is_some_and(|part| part.is_ok()) {}
        let trailers = stream.trailers().await.unwrap().unwrap();
        trailers.get("grpc-status").unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(tokio::time::timeout(SOON, status).await.expect("within a second"), "14");
    assert_eq!(caller.get("h2.test", "/hello").await.status, 502, "and new calls are refused");
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn lt_06_an_endpoint_without_quic_is_asked_over_http_2_and_dialled_twice_at_most() {
    let origin = Origin::h2().await;
    let front = Front::before(&origin, H2).await;
    let mut setup = setup(&[front.address], &[SHOP]);
    (setup.cluster.requires_h3, setup.connect_timeout) = (false, Duration::from_millis(200));
    let gateway = setup.start();
    front.shows(&gateway, gateway.ca.svid("/shop"));
    let mut caller = gateway.h2("/web").await;
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(caller.get("h2.test", "/hello").await.status, 200, "no call is lost");
        assert!(began.elapsed() >= Duration::from_millis(150), "over quic first");
    }
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(caller.get("h2.test", "/hello").await.status, 200);
        let answer = caller.call("/shop.Orders/Get", b"x").await;
        assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    gateway.metric("portcullis_pool_dials_total{result=\"timeout\"}", 2).await;
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn lt_06_require_h3_leaves_no_way_but_http_3() {
    let origin = Origin::h2().await;
    let front = Front::before(&origin, H2).await;
    let mut setup = setup(&[front.address], &[SHOP]);
    setup.connect_timeout = Duration::from_millis(100);
    let gateway = setup.start();
    front.shows(&gateway, gateway.ca.svid("/shop"));
    let mut caller = gateway.h2("/web").await;
    for _ in 0..4 {
        assert_eq!(caller.get("h2.test", "/hello").await.status, 503);
    }
    assert_eq!((origin.requests(), origin.connections()), (0, 0));
    gateway.metric("portcullis_pool_dials_total{result=\"timeout\"}", 4).await;
}

#[tokio::test]
async fn qu_07_more_than_64_streams_open_a_second_connection() {
    let (origin, gateway) = started();
    let mut caller = gateway.h2("/web").await;
    let mut running = Vec::new();
    for _ in 0..70 {
        let mut call = caller.start(grpc("/shop.Orders/Watch"), false).await;
        call.body.send_data(Bytes::from(framed(b"m")), false).unwrap();
        let stream = call.response.await.unwrap().into_body();
        running.push((call.body, stream));
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn ry_02_a_request_that_an_endpoint_rejected_over_http_3_is_told_again_and_one_it_broke_is_not() {
    let (origin, gateway) = started();
    let mut web = gateway.h1("/web").await;
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: h2.test\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(web.ask(post("/count")).await.status, 200);
    origin.rejects(true);
    assert_eq!(web.ask(post("/count")).await.status, 502);
    origin.rejects(false);
    // After GOAWAY another connection takes what comes.
    for nth in 1..=3 {
        origin.leaves();
        assert_eq!(web.ask(post("/count")).await.status, 200, "{nth}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(web.ask(post("/count")).await.status, 200, "{nth}");
    }
    // A kept connection that ended meanwhile is replaced.
    origin.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(web.ask(post("/count")).await.status, 200);
    let before = origin.requests();
    let cut = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        origin.cut();
    };
    let (answer, ()) = tokio::join!(web.ask(post("/silent")), cut);
    assert_eq!((answer.status, origin.requests()), (502, before + 1), "it may have been executed");
}

#[tokio::test]
async fn qu_07_answers_that_break_off_over_http_3_never_look_complete() {
    let (_origin, gateway) = started();
    let mut caller = gateway.h2("/web").await;
    for path in ["/half", "/reset"] {
        let running =
            caller.start(Request::get(format!("https://h2.test{path}")).body(()).unwrap(), true).await;
        let mut stream = running.response.await.unwrap().into_body();
        let ended = loop {
            match stream.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        assert!(ended.is_some(), "{path} looks complete");
    }
    let early = caller.get("h2.test", "/early").await;
    assert_eq!((early.status, early.text()), (413, "big"));
    assert_eq!(caller.get("h2.test", "/hello").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn to_02_a_call_over_http_3_that_takes_too_long_is_given_up_and_its_endpoint_learns_it() {
    let origin = H3Origin::start();
    let timeouts = Timeouts { header: Duration::from_millis(300), ..Timeouts::default() };
    let gateway = Setup { timeouts, ..setup(&[origin.address], &[SHOP]) }.start();
    origin.shows(&gateway, gateway.ca.svid("/shop"));
    let mut caller = gateway.h2("/web").await;
    assert_eq!(caller.get("h2.test", "/silent").await.status, 504);
    let learned = async {
        while origin.given_up() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, learned).await.expect("the endpoint goes on");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn hc_01_checks_ask_over_http_3_too() {
    for (expect, healthy) in [(SHOP, true), ("spiffe://example.org/billing", false)] {
        let origin = H3Origin::start();
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(1));
        let probe = Probe::Http { path: "/hello".into(), host: None };
        let mut setup = setup(&[origin.address], &[expect]);
        setup.cluster.check = Some(CheckSettings { probe, interval, timeout });
        let gateway = setup.start();
        origin.shows(&gateway, gateway.ca.svid("/shop"));
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(origin.requests() > 0, healthy, "{expect}");
    }
}

#[tokio::test]
async fn qu_07_an_endpoint_hears_that_the_process_ends() {
    let (origin, gateway) = started();
    assert_eq!(gateway.h2("/web").await.get("h2.test", "/hello").await.status, 200);
    let (parted, ()) =
        tokio::join!(tokio::time::timeout(SOON * 3, origin.parted()), gateway.proxy.drain(SOON));
    parted.expect("it learns it at once, not by its timers");
}
