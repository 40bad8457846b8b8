//! TLS that goes through by its server name: judged by that, carried as it came, and never mixed with TLS that ends here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base_net::Timers;
use enforcer_traffic::{RouteSpec, Share};
use policies_engine::{Action, Effect, Phase, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{connect, rest};
use super::harness::{Gateway, Setup};
use super::tcp::Echo;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = r#"
@id("through") permit (principal is Anonymous, action == Action::"tcp:connect", resource == Service::"shop")
  when { context.connection has sni && context.connection.sni == "through.test" && context.connection.tls == 0 };
@id("web-db") permit (principal == Workload::"spiffe://example.org/web", action == Action::"tcp:connect", resource);
"#;

fn setup(origin: &Echo) -> Setup {
    let through = RouteSpec {
        name: "through".into(),
        service: "shop".into(),
        listener: Some("main".into()),
        passes: vec!["through.test".into(), "*.closed.test".into()],
        to: vec![Share::all("tcp")],
        ..RouteSpec::default()
    };
    Setup {
        carries: crate::Carries::Bytes,
        tcp: vec![origin.address],
        routes: vec![through],
        policy: Some(POLICY.to_owned()),
        ..Setup::default()
    }
}

/// What a client that asks for that name sends first.
fn hello(gateway: &Gateway, name: &'static str) -> Vec<u8> {
    let config = Arc::clone(&gateway.client_tls(None, &[b"h2"]));
    let mut client = rustls::ClientConnection::new(config, name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

async fn heard(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut heard = vec![0; count];
    timeout(SOON, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    heard
}

#[tokio::test]
async fn lt_16_tls_goes_through_byte_by_byte_and_its_name_is_what_is_judged() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let hello = hello(&gateway, "through.test");
    for size in [hello.len(), 700, 7] {
        let mut raw = TcpStream::connect(gateway.address).await.unwrap();
        raw.set_nodelay(true).unwrap();
        for piece in hello.chunks(size) {
            raw.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(heard(&mut raw, hello.len()).await == hello, "in pieces of {size}");
        raw.write_all(b"and more").await.unwrap();
        assert_eq!(heard(&mut raw, 8).await, b"and more");
        raw.shutdown().await.unwrap();
        assert_eq!(rest(&mut raw, SOON).await, b"bye", "one side ended, the other did not");
    }
    assert_eq!(gateway.records.all().len(), 3, "judged once each");
    let (_, record) = gateway.records.last();
    assert_eq!(
        (record.effect, record.action, record.phase),
        (Effect::Allow, Action::TcpConnect, Phase::Connect)
    );
    assert_eq!((record.resource.kind().as_str(), record.resource.id()), ("Service", "shop"));
    let facts = record.facts.unwrap();
    let connection = facts.connection();
    assert_eq!(
        (connection.sni.as_deref(), connection.tls, connection.mtls),
        (Some("through.test"), 0, false)
    );
    gateway.metric("portcullis_handshakes_total{result=\"passed\"}", 3).await;
    gateway.metric("portcullis_requests_total{protocol=\"tcp\",route=\"through\",code=\"200\"}", 3).await;
}

#[tokio::test]
async fn lt_16_a_name_that_no_policy_permits_is_closed_without_a_byte() {
    let origin = Echo::start("hello").await;
    let gateway = setup(&origin).start();
    let mut raw = TcpStream::connect(gateway.address).await.unwrap();
    raw.write_all(&hello(&gateway, "a.closed.test")).await.unwrap();
    assert!(rest(&mut raw, SOON).await.is_empty());
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.reason), (Effect::Deny, Reason::NoPermit));
    assert_eq!(record.facts.unwrap().connection().sni.as_deref(), Some("a.closed.test"));
    assert_eq!(origin.connections.load(Ordering::SeqCst), 0, "dialled for a caller that was denied");
}

#[tokio::test]
async fn lt_16_every_other_name_ends_here_as_before() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[]);
    let mut web = connect(gateway.address, config).await.unwrap();
    web.write_all(b"in clear").await.unwrap();
    web.flush().await.unwrap();
    let mut heard = [0; 8];
    timeout(SOON, web.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"in clear");
    let (_, record) = gateway.records.last();
    assert_eq!(record.principal.id(), "spiffe://example.org/web");
    assert_eq!(record.facts.unwrap().connection().tls, 13);
    // Bytes of a hello that come one by one are read by TLS all the same.
    let hello = hello(&gateway, "gateway.test");
    let mut raw = TcpStream::connect(gateway.address).await.unwrap();
    raw.set_nodelay(true).unwrap();
    for piece in hello.chunks(99) {
        raw.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut answer = [0; 3];
    timeout(SOON, raw.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [22, 3, 3], "a server hello");
}

#[tokio::test]
async fn lt_16_what_is_no_hello_gets_an_alert_and_the_end() {
    let origin = Echo::start("hello").await;
    let timers = Timers { handshake: Duration::from_millis(400), ..Timers::default() };
    let gateway = Setup { timers, ..setup(&origin) }.start();
    let whole = hello(&gateway, "through.test");
    let mut twice = whole.clone();
    twice.truncate(60);
    for (bytes, alert) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], true),
        (b"\x16\x03\x01\xff\xff\x01", true),
        (b"\x16\x03\x01\0\x04\x02\0\0\0", true),
        (&twice, false),
        (b"", false),
    ] {
        let mut raw = TcpStream::connect(gateway.address).await.unwrap();
        raw.write_all(bytes).await.unwrap();
        let told = rest(&mut raw, SOON).await;
        assert_eq!(told == [21, 3, 3, 0, 2, 2, 50], alert, "{bytes:?}: {told:?}");
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 0);
    gateway.metric("portcullis_handshakes_total{result=\"hello\"}", 3).await;
    gateway.metric("portcullis_handshakes_total{result=\"timeout\"}", 2).await;
}
