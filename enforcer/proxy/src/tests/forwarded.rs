//! Connections behind forwarders: whose they are is what a listed forwarder says, and nothing else.

use std::time::Duration;

use bytes::BytesMut;
use enforcer_codec::proxy_protocol::{Header, Step, read, tlv, write_v2};
use enforcer_traffic::{ClusterSpec, Network};
use policies_engine::Effect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Gateway, Setup};
use super::tcp::Echo;
use crate::Carries;

const SOON: Duration = Duration::from_secs(3);

/// Only the caller at this address may connect.
const FROM_THERE: &str = r#"@id("there") permit (principal == Workload::"spiffe://example.org/web", action == Action::"tcp:connect", resource)
  when { context.connection.source_ip == ip("203.0.113.7") };"#;

fn behind(origin: &Echo, forwarders: &str) -> Gateway {
    Setup {
        carries: Carries::Bytes,
        tcp: vec![origin.address],
        policy: Some(FROM_THERE.to_owned()),
        forwarders: vec![Network::parse(forwarders).unwrap()],
        ..Setup::default()
    }
    .start()
}

/// A connection that begins with these bytes.
async fn forwarded(gateway: &Gateway, header: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut tcp = TcpStream::connect(gateway.address).await?;
    tcp.write_all(header).await?;
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[]);
    TlsConnector::from(config).connect("gateway.test".try_into().unwrap(), tcp).await
}

async fn heard(gateway: &Gateway, header: &[u8]) -> String {
    let Ok(mut tls) = timeout(SOON, forwarded(gateway, header)).await.expect("in time") else {
        return "closed".to_owned();
    };
    let mut greeting = vec![0; 5];
    match timeout(SOON, tls.read_exact(&mut greeting)).await.expect("in time") {
        Ok(_) => String::from_utf8(greeting).unwrap(),
        Err(_) => "ended".to_owned(),
    }
}

fn v2(source: &str) -> BytesMut {
    let mut out = BytesMut::new();
    write_v2(&mut out, source.parse().unwrap(), "198.51.100.1:443".parse().unwrap(), &[]);
    out
}

#[tokio::test]
async fn px_02_the_address_that_a_forwarder_tells_is_the_source_that_policies_see() {
    let origin = Echo::start("hello").await;
    let gateway = behind(&origin, "127.0.0.0/8");
    assert_eq!(heard(&gateway, b"PROXY TCP4 203.0.113.7 198.51.100.1 1111 443\r\n").await, "hello");
    assert_eq!(heard(&gateway, &v2("203.0.113.7:1111")).await, "hello");
    assert_eq!(heard(&gateway, &v2("203.0.113.8:1111")).await, "ended", "another caller");
    assert_eq!(heard(&gateway, b"PROXY UNKNOWN\r\n").await, "ended", "the forwarder itself");
    let records = gateway.records.all();
    let seen: Vec<_> = records
        .iter()
        .map(|(_, record)| (record.effect, record.facts.as_ref().unwrap().connection().source_ip.to_string()))
        .collect();
    let told = |effect, ip: &str| (effect, ip.to_owned());
    assert_eq!(
        seen,
        [
            told(Effect::Allow, "203.0.113.7"),
            told(Effect::Allow, "203.0.113.7"),
            told(Effect::Deny, "203.0.113.8"),
            told(Effect::Deny, "127.0.0.1")
        ]
    );
}

#[tokio::test]
async fn px_01_without_a_header_that_holds_a_connection_is_closed_before_tls() {
    let origin = Echo::start("hello").await;
    let gateway = behind(&origin, "127.0.0.0/8");
    let mut bad_checksum = v2("203.0.113.7:1");
    *bad_checksum.last_mut().unwrap() ^= 1;
    for bytes in
        [&b""[..], b"PROXY TCP4 203.0.113.7 198.51.100.1 1111\r\n", b"PROXY TCP4 x\r\n\r\n", &bad_checksum]
    {
        assert_eq!(heard(&gateway, bytes).await, "closed", "{bytes:?}");
    }
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(b"PROXY TCP4 ").await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, slow.read_to_end(&mut rest)).await.expect("not held for longer than a second").ok();
    assert!(rest.is_empty() && gateway.records.all().is_empty());
    gateway.metric("portcullis_handshakes_total{result=\"proxy_header\"}", 5).await;
}

#[tokio::test]
async fn px_01_a_forwarder_that_is_not_listed_is_not_believed() {
    let origin = Echo::start("hello").await;
    let gateway = behind(&origin, "10.0.0.0/8");
    assert_eq!(heard(&gateway, &v2("203.0.113.7:1")).await, "closed");
    assert!(gateway.records.all().is_empty());
}

#[tokio::test]
async fn px_03_an_endpoint_hears_first_who_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = ClusterSpec { tells_caller: true, ..ClusterSpec::default() };
    let policy = r#"@id("all") permit (principal, action == Action::"tcp:connect", resource);"#;
    let gateway = Setup {
        carries: Carries::Bytes,
        tcp: vec![listener.local_addr().unwrap()],
        policy: Some(policy.to_owned()),
        cluster,
        ..Setup::default()
    }
    .start();
    let mut web = forwarded(&gateway, b"").await.unwrap();
    web.write_all(b"payload").await.unwrap();
    web.flush().await.unwrap();
    let (mut accepted, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    let header = loop {
        match read(&bytes).unwrap() {
            Step::Done(header) => break header,
            Step::More(count) => {
                let held = bytes.len();
                bytes.resize(held + count, 0);
                accepted.read_exact(&mut bytes[held..]).await.unwrap();
            }
        }
    };
    let (source, destination) = (web.get_ref().0.local_addr().unwrap(), gateway.address);
    assert_eq!(header, Header::Forwarded { source, destination });
    let (decision, _) = gateway.records.last();
    let entry =
        |kind: u8, value: &str| [&[kind, 0, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    for entry in [
        entry(tlv::AUTHORITY, "gateway.test"),
        entry(tlv::UNIQUE_ID, &decision.to_string()),
        entry(tlv::SPIFFE_ID, "spiffe://example.org/web"),
    ] {
        assert!(bytes.windows(entry.len()).any(|part| part == entry), "{entry:?} in {bytes:?}");
    }
    let mut payload = [0; 7];
    timeout(SOON, accepted.read_exact(&mut payload)).await.unwrap().unwrap();
    assert_eq!(&payload, b"payload");
}
