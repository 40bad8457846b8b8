//! QUIC and HTTP/3 from a caller whose datagrams and frames are its own (H3-01, QC-01, QC-02, HX rows). Each row over
//! streams has a connection of its own and is followed by a good request on it.

mod rows;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, ReadError, ReadToEndError, RecvStream, SendStream};
use serde_json::Value;
use tests::recorder::Recorder;
use tests::wire::{self, Caller};
use tests::{Gateway, Result};

use super::Table;
use super::good::{Good, scale};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("h3_01_hostile_http3_and_quic_are_answered_as_their_class_says", None, classes)]
}

/// What a row does on a connection.
enum Does {
    /// Opens its own control stream with these bytes, where the usual ones are not due.
    Control(Vec<u8>),
    /// Opens a stream of one direction with these bytes; true ends it.
    Uni(Vec<u8>, bool),
    /// Asks with these bytes; true ends the stream.
    Ask(Vec<u8>, bool),
    /// Asks, and gives up at once, so often.
    GiveUp(usize),
    /// Opens streams of one direction with these bytes, and resets each.
    Resets(Vec<u8>, usize),
}

/// One class; alternatives of what is expected between bars.
struct Row {
    id: String,
    does: Does,
    expected: &'static str,
}

/// A varint of QUIC.
fn varint(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![u8::try_from(value).unwrap_or_default()],
        0x40..=0x3fff => (u16::try_from(value).unwrap_or_default() | 0x4000).to_be_bytes().to_vec(),
        0x4000..=0x3fff_ffff => {
            (u32::try_from(value).unwrap_or_default() | 0x8000_0000).to_be_bytes().to_vec()
        }
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

/// A frame of HTTP/3.
fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [varint(kind), varint(payload.len() as u64), payload.to_vec()].concat()
}

/// A field section that uses no table.
fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    for (name, value) in fields {
        let octets = |text: &str| {
            text.chars().map(|byte| u8::try_from(u32::from(byte)).unwrap_or(b'?')).collect::<Vec<_>>()
        };
        tests::frames::integer(0x20, 3, name.chars().count(), &mut bytes);
        bytes.extend(octets(name));
        tests::frames::integer(0, 7, value.chars().count(), &mut bytes);
        bytes.extend(octets(value));
    }
    bytes
}

fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    frame(1, &section(&[&own[..], more].concat()))
}

fn classes() -> Result {
    let origin = Recorder::start();
    let gateway = Gateway::build()
        .quic()
        .listener("handshake_timeout = \"800ms\"")
        .listener("header_timeout = \"600ms\"")
        .site(origin.address)
        .route_line("timeout = \"1s\"")
        .start()?;
    let tls = gateway.identity()?;
    let mut table = Table::new("http/3 and quic");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        handshakes(gateway.address, &tls, &mut table).await?;
        for row in rows::all() {
            origin.take();
            let mut seen = run(gateway.address, &tls, row.does).await?;
            let whole = origin
                .take()
                .into_iter()
                .filter(|one| one.broken.is_none() && one.target() != "/after")
                .count();
            let served = seen.split(", ").filter(|word| *word == "200").count();
            if whole != served {
                seen.push_str(&format!(", but the origin received {whole}"));
            }
            let is_fit = row.expected.split(" | ").any(|expected| expected == seen);
            table.row(row.id, row.expected, if is_fit { row.expected.to_owned() } else { seen });
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let good = Caller::new(gateway.address, &tls, b"http/1.1")?;
    println!("the good caller alone: {}", Good::alone(&good, Duration::from_millis(300))?.text());
    for (id, datagrams) in datagrams() {
        let beside = Good::start(&good);
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut heard = 0;
        let mut sent = 0;
        for datagram in datagrams {
            sent += datagram.len();
            drop(socket.send_to(&datagram, gateway.address));
        }
        let mut part = [0; 2048];
        while let Ok(length) = socket.recv(&mut part) {
            heard += length;
        }
        let went = beside.went()?;
        println!("{id}: {sent} bytes sent, {heard} heard; the good caller: {}", went.text());
        table.row(
            format!("QC-01/{id}"),
            "no more than thrice",
            if heard <= sent * 3 { "no more than thrice".to_owned() } else { format!("{heard} for {sent}") },
        );
        table.row(format!("QC-01/{id}, the good caller"), "0 lost", format!("{} lost", went.lost));
    }
    let (status, _) = tests::h3::get(gateway.address, &tls, true, "/h3")?;
    table.row("QC-01/a good call over http/3 afterwards", "200", status.to_string());
    table.end(30)
}

/// Datagrams that open nothing.
fn datagrams() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let times = 1000 * scale();
    let initial = |nth: usize, version: u32, length: usize| {
        let id = (nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let mut bytes =
            [&[0xc3][..], &version.to_be_bytes(), &[8], &id, &[8], &id, &[0], &[0x44, 0x96]].concat();
        bytes.resize(length, 0x5a);
        bytes
    };
    vec![
        ("initials that nobody can open", (0..times).map(|nth| initial(nth, 1, 1200)).collect()),
        ("short initials", (0..times).map(|nth| initial(nth, 1, 300)).collect()),
        ("unknown versions", (0..times).map(|nth| initial(nth, 0x1a2a_3a4a, 1200)).collect()),
        ("short unknown versions", (0..times).map(|nth| initial(nth, 0x1a2a_3a4a, 100)).collect()),
        (
            "packets of no connection",
            (0..times).map(|nth| [&[0x40][..], &nth.to_be_bytes(), &[7; 40]].concat()).collect(),
        ),
        (
            "garbage",
            (0..times).map(|nth| vec![u8::try_from(nth % 251).unwrap_or_default(); 1 + nth % 1400]).collect(),
        ),
        ("empty ones", vec![Vec::new(); times]),
    ]
}

/// Handshakes that must not succeed.
async fn handshakes(address: SocketAddr, tls: &Path, table: &mut Table) -> Result {
    let shown = super::tls::foreign(&["spiffe://example.org/web"], |_| ())?;
    let mut foreign = wire::tls(tls, false, &[b"h3"])?;
    let key = rustls::sign::CertifiedKey::from_der(shown.0, shown.1, foreign.crypto_provider())?;
    foreign.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
    for (id, config, expected) in [
        ("IN1/no certificate", wire::tls(tls, false, &[b"h3"])?, "alert 116"),
        ("IN1/a ca of the same name", foreign, "alert 48"),
        ("TLS-02/another protocol", wire::tls(tls, true, &[b"hq-29"])?, "alert 120"),
    ] {
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
        let error = match endpoint.connect_with(config, address, "localhost")?.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        let seen = match &error {
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                code @ 0x100..=0x1ff => format!("alert {}", code - 0x100),
                code => format!("closed {code}"),
            },
            other => other.to_string(),
        };
        table.row(id, expected, seen);
    }
    Ok(())
}

