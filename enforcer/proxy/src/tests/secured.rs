//! Endpoints under TLS: who is expected gets calls, nobody else gets a byte of one (TL-09, TL-10, PL-01, OUT1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, ManualClock, SystemClock, Tasks};
use bytes::Bytes;
use ca_identity::testing::TestCa;
use ca_identity::tls::{ClientAuth, Trust, server_config};
use ca_identity::{IdPattern, IdentitySnapshot, X509Svid};
use enforcer_traffic::fleet::{CheckSettings, Probe};
use enforcer_traffic::{ClusterSpec, RetrySettings, TlsSettings};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::client::{framed, grpc};
use super::harness::{Gateway, Setup};
use super::origin::Origin;

const H1: &[u8] = b"http/1.1";
pub(super) const H2: &[u8] = b"h2";
const SHOP: &str = "spiffe://example.org/shop";

/// TLS before a plain origin. What it shows and whom it trusts is published from outside, at any time.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    trust: Arc<Trust>,
    open: Arc<Mutex<Tasks>>,
    _accepting: Tasks,
}

impl Front {
    pub(super) async fn before(origin: &Origin, alpn: &'static [u8]) -> Self {
        Self::at(origin, alpn, Arc::new(SystemClock)).await
    }

    async fn at(origin: &Origin, alpn: &'static [u8], clock: Arc<dyn Clock>) -> Self {
        let trust = Trust::new(clock);
        let config = server_config(&trust, ClientAuth::Required, &[alpn]);
        Self::under(origin, trust, config).await
    }

    /// TLS as that configuration has it.
    pub(super) async fn under(origin: &Origin, trust: Arc<Trust>, config: Arc<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), origin.address);
        let acceptor = TlsAcceptor::from(config);
        let (accepting, open) = (Tasks::new("front"), Arc::new(Mutex::new(Tasks::new("open"))));
        let opened = Arc::clone(&open);
        accepting.spawn("accept", async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                opened.lock().spawn("connection", async move {
                    let Ok(mut tls) = acceptor.accept(socket).await else { return };
                    let mut plain = TcpStream::connect(behind).await.unwrap();
                    tokio::io::copy_bidirectional(&mut tls, &mut plain).await.map(drop).unwrap_or_default();
                });
            }
        });
        Self { address, trust, open, _accepting: accepting }
    }

    pub(super) fn shows(&self, gateway: &Gateway, svid: X509Svid) {
        self.trust.publish(gateway.ca.snapshot(Some(svid))).unwrap();
    }

    /// Cuts every connection.
    fn cut(&self) {
        *self.open.lock() = Tasks::new("open");
    }
}

fn expecting(ids: &[&str]) -> ClusterSpec {
    let expect = ids.iter().map(|id| IdPattern::parse(id).unwrap()).collect();
    ClusterSpec { tls: Some(TlsSettings::Workloads { expect, sni: None }), ..ClusterSpec::default() }
}

fn setup(h1: Option<&Front>, h2: Option<&Front>, expect: &[&str]) -> Setup {
    let addresses = |front: Option<&Front>| front.map(|front| front.address).into_iter().collect();
    Setup { h1: addresses(h1), h2: addresses(h2), cluster: expecting(expect), ..Setup::default() }
}

