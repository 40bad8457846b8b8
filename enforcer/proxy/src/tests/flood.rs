//! Callers that send frames which move no call: each flood ends its own connection, and nobody else's.

use std::time::Duration;

use base_net::Timers;
use base_ports::Tasks;
use ca_identity::tls::ClientAuth;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::client::connect;
use super::harness::{Gateway, Setup};
use super::origin::Origin;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A connection whose bytes are ours from here on.
async fn raw(gateway: &Gateway, is_proved: bool) -> TlsStream<TcpStream> {
    let svid = is_proved.then(|| gateway.ca.svid("/web"));
    let mut tls = connect(gateway.address, gateway.client_tls(svid, &[b"h2"])).await.unwrap();
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    tls.flush().await.unwrap();
    tls
}

/// Sends `one` up to `most` times; answers the error code of the GOAWAY that comes, `None` when the connection stays open.
async fn flood(tls: TlsStream<TcpStream>, one: Vec<u8>, most: usize) -> Option<u32> {
    let (mut read, mut write) = tokio::io::split(tls);
    let tasks = Tasks::new("flood");
    tasks.spawn("frames", async move {
        for _ in 0..most {
            if write.write_all(&one).await.is_err() {
                return;
            }
        }
        write.flush().await.ok();
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let mut code = None;
    let quiet = Duration::from_millis(700);
    loop {
        let mut head = [0; 9];
        if !matches!(timeout(quiet, read.read_exact(&mut head)).await, Ok(Ok(_))) {
            return code;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if read.read_exact(&mut payload).await.is_err() {
            return code;
        }
        if head[3] == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
}

const ENHANCE_YOUR_CALM: Option<u32> = Some(11);

#[tokio::test]
async fn h2_01_floods_of_control_frames_end_their_connection_and_no_other() {
    let origin = Origin::h1().await;
    let setup = Setup { client_auth: ClientAuth::Optional, ..Setup::with_h1(origin.address) };
    let gateway = setup.start();
    let mut good = gateway.h2("/web").await;
    assert_eq!(good.get("site.test", "/hello").await.status, 200);
    let floods = [
        ("PING", frame(6, 0, 0, &[7; 8])),
        ("answers to no PING", frame(6, 1, 0, &[7; 8])),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 9])),
        ("PRIORITY_UPDATE", frame(0x10, 0, 0, &[0, 0, 0, 1, b'u'])),
        ("unknown", frame(0x7f, 0, 0, &[])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
    ];
    for (nth, (name, one)) in floods.iter().enumerate() {
        let began = Instant::now();
        assert_eq!(flood(raw(&gateway, false).await, one.clone(), 50_000).await, ENHANCE_YOUR_CALM, "{name}");
        assert!(began.elapsed() < Duration::from_secs(3), "{name}: {:?}", began.elapsed());
        assert_eq!(good.get("site.test", "/hello").await.status, 200, "beside {name}");
        let count = u32::try_from(nth + 1).unwrap();
        gateway.metric("portcullis_gate_refused_total{class=\"h2_budget\"}", count).await;
    }
}

#[tokio::test]
async fn h2_01_what_a_working_caller_sends_is_within_the_budget() {
    let origin = Origin::h1().await;
    let setup = Setup { client_auth: ClientAuth::Optional, ..Setup::with_h1(origin.address) };
    let gateway = setup.start();
    assert_eq!(flood(raw(&gateway, false).await, frame(6, 0, 0, &[7; 8]), 100).await, None, "anybody");
    assert_eq!(
        flood(raw(&gateway, true).await, frame(6, 0, 0, &[7; 8]), 1_000).await,
        None,
        "a proved caller"
    );
    assert_eq!(flood(raw(&gateway, true).await, frame(6, 0, 0, &[7; 8]), 1_001).await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_header_block_that_does_not_end_ends_its_connection_in_time() {
    let origin = Origin::h1().await;
    let timers = Timers { header: Duration::from_millis(300), ..Timers::default() };
    let setup = Setup { client_auth: ClientAuth::Optional, timers, ..Setup::with_h1(origin.address) };
    let gateway = setup.start();
    // HEADERS without END_HEADERS; a frame whose payload does not come.
    for begun in [frame(1, 0, 1, &[0x82]), frame(1, 4, 1, &[0x82; 40])[..20].to_vec()] {
        let mut tls = raw(&gateway, true).await;
        tls.write_all(&begun).await.unwrap();
        tls.flush().await.unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(3), tls.read_to_end(&mut rest)).await.expect("closed").ok();
        assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
        assert!(rest.windows(4).any(|code| code == [0, 0, 0, 11]), "{rest:?}");
    }
    gateway.metric("portcullis_gate_refused_total{class=\"h2_slow_header\"}", 2).await;
}