/// What becomes of a row.
async fn run(address: SocketAddr, tls: &Path, does: Does) -> Result<String> {
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let config = wire::tls(tls, true, &[b"h3"])?;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    let quic = endpoint.connect_with(config, address, "localhost")?.await?;
    let mut kept = Vec::new();
    if !matches!(does, Does::Control(_)) {
        kept.push(uni(&quic, &[&[0][..], &frame(4, &[])].concat(), false).await?);
    }
    let mut words = Vec::new();
    match does {
        Does::Control(bytes) => kept.push(uni(&quic, &bytes, false).await?),
        Does::Uni(bytes, ends) => kept.push(uni(&quic, &bytes, ends).await?),
        Does::Ask(bytes, ends) => {
            let (mut send, receive) = quic.open_bi().await?;
            // The gateway may stop it before all of it is sent.
            if send.write_all(&bytes).await.is_ok() && ends {
                drop(send.finish());
            }
            let heard = heard(receive).await;
            words.extend((heard != "closed").then_some(heard));
            kept.push(send);
        }
        Does::GiveUp(times) => {
            for _ in 0..times {
                let Ok((mut send, mut receive)) = quic.open_bi().await else { break };
                drop(send.write_all(&request("/seen", &[])).await);
                drop((send.reset(0x10c_u32.into()), receive.stop(0x10c_u32.into())));
            }
        }
        Does::Resets(bytes, times) => {
            for _ in 0..times {
                let opened = tokio::time::timeout(Duration::from_millis(500), quic.open_uni()).await;
                let Ok(Ok(mut send)) = opened else { break };
                drop(send.write_all(&bytes).await);
                drop(send.reset(0x10c_u32.into()));
            }
        }
    }
    let after = async {
        let (mut send, receive) = quic.open_bi().await.ok()?;
        send.write_all(&request("/after", &[])).await.ok()?;
        send.finish().ok()?;
        (heard(receive).await == "200").then_some(())
    };
    let is_open = tokio::time::timeout(Duration::from_secs(3), after).await;
    words.push(match is_open {
        Ok(Some(())) => "open".to_owned(),
        _ => match quic.close_reason() {
            Some(ConnectionError::ApplicationClosed(close)) => {
                format!("close {:#x}", u64::from(close.error_code))
            }
            Some(other) => format!("close: {other}"),
            None => "silence".to_owned(),
        },
    });
    drop(kept);
    quic.close(0x100_u32.into(), b"");
    Ok(words.join(", "))
}

async fn uni(quic: &quinn::Connection, bytes: &[u8], ends: bool) -> Result<SendStream> {
    let mut send = quic.open_uni().await?;
    drop(send.write_all(bytes).await);
    if ends {
        drop(send.finish());
    }
    Ok(send)
}

/// The status of an answer, or how it ended instead.
async fn heard(mut receive: RecvStream) -> String {
    let read = tokio::time::timeout(Duration::from_secs(3), receive.read_to_end(1 << 20)).await;
    let mut bytes = match read {
        Err(_late) => return "silence".to_owned(),
        Ok(Err(ReadToEndError::Read(ReadError::Reset(code)))) => {
            return format!("reset {:#x}", u64::from(code));
        }
        Ok(Err(_)) => return "closed".to_owned(),
        Ok(Ok(bytes)) => bytes,
    };
    let mut body = Vec::new();
    while let Some((kind, length, head)) = first(&bytes) {
        let rest = bytes.split_off(head.min(bytes.len()));
        let (payload, next) = rest.split_at(length.min(rest.len()));
        if kind == 0 {
            body.extend_from_slice(payload);
        }
        bytes = next.to_vec();
    }
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (told["status"].as_u64(), told["method"].is_string()) {
        (Some(status), _) => status.to_string(),
        (None, true) => "200".to_owned(),
        (None, false) => "nothing".to_owned(),
    }
}

/// Type and length of the first frame, and how many bytes they take.
fn first(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let number = |bytes: &[u8]| -> Option<(u64, usize)> {
        let size = 1_usize << (bytes.first()? >> 6);
        let mut value = u64::from(bytes.first()? & 0x3f);
        for byte in bytes.get(1..size)? {
            value = value << 8 | u64::from(*byte);
        }
        Some((value, size))
    };
    let (kind, size) = number(bytes)?;
    let (length, more) = number(bytes.get(size..)?)?;
    Some((kind, usize::try_from(length).ok()?, size + more))
}
