//! TLS from a caller whose records are its own, and callers that hold what they opened (TLS-01 to TLS-03, IN1, G15, G19).
//! A good caller beside them loses nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection};
use tests::recorder::Recorder;
use tests::wire::{self, Caller, Heard, PATIENCE, Wire};
use tests::{Gateway, Result, check};

use super::Table;
use super::good::{Good, scale};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("in1_hostile_tls_is_answered_as_its_class_says", None, classes),
        trial("g15_hostile_callers_that_hold_on_are_closed_and_harm_no_other", None, holding),
    ]
}

/// A record of TLS.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[kind, 3, 1], &length[..], payload].concat()
}

/// A ClientHello of TLS 1.2 that offers nothing of 1.3.
fn old_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2f], &[1, 0], &[0, 0]].concat();
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    record(22, &[&[1], &length[1..], &body].concat())
}

/// The ClientHello of a real client.
fn hello(config: &Arc<ClientConfig>) -> Result<Vec<u8>> {
    let mut client = ClientConnection::new(Arc::clone(config), "localhost".try_into()?)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// What comes back for bytes, until the end or for so long.
fn answered(address: SocketAddr, bytes: &[u8], within: Duration) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // The gateway may end it before all of it is sent.
    drop(stream.write_all(bytes));
    let (mut heard, mut part) = (Vec::new(), [0; 4096]);
    let end = Instant::now() + within;
    let closed = loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break true,
            Ok(length) => heard.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
            Err(_) => break true,
        }
    };
    let said = match heard.as_slice() {
        [] => "nothing".to_owned(),
        [21, _, _, 0, 2, _, alert, ..] => format!("alert {alert}"),
        [22, ..] => "hello".to_owned(),
        bytes if bytes.starts_with(b"HTTP/1.1 400 ") => "400".to_owned(),
        bytes => format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)])),
    };
    Ok(format!("{said}, {}", if closed { "close" } else { "open" }))
}

/// What becomes of a whole handshake and a request behind it.
fn shaken(address: SocketAddr, config: ClientConfig) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
    let mut tls = rustls::Stream::new(&mut client, &mut stream);
    let asked = tls.write_all(b"GET /tls HTTP/1.1\r\nhost: localhost\r\n\r\n").and_then(|()| tls.flush());
    let mut part = [0; 4096];
    let heard = asked.and_then(|()| tls.read(&mut part));
    Ok(match heard {
        Ok(0) => "close".to_owned(),
        Ok(length) => String::from_utf8_lossy(&part[..length]).split(' ').nth(1).unwrap_or("?").to_owned(),
        Err(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => format!("alert {alert:?}"),
            Some(other) => format!("{other}"),
            None => "close".to_owned(),
        },
    })
}

/// A chain and its key that no authority of ours has signed.
pub(super) fn foreign(
    uris: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.subject_alt_names = vec![SanType::URI("spiffe://example.org".try_into()?)];
    let root = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    for uri in uris {
        leaf.subject_alt_names.push(SanType::URI((*uri).try_into()?));
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut leaf);
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    Ok((vec![leaf.der().clone(), root.der().clone()], key))
}

