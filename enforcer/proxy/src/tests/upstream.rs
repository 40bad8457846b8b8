//! Endpoints that refuse, hang, lie, or go away.

use std::time::Duration;

use base_ports::Tasks;
use base_ports::net::Route;
use enforcer_traffic::ClusterSpec;
use http::{Request, Response};
use policies_engine::{Effect, Reason};
use tokio::net::TcpListener;

use super::harness::Setup;
use super::origin::Origin;

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn pa_08_an_endpoint_that_refuses_is_503_and_14() {
    let closed = nobody().await;
    let gateway = Setup { h2: vec![nobody().await], ..Setup::with_h1(closed) }.start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let answer = old.get("/hello").await;
    let (id, record) = gateway.records.last();
    assert_eq!((answer.status, record.effect, record.reason), (503, Effect::Allow, Reason::Permit));
    assert_eq!(answer.field("portcullis-decision-id"), Some(id.to_string().as_str()));
    assert_eq!(new.get("h2.test", "/hello").await.status, 503);
    assert_eq!(new.call("/shop.Orders/Get", b"x").await.field("grpc-status"), Some("14"));
    assert_eq!(old.get("/hello").await.status, 503, "the caller's connection lives on");
    gateway
        .metric(&format!("portcullis_upstream_requests_total{{endpoint=\"{closed}\",result=\"failed\"}}"), 2)
        .await;
}

#[tokio::test]
async fn to_01_a_firewall_that_drops_costs_the_connect_timeout_and_no_more() {
    let origin = Origin::h1().await;
    let mut setup = Setup::with_h1(origin.address);
    setup.connect_timeout = Duration::from_millis(200);
    let gateway = setup.start();
    gateway.net.script(origin.address, Route::Silence);
    let mut web = gateway.h1("/web").await;
    let refused = tokio::time::timeout(Duration::from_secs(5), web.get("/hello")).await.unwrap();
    assert_eq!((refused.status, origin.requests()), (503, 0));
    gateway.net.script(origin.address, Route::Lead(origin.address));
    assert_eq!(web.get("/hello").await.status, 200, "the endpoint is tried again");
    assert!(gateway.net.dials().iter().all(|dialled| *dialled == origin.address));
}

/// An endpoint over HTTP/2 that serves `calls` calls on its first connection and reads nothing more there; others it serves
/// well.
async fn falls_silent(calls: usize) -> (std::net::SocketAddr, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new("silent"));
    let served = Tasks::new("silent");
    tasks.spawn("accept", async move {
        let mut left = calls;
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let calls = std::mem::replace(&mut left, usize::MAX);
            served.spawn("connection", async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let mut served = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if served == calls {
                        break;
                    }
                    served += 1;
                    respond.send_response(Response::new(()), true).unwrap();
                    if served == calls {
                        // What it said goes out, and what it is asked once more is answered.
                        tokio::time::timeout(Duration::from_millis(150), connection.accept()).await.ok();
                        break;
                    }
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (address, tasks)
}

fn pinging(address: std::net::SocketAddr) -> Setup {
    let cluster = ClusterSpec { ping_interval: Duration::from_millis(100), ..ClusterSpec::default() };
    Setup { cluster, ..Setup::with_h2(address) }
}

#[tokio::test]
async fn pl_03_a_call_that_meets_an_endpoint_fallen_silent_is_told_to_another_connection() {
    let (address, _endpoint) = falls_silent(1).await;
    let gateway = pinging(address).start();
    let mut web = gateway.h2("/web").await;
    assert_eq!(web.get("h2.test", "/hello").await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Nothing for a while, a PING, nothing for twice as long.
    let open = format!("portcullis_upstream_connections{{endpoint=\"{address}\"}}");
    let began = tokio::time::Instant::now();
    assert_eq!(web.get("h2.test", "/hello").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // One that answers stays.
    tokio::time::sleep(Duration::from_millis(600)).await;
    gateway.metric(&open, 1).await;
}

#[tokio::test]
async fn pl_03_a_call_at_an_endpoint_that_falls_silent_ends_long_before_its_deadline() {
    let (address, _endpoint) = falls_silent(0).await;
    let gateway = pinging(address).start();
    let mut web = gateway.h2("/web").await;
    let began = tokio::time::Instant::now();
    let request = Request::post("https://h2.test/hello").body(()).unwrap();
    assert_eq!(web.ask(request, b"x").await.status, 502);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn to_01_an_endpoint_that_says_nothing_is_504_and_4() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let mut setup = Setup { h2: vec![h2.address], ..Setup::with_h1(h1.address) };
    setup.timeouts.header = Duration::from_millis(100);
    let gateway = setup.start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    assert_eq!(old.get("/silent").await.status, 504);
    assert_eq!(new.get("site.test", "/silent").await.status, 504);
    assert_eq!(new.get("h2.test", "/silent").await.status, 504);
    assert_eq!(new.get("h2.test", "/hello").await.status, 200, "the connections live on");
}

#[tokio::test]
async fn pa_08_a_bad_answer_is_502() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    for path in ["/bad", "/drop"] {
        assert_eq!(web.get(path).await.status, 502, "{path}");
    }
    assert_eq!(web.get("/hello").await.status, 200);
}

#[tokio::test]
async fn ry_05_a_kept_connection_that_died_is_replaced_unseen() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    // The origin closes after the answer; whether we have seen that before the next call is a race.
    for round in 0..20 {
        assert_eq!(old.get("/stale").await.text(), "once", "{round}");
        assert_eq!(new.get("site.test", "/stale").await.text(), "once", "{round}");
    }
    // The origin swallows the second request on a connection: a GET is told again, once.
    assert_eq!(old.get("/trap").await.text(), "trap");
    let before = origin.connections();
    assert_eq!(old.get("/hello").await.text(), "hello");
    assert_eq!(origin.connections(), before + 1);
}

#[tokio::test]
async fn ry_02_a_post_that_may_have_been_processed_is_not_told_again() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/trap").await.text(), "trap");
    let (connections, requests) = (origin.connections(), origin.requests());
    let answer = web.ask("POST /echo HTTP/1.1\r\nhost: site.test\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(answer.status, 502);
    assert_eq!((origin.connections(), origin.requests()), (connections, requests));
}

#[tokio::test]
async fn an_h2_endpoint_that_restarts_is_dialled_again() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    assert_eq!(web.get("h2.test", "/hello").await.status, 200);
    let address = origin.address;
    drop(origin);
    assert_eq!(web.get("h2.test", "/hello").await.status, 503, "nobody there");
    // The same port again.
    let listener = TcpListener::bind(address).await.unwrap();
    let tasks = Tasks::new("again");
    tasks.spawn("again", async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    assert_eq!(web.get("h2.test", "/hello").await.status, 200);
}

#[tokio::test]
async fn lb_01_calls_are_spread_over_the_endpoints() {
    let (one, two) = (Origin::h1().await, Origin::h1().await);
    let gateway = Setup { h1: vec![one.address, two.address], ..Setup::default() }.start();
    let mut web = gateway.h1("/web").await;
    for _ in 0..40 {
        assert_eq!(web.get("/hello").await.status, 200);
    }
    assert!(one.requests() > 5 && two.requests() > 5, "{} {}", one.requests(), two.requests());
}

#[tokio::test]
async fn a_caller_that_gives_up_frees_the_upstream() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let asked = web.start(Request::get("https://site.test/silent").body(()).unwrap(), true).await;
    while origin.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(asked);
    gateway.metric("portcullis_upstream_connections", 0).await;
}
