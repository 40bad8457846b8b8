//! One check of one endpoint, on a connection of its own.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use base_ports::Net;
use bytes::{Bytes, BytesMut};
use enforcer_codec::h1::{Parse, ResponseParser};
use enforcer_codec::{Asked, Limits};
use enforcer_traffic::fleet::Probe;
use enforcer_traffic::{EndpointSpec, UpstreamProtocol};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pool::{Originator, Wire};

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
    let stream = net.dial(&endpoint.addr).await?;
    let (stream, scheme) = match originator {
        Some(originator) => (originator.secure(stream).await?, "https"),
        None => (Wire::Plain(stream), "http"),
    };
    let authority = endpoint.addr.tcp().map_or_else(|| "localhost".to_owned(), |address| address.to_string());
    match (probe, endpoint.protocol) {
        (Probe::Tcp, _) => Ok(()),
        (Probe::Http { path, host }, protocol) => {
            let host = host.as_deref().unwrap_or(&authority);
            let status = match protocol {
                UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => http1(stream, path, host).await?,
                UpstreamProtocol::Http2 => {
                    let ask = Request::get(format!("{scheme}://{host}{path}"))
                        .body(())
                        .map_err(io::Error::other)?;
                    http2(stream, ask, Bytes::new()).await?.0
                }
            };
            if (200..300).contains(&status) {
                Ok(())
            } else {
                Err(io::Error::other(format!("status {status}")))
            }
        }
        (Probe::Grpc { service }, _) => {
            let ask = Request::builder()
                .method(Method::POST)
                .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .map_err(io::Error::other)?;
            match http2(stream, ask, message(service)?).await? {
                (200, body) if body == SERVING => Ok(()),
                (status, body) => {
                    Err(io::Error::other(format!("status {status}, {} bytes, not SERVING", body.len())))
                }
            }
        }
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