fn classes() -> Result {
    let origin = Recorder::start();
    let gateway = Gateway::build()
        .listener("handshake_timeout = \"600ms\"")
        .listener("header_timeout = \"600ms\"")
        .site(origin.address)
        .start()?;
    let (tls, address) = (gateway.identity()?, gateway.address);
    let good = Arc::new(wire::tls(&tls, true, &[b"http/1.1"])?);
    let hello = hello(&good)?;
    let mut table = Table::new("tls");
    let long = Duration::from_secs(3);
    let bytes = [
        ("plain http", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), "400, close"),
        ("plain http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "400, close"),
        ("garbage", vec![0xa5; 4096], "alert"),
        ("sslv2", [&[0x80, 0x2e, 1, 0, 2][..], &[0; 64]].concat(), "alert"),
        ("tls 1.2", old_hello(), "alert"),
        ("an alert first", record(21, &[2, 40]), "close"),
        ("data first", record(23, b"hello"), "alert 10, close"),
        ("a change of ciphers first", record(20, &[1]), "alert"),
        ("a record of 20 KiB", record(22, &[1; 20_000]), "alert"),
        ("a hello of 16 MiB", record(22, &[1, 0xff, 0xff, 0xff, 3, 3]), "nothing, close"),
        ("empty records", record(22, &[]).repeat(1000), "alert"),
        ("a cut hello and another", [&hello[..60], &hello[..]].concat(), "alert"),
        ("two hellos", hello.repeat(2), "hello"),
        ("half a hello", hello[..60].to_vec(), "nothing, close"),
        ("half a record", hello[..3].to_vec(), "nothing, close"),
        ("silence", Vec::new(), "nothing, close"),
        ("a hello and silence", hello.clone(), "hello, close"),
    ];
    for (id, bytes, expected) in bytes {
        let seen = answered(address, &bytes, long)?;
        let is_fit = seen.starts_with(expected) || seen.ends_with(expected);
        let is_over = seen.ends_with(", close");
        table.row(
            format!("TLS-03/{id}"),
            expected,
            if is_fit && is_over { expected.to_owned() } else { seen },
        );
    }
    let web = "spiffe://example.org/web";
    let with = |(chain, key)| -> Result<ClientConfig> {
        let mut config = wire::tls(&tls, false, &[b"http/1.1"])?;
        let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::from_der(
            chain,
            key,
            config.crypto_provider(),
        )?);
        config.client_auth_cert_resolver = Arc::new(resolver);
        Ok(config)
    };
    let shown = [
        ("IN1/the real identity", wire::tls(&tls, true, &[b"http/1.1"])?, "200"),
        ("IN1/no certificate", wire::tls(&tls, false, &[b"http/1.1"])?, "alert CertificateRequired"),
        ("TLS-02/another protocol", wire::tls(&tls, true, &[b"smtp"])?, "alert NoApplicationProtocol"),
        ("IN1/a ca of the same name", with(foreign(&[web], |_| ())?)?, "alert"),
        ("IN1/another trust domain", with(foreign(&["spiffe://other.org/web"], |_| ())?)?, "alert"),
        ("IN1/two uris", with(foreign(&[web, "spiffe://example.org/admin"], |_| ())?)?, "alert"),
        ("IN1/no uri", with(foreign(&[], |_| ())?)?, "alert"),
        ("IN1/a uri that is no spiffe id", with(foreign(&["https://example.org/web"], |_| ())?)?, "alert"),
        (
            "IN1/a ca as a leaf",
            with(foreign(&[web], |leaf| {
                leaf.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)
            })?)?,
            "alert",
        ),
        ("IN1/no usage", with(foreign(&[web], |leaf| leaf.key_usages.clear())?)?, "alert"),
        (
            "IN1/server only",
            with(foreign(&[web], |leaf| {
                leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
            })?)?,
            "alert",
        ),
    ];
    for (id, config, expected) in shown {
        let seen = shaken(address, config)?;
        table.row(id, expected, if seen.starts_with(expected) { expected.to_owned() } else { seen });
    }
    let caller = Caller::new(address, &tls, b"http/1.1")?;
    table.row("TLS-01/new keys without end", "ended", updates(&mut caller.dial()?)?);
    let reached = origin.take().len();
    table.row("IN1/calls that reached the origin", "1", reached.to_string());
    table.end(25)
}

/// New keys again and again, as a caller may ask for.
fn updates(wire: &mut Wire) -> Result<String> {
    for _ in 0..2000 {
        if wire.update_keys().is_err() {
            break;
        }
    }
    ends(wire)
}

fn ends(wire: &mut Wire) -> Result<String> {
    Ok(match wire.hear(false, PATIENCE)? {
        Heard::Closed => "ended".to_owned(),
        Heard::Reply(reply) if reply.status == 408 => "ended".to_owned(),
        other => format!("{other:?}"),
    })
}

/// How a caller holds on.
enum Hold {
    /// Sends this before TLS, and nothing more.
    Raw(Vec<u8>),
    /// Sends this within TLS, and nothing more.
    Within(Vec<u8>),
    /// Sends one byte after the other.
    Drip(Vec<u8>),
}

