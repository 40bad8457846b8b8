//! One check of one endpoint, on a connection of its own.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use base_ports::Net;
use bytes::{Buf, Bytes, BytesMut};
use enforcer_codec::h1::{Parse, ResponseParser};
use enforcer_codec::{Asked, Limits};
use enforcer_traffic::fleet::Probe;
use enforcer_traffic::{EndpointSpec, UpstreamProtocol};
use h3::error::StreamError;
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pool::{Datagrams, Originator, Wire};
use crate::quic::{FIELD_SECTION, Transport};

/// An answer to a check is never larger.
const MOST: usize = 64 * 1024;
/// `grpc.health.v1.HealthCheckResponse { status: SERVING }`, with its prefix.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];

/// Asks an endpoint; how long that may take is the caller's word.
///
/// # Errors
/// Why it does not pass.
pub(super) async fn ask(
    net: &dyn Net,
    originator: Option<&Originator>,
    endpoint: &EndpointSpec,
    probe: &Probe,
) -> io::Result<()> {
    if let (UpstreamProtocol::Http3, Some(originator)) = (endpoint.protocol, originator) {
        return over_quic(net, originator, endpoint, probe).await;
    }
    let stream = net.dial(&endpoint.addr).await?;
    let (stream, scheme) = match originator {
        Some(originator) => (originator.secure(stream).await?, "https"),
        None => (Wire::Plain(stream), "http"),
    };
    let is_h1 = matches!(endpoint.protocol, UpstreamProtocol::Http1 | UpstreamProtocol::Tcp);
    if let Probe::Http { path, host } = probe
        && is_h1
    {
        let authority = authority(endpoint);
        return passes(probe, http1(stream, path, host.as_deref().unwrap_or(&authority)).await?, &[]);
    }
    let Some((ask, body)) = asked(scheme, endpoint, probe)? else { return Ok(()) };
    let (status, answer) = http2(stream, ask, body).await?;
    passes(probe, status, &answer)
}

/// The same over HTTP/3.
async fn over_quic(
    net: &dyn Net,
    originator: &Originator,
    endpoint: &EndpointSpec,
    probe: &Probe,
) -> io::Result<()> {
    let datagrams = Datagrams::default();
    let (quic, _) = originator.secure_quic(&datagrams, net).await?;
    let Some((ask, body)) = asked("https", endpoint, probe)? else { return Ok(()) };
    let (status, answer) = http3(quic, ask, body).await?;
    passes(probe, status, &answer)
}

/// What an endpoint is asked over HTTP/2 and HTTP/3; nothing when that it takes a connection is enough.
fn asked(scheme: &str, endpoint: &EndpointSpec, probe: &Probe) -> io::Result<Option<(Request<()>, Bytes)>> {
    let authority = authority(endpoint);
    let (ask, body) = match probe {
        Probe::Tcp => return Ok(None),
        Probe::Http { path, host } => {
            let host = host.as_deref().unwrap_or(&authority);
            (Request::get(format!("{scheme}://{host}{path}")), Bytes::new())
        }
        Probe::Grpc { service } => {
            let ask = Request::builder()
                .method(Method::POST)
                .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            (ask, message(service)?)
        }
    };
    Ok(Some((ask.body(()).map_err(io::Error::other)?, body)))
}

fn authority(endpoint: &EndpointSpec) -> String {
    endpoint.addr.tcp().map_or_else(|| "localhost".to_owned(), |address| address.to_string())
}

fn passes(probe: &Probe, status: u16, answer: &[u8]) -> io::Result<()> {
    match probe {
        Probe::Grpc { .. } if status == 200 && answer == SERVING => Ok(()),
        Probe::Grpc { .. } => {
            Err(io::Error::other(format!("status {status}, {} bytes, not SERVING", answer.len())))
        }
        Probe::Http { .. } if !(200..300).contains(&status) => {
            Err(io::Error::other(format!("status {status}")))
        }
        Probe::Http { .. } | Probe::Tcp => Ok(()),
    }
}

/// The status of a `GET`.
async fn http1(mut stream: Wire, path: &str, host: &str) -> io::Result<u16> {
    let ask = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: portcullis-check\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await?;
    stream.flush().await?;
    let (mut buffer, mut parser) = (BytesMut::new(), ResponseParser::new(Limits::default()));
    loop {
        match parser.parse(&mut buffer, Asked::by(&Method::GET)) {
            Parse::Done(head) if head.is_interim() => continue,
            Parse::Done(head) => return Ok(head.status()),
            Parse::Refused(flaw) => return Err(io::Error::other(flaw)),
            Parse::Incomplete => {}
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status and the body of an exchange over HTTP/2.
async fn http2(stream: Wire, ask: Request<()>, body: Bytes) -> io::Result<(u16, Vec<u8>)> {
    let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let talking = async {
        let mut sender = sender.ready().await?;
        let (answer, mut up) = sender.send_request(ask, body.is_empty())?;
        if !body.is_empty() {
            up.send_data(body, true)?;
        }
        let mut answer = answer.await?;
        let mut all = Vec::new();
        while let Some(part) = answer.body_mut().data().await.transpose()? {
            answer.body_mut().flow_control().release_capacity(part.len())?;
            all.extend_from_slice(&part);
            if all.len() > MOST {
                break;
            }
        }
        Ok((answer.status().as_u16(), all))
    };
    // Both in one task, so that the connection ends with the check.
    let (mut talking, mut connection) = (pin!(talking), pin!(connection));
    let mut is_over = false;
    poll_fn(|context| {
        if let Poll::Ready(told) = talking.as_mut().poll(context) {
            return Poll::Ready(told.map_err(|error: h2::Error| io::Error::other(error)));
        }
        if !is_over && let Poll::Ready(ended) = connection.as_mut().poll(context) {
            is_over = true;
            return match ended {
                Err(error) => Poll::Ready(Err(io::Error::other(error))),
                Ok(()) => talking.as_mut().poll(context).map_err(io::Error::other),
            };
        }
        Poll::Pending
    })
    .await
}

/// The same over HTTP/3.
async fn http3(quic: quinn::Connection, ask: Request<()>, body: Bytes) -> io::Result<(u16, Vec<u8>)> {
    let mut greeting = h3::client::builder();
    greeting.max_field_section_size(FIELD_SECTION).send_grease(false);
    let greeted = greeting.build(Transport::new(quic)).await;
    let (mut connection, mut sender) = greeted.map_err(io::Error::other)?;
    let talking = async {
        let mut stream = sender.send_request(ask).await?;
        if !body.is_empty() {
            stream.send_data(body).await?;
        }
        stream.finish().await?;
        let answer = stream.recv_response().await?;
        let mut all = Vec::new();
        while let Some(part) = stream.recv_data().await? {
            all.extend_from_slice(part.chunk());
            if all.len() > MOST {
                break;
            }
        }
        Ok((answer.status().as_u16(), all))
    };
    let (mut talking, mut is_over) = (pin!(talking), false);
    poll_fn(|context| {
        is_over = is_over || connection.poll_close(context).is_ready();
        talking.as_mut().poll(context).map_err(|error: StreamError| io::Error::other(error))
    })
    .await
}

/// `grpc.health.v1.HealthCheckRequest` with its prefix.
fn message(service: &str) -> io::Result<Bytes> {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 128);
    let length = length.ok_or_else(|| io::Error::other("the name of the service is too long"))?;
    let mut message = vec![0, 0, 0, 0];
    if length == 0 {
        message.push(0);
    } else {
        message.extend([length.saturating_add(2), 0x0a, length]);
        message.extend_from_slice(service.as_bytes());
    }
    Ok(message.into())
}