#[tokio::test]
async fn tl_09_the_expected_endpoint_gets_calls_over_http1_http2_and_grpc() {
    for expect in [SHOP, "spiffe://example.org/*", "spiffe://example.org"] {
        let (one, two) = (Origin::h1().await, Origin::h2().await);
        let (h1, h2) = (Front::before(&one, H1).await, Front::before(&two, H2).await);
        let gateway = setup(Some(&h1), Some(&h2), &["spiffe://other.org/x", expect]).start();
        h1.shows(&gateway, gateway.ca.svid("/shop"));
        h2.shows(&gateway, gateway.ca.svid("/shop"));
        let mut web = gateway.h1("/web").await;
        for _ in 0..3 {
            assert_eq!(web.get("/hello").await.status, 200);
        }
        let big = web.get("/big?300000").await;
        assert_eq!((big.status, big.body.len()), (200, 300_000));
        let body = vec![7; 400_000];
        let mut ask =
            format!("POST /count HTTP/1.1\r\nhost: site.test\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        ask.extend_from_slice(&body);
        assert!(web.ask(ask).await.text().starts_with("400000 "));
        assert_eq!(one.connections(), 1, "one connection serves all calls");
        let mut caller = gateway.h2("/web").await;
        assert_eq!(caller.get("h2.test", "/hello").await.status, 200);
        let answer = caller.call("/shop.Orders/Get", b"x").await;
        assert_eq!(answer.status, 200);
        assert!(answer.trailers.iter().any(|(name, value)| name == "grpc-status" && value == "0"));
        assert_eq!(two.connections(), 1);
        gateway.metric("portcullis_pool_dials_total{result=\"ok\"}", 2).await;
    }
}

#[tokio::test]
async fn out1_an_endpoint_with_another_identity_gets_no_call() {
    let past = SystemClock.now().wall - Duration::from_secs(7200);
    let old = TestCa::new("old.org", past);
    let stranger = TestCa::new("strange.org", SystemClock.now().wall);
    let cases: [(&str, &str, Option<&TestCa>, &str); 4] = [
        ("another id", SHOP, None, "unexpected_id"),
        ("below another path", "spiffe://example.org/shop/*", None, "unexpected_id"),
        ("another trust domain", "spiffe://strange.org/billing", Some(&stranger), "unknown_trust_domain"),
        ("expired", "spiffe://old.org/billing", Some(&old), "expired"),
    ];
    for (name, expect, ca, word) in cases {
        let (one, two) = (Origin::h1().await, Origin::h2().await);
        let clock: Arc<dyn Clock> = match name {
            "expired" => Arc::new(ManualClock::new(past)),
            _ => Arc::new(SystemClock),
        };
        let (h1, h2) = (Front::at(&one, H1, Arc::clone(&clock)).await, Front::at(&two, H2, clock).await);
        let gateway =
            Setup { retry: RetrySettings::default(), ..setup(Some(&h1), Some(&h2), &[expect]) }.start();
        for front in [&h1, &h2] {
            let svid = ca.unwrap_or(&gateway.ca).svid("/billing");
            front.trust.publish(gateway.ca.snapshot(Some(svid))).unwrap();
        }
        if name == "expired" {
            gateway.trust.update(|trusted| trusted.bundles.insert(old.bundle()).unwrap()).unwrap();
        }
        let mut web = gateway.h1("/web").await;
        assert_eq!(web.get("/hello").await.status, 502, "{name}");
        let mut caller = gateway.h2("/web").await;
        assert_eq!(caller.get("h2.test", "/hello").await.status, 502, "{name}");
        let answer = caller.call("/shop.Orders/Get", b"x").await;
        assert!(answer.fields.iter().any(|(name, value)| name == "grpc-status" && value == "14"), "{name}");
        // Tried three times and not once more: an endpoint that is somebody else is no matter of luck.
        gateway.metric(&format!("portcullis_pool_dials_total{{result=\"{word}\"}}"), 3).await;
        assert_eq!((one.requests(), two.requests(), one.connections()), (0, 0, 0), "{name}");
    }
}

/// Trusts others only, so that it rejects the gateway once the handshake is over for that.
fn rejects(front: &Front, gateway: &Gateway) {
    let other = TestCa::new("other.org", SystemClock.now().wall);
    let shown = gateway.ca.snapshot(Some(gateway.ca.svid("/shop")));
    front.trust.publish(IdentitySnapshot { bundles: other.snapshot(None).bundles, ..shown }).unwrap();
}

#[tokio::test]
async fn tl_10_an_endpoint_that_rejects_our_certificate_is_not_asked_twice_by_a_call() {
    let (one, two) = (Origin::h1().await, Origin::h2().await);
    let (h1, h2) = (Front::before(&one, H1).await, Front::before(&two, H2).await);
    let gateway = Setup { retry: RetrySettings::default(), ..setup(Some(&h1), Some(&h2), &[SHOP]) }.start();
    rejects(&h1, &gateway);
    rejects(&h2, &gateway);
    // Often, because its alert, its end and what we write race each other.
    for nth in 1..=30 {
        let (mut web, mut caller) = (gateway.h1("/web").await, gateway.h2("/web").await);
        assert_eq!(web.get("/hello").await.status, 503);
        assert_eq!(caller.get("h2.test", "/hello").await.status, 503);
        gateway.metric("portcullis_pool_dials_total{result=\"ok\"}", 2 * nth).await;
    }
    assert_eq!((one.requests(), two.requests()), (0, 0));
}

#[tokio::test]
async fn tl_10_what_one_endpoint_rejected_unprocessed_goes_to_another_whatever_its_method() {
    let origins = [Origin::h1().await, Origin::h1().await, Origin::h2().await, Origin::h2().await];
    let (bad, good) = (Front::before(&origins[0], H1).await, Front::before(&origins[1], H1).await);
    let (bad2, good2) = (Front::before(&origins[2], H2).await, Front::before(&origins[3], H2).await);
    let gateway = Setup {
        h1: vec![bad.address, good.address],
        h2: vec![bad2.address, good2.address],
        cluster: expecting(&[SHOP]),
        retry: RetrySettings::default(),
        ..Setup::default()
    }
    .start();
    for front in [&bad, &bad2] {
        rejects(front, &gateway);
    }
    for front in [&good, &good2] {
        front.shows(&gateway, gateway.ca.svid("/shop"));
    }
    for _ in 0..8 {
        let (mut web, mut caller) = (gateway.h1("/web").await, gateway.h2("/web").await);
        let post = "POST /count HTTP/1.1\r\nhost: site.test\r\ncontent-length: 2\r\n\r\nab";
        assert_eq!(web.ask(post).await.status, 200);
        let answer = caller.call("/shop.Orders/Get", b"x").await;
        assert!(answer.trailers.iter().any(|(name, value)| name == "grpc-status" && value == "0"));
    }
    assert_eq!(origins.each_ref().map(Origin::requests), [0, 8, 0, 8]);
}

#[tokio::test]
async fn pl_01_a_renewed_svid_makes_new_connections_and_loses_no_call() {
    let (one, two) = (Origin::h1().await, Origin::h2().await);
    let (h1, h2) = (Front::before(&one, H1).await, Front::before(&two, H2).await);
    let gateway = setup(Some(&h1), Some(&h2), &[SHOP]).start();
    h1.shows(&gateway, gateway.ca.svid("/shop"));
    h2.shows(&gateway, gateway.ca.svid("/shop"));
    let (mut web, mut caller) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let mut running = caller.start(grpc("/shop.Orders/Watch"), false).await;
    let mut stream = running.response.await.unwrap().into_body();
    for nth in 1..=5 {
        for _ in 0..4 {
            assert_eq!(web.get("/hello").await.status, 200);
            assert_eq!(caller.get("h2.test", "/hello").await.status, 200);
        }
        assert_eq!((one.connections(), two.connections()), (nth, nth));
        // The stream of the first connection goes on.
        running.body.send_data(Bytes::from(framed(b"m")), false).unwrap();
        let part = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(part.len()).unwrap();
        let svid = gateway.ca.svid_with("/gateway", &["gateway.test"], Duration::from_secs(3600));
        gateway.trust.update(|trusted| trusted.own = Some(Arc::new(svid))).unwrap();
    }
    // Idle ones of the former trust are gone at once; the one with the stream stays.
    gateway.metric(&format!("portcullis_upstream_connections{{endpoint=\"{}\"}}", h1.address), 0).await;
    gateway.metric(&format!("portcullis_upstream_connections{{endpoint=\"{}\"}}", h2.address), 1).await;
}

#[tokio::test]
async fn pl_01_an_impostor_on_the_address_of_the_right_one_gets_no_call() {
    let (one, two) = (Origin::h1().await, Origin::h2().await);
    let (h1, h2) = (Front::before(&one, H1).await, Front::before(&two, H2).await);
    let gateway = setup(Some(&h1), Some(&h2), &[SHOP]).start();
    for front in [&h1, &h2] {
        front.shows(&gateway, gateway.ca.svid("/shop"));
    }
    let (mut web, mut caller) = (gateway.h1("/web").await, gateway.h2("/web").await);
    assert_eq!(web.get("/hello").await.status, 200);
    assert_eq!(caller.get("h2.test", "/hello").await.status, 200);
    for front in [&h1, &h2] {
        front.shows(&gateway, gateway.ca.svid("/billing"));
        front.cut();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        assert_eq!(web.get("/hello").await.status, 502);
        assert_eq!(caller.get("h2.test", "/hello").await.status, 502);
    }
    assert_eq!((one.requests(), two.requests()), (1, 1));
    for front in [&h1, &h2] {
        front.shows(&gateway, gateway.ca.svid("/shop"));
    }
    assert_eq!(web.get("/hello").await.status, 200, "the right one is back");
    assert_eq!(caller.get("h2.test", "/hello").await.status, 200, "the right one is back");
}

#[tokio::test]
async fn out1_a_running_call_ends_when_its_endpoint_is_denied() {
    let (one, two) = (Origin::h1().await, Origin::h2().await);
    let (h1, h2) = (Front::before(&one, H1).await, Front::before(&two, H2).await);
    let gateway = setup(Some(&h1), Some(&h2), &[SHOP]).start();
    h1.shows(&gateway, gateway.ca.svid("/shop"));
    h2.shows(&gateway, gateway.ca.svid("/shop"));
    let (mut web, mut caller) = (gateway.h1("/web").await, gateway.h2("/web").await);
    web.send("GET /silent HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    let running = caller.start(grpc("/shop.Orders/Watch"), false).await;
    let mut stream = running.response.await.unwrap().into_body();
    while one.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let shop = gateway.ca.id("/shop");
    gateway.trust.update(|trusted| trusted.revoked.deny(&ca_identity::Revoked::Id(shop))).unwrap();
    let soon = Duration::from_secs(1);
    let answer = tokio::time::timeout(soon, web.answer()).await.expect("within a second").unwrap();
    assert_eq!(answer.status, 502);
    let status = async {
        while stream.data().await.is_some_and(|part| part.is_ok()) {}
        let trailers = stream.trailers().await.unwrap().unwrap();
        trailers.get("grpc-status").unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(tokio::time::timeout(soon, status).await.expect("within a second"), "14");
    assert_eq!(web.get("/hello").await.status, 502, "and new calls are refused");
}

#[tokio::test]
async fn to_01_a_handshake_that_hangs_ends_with_the_time_to_connect() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let gateway = Setup {
        h1: vec![address],
        cluster: expecting(&[SHOP]),
        connect_timeout: Duration::from_millis(200),
        ..Setup::default()
    }
    .start();
    let mut web = gateway.h1("/web").await;
    let began = Instant::now();
    assert_eq!(web.get("/hello").await.status, 503);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    gateway.metric("portcullis_pool_dials_total{result=\"timeout\"}", 1).await;
}

#[tokio::test]
async fn tl_08_a_gateway_without_a_valid_svid_opens_no_connection() {
    let origin = Origin::h1().await;
    let front = Front::before(&origin, H1).await;
    let gateway = setup(Some(&front), None, &[SHOP]).start();
    front.shows(&gateway, gateway.ca.svid("/shop"));
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    gateway.trust.update(|trusted| trusted.own = None).unwrap();
    assert_eq!(web.get("/hello").await.status, 503);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn hc_01_checks_ask_over_tls_too() {
    for (expect, healthy) in [(SHOP, true), ("spiffe://example.org/billing", false)] {
        let origin = Origin::h1().await;
        let front = Front::before(&origin, H1).await;
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(1));
        let probe = Probe::Http { path: "/hello".into(), host: None };
        let check = Some(CheckSettings { probe, interval, timeout });
        let gateway = Setup {
            cluster: ClusterSpec { check, ..expecting(&[expect]) },
            ..setup(Some(&front), None, &[expect])
        }
        .start();
        front.shows(&gateway, gateway.ca.svid("/shop"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(origin.requests() > 0, healthy, "{expect}");
    }
}