fn holding() -> Result {
    let origin = Recorder::start();
    let gateway = Gateway::build()
        .listener("handshake_timeout = \"800ms\"")
        .listener("header_timeout = \"800ms\"")
        .listener("idle_timeout = \"800ms\"")
        .site(origin.address)
        .route_line("timeout = \"800ms\"")
        .start()?;
    let tls = gateway.identity()?;
    let good = Caller::new(gateway.address, &tls, b"http/1.1")?;
    let h2 = Caller::new(gateway.address, &tls, b"h2")?;
    let hello = hello(&Arc::new(wire::tls(&tls, true, &[b"http/1.1"])?))?;
    let count = 100 * scale();
    println!("the good caller alone: {}", Good::alone(&good, Duration::from_millis(500))?.text());
    let mut table = Table::new("callers that hold on");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    let post = "POST /slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    let preface = [tests::frames::PREFACE, &tests::frames::frame(4, 0, 0, &[])].concat();
    let kinds = [
        ("silent before tls", Hold::Raw(Vec::new()), &good),
        ("half a hello", Hold::Raw(hello[..100].to_vec()), &good),
        ("a whole hello", Hold::Raw(hello), &good),
        ("silent behind tls", Hold::Within(Vec::new()), &good),
        ("half a head", Hold::Within(get("/slow").into()), &good),
        ("a head byte by byte", Hold::Drip(get("/slow").into()), &good),
        ("half a body", Hold::Within(post.into()), &good),
        ("a body byte by byte", Hold::Drip([post.as_bytes(), &[b'x'; 1000]].concat()), &good),
        ("idle over http/2", Hold::Within(preface.clone()), &h2),
        ("half a preface", Hold::Within(preface[..10].to_vec()), &h2),
    ];
    for (id, hold, caller) in kinds {
        let beside = Good::start(&good);
        let closed = held(gateway.address, caller, &hold, count)?;
        let went = beside.went()?;
        println!("{id}: {count} held; the good caller: {}", went.text());
        table.row(format!("G15/{id}"), format!("{count} closed"), format!("{closed} closed"));
        table.row(format!("G15/{id}, the good caller"), "0 lost", format!("{} lost", went.lost));
    }
    // G19: handshakes of callers that show nothing.
    let (beside, stranger) = (Good::start(&good), Caller::stranger(gateway.address, &tls, b"http/1.1")?);
    let began = Instant::now();
    for _ in 0..3 * count {
        let mut wire = stranger.dial()?;
        check!(!matches!(wire.hear(false, PATIENCE)?, Heard::Reply(_)), "a stranger was answered");
    }
    let went = beside.went()?;
    println!(
        "{} handshakes without a certificate in {:?}; the good caller: {}",
        3 * count,
        began.elapsed(),
        went.text()
    );
    table.row(
        "G19/handshakes without a certificate, the good caller",
        "0 lost",
        format!("{} lost", went.lost),
    );
    table.end(20)
}

/// Opens so many, and counts those that the gateway closes in time.
fn held(address: SocketAddr, caller: &Caller, hold: &Hold, count: usize) -> Result<usize> {
    let mut open = Vec::new();
    for _ in 0..count {
        match hold {
            Hold::Raw(bytes) => {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(bytes)?;
                open.push(Held::Raw(stream));
            }
            Hold::Within(bytes) | Hold::Drip(bytes) => {
                let mut wire = caller.dial()?;
                if matches!(hold, Hold::Within(_)) {
                    wire.send(bytes);
                }
                open.push(Held::Tls(Box::new(wire)));
            }
        }
    }
    if let Hold::Drip(bytes) = hold {
        // Much slower than any clock, and never still.
        for byte in bytes.iter().take(40) {
            open.iter_mut().for_each(|held| {
                if let Held::Tls(wire) = held {
                    wire.send(&[*byte])
                }
            });
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    let end = Instant::now() + Duration::from_secs(4);
    Ok(open.into_iter().filter_map(|held| held.ends(end).then_some(())).count())
}

/// A connection that is held.
enum Held {
    Raw(TcpStream),
    Tls(Box<Wire>),
}

impl Held {
    fn ends(self, end: Instant) -> bool {
        match self {
            Self::Raw(mut stream) => {
                let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                let is_set = stream.set_read_timeout(Some(left)).is_ok();
                let read = stream.read_to_end(&mut Vec::new());
                is_set
                    && !matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
            }
            Self::Tls(mut wire) => loop {
                match wire.more(end) {
                    Ok(1..) => {}
                    Ok(0) => return true,
                    Err(error) => {
                        return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    }
                }
            },
        }
    }
}
