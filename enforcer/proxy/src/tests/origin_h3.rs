//! An HTTP/3 origin with an SVID. What it does follows from the path, as with its elder sisters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base_ports::{Clock, SystemClock, Tasks};
use bytes::{Buf, Bytes, BytesMut};
use ca_identity::X509Svid;
use ca_identity::tls::{ClientAuth, Trust, server_config};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, ServerConfig};

use super::client::framed;
use super::harness::Gateway;
use super::origin::{checksum, pattern};

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A running origin. What it shows and whom it trusts is published from outside, at any time.
pub(super) struct H3Origin {
    pub(super) address: SocketAddr,
    pub(super) trust: Arc<Trust>,
    seen: Arc<Seen>,
    _tasks: Tasks,
}

#[derive(Debug, Default)]
struct Seen {
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// Requests that their caller gave up.
    given_up: AtomicUsize,
    /// Every request is rejected unprocessed.
    rejects: AtomicBool,
    /// Says GOAWAY after its next answer.
    leaves: AtomicBool,
    open: Mutex<Vec<Connection>>,
}

impl H3Origin {
    pub(super) fn start() -> Self {
        Self::at(Arc::new(SystemClock))
    }

    pub(super) fn at(clock: Arc<dyn Clock>) -> Self {
        let trust = Trust::new(clock);
        let tls = server_config(&trust, ClientAuth::Required, &[b"h3"]);
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (seen, tasks) = (Arc::<Seen>::default(), Tasks::new("h3 origin"));
        let here = Arc::clone(&seen);
        tasks.spawn("accept", async move {
            let served = Tasks::new("h3 origin");
            while let Some(incoming) = endpoint.accept().await {
                let here = Arc::clone(&here);
                served.spawn("connection", async move {
                    let Ok(connection) = incoming.await else { return };
                    here.connections.fetch_add(1, Ordering::SeqCst);
                    here.open.lock().push(connection.clone());
                    serve(connection, here).await;
                });
            }
        });
        Self { address, trust, seen, _tasks: tasks }
    }

    pub(super) fn shows(&self, gateway: &Gateway, svid: X509Svid) {
        self.trust.publish(gateway.ca.snapshot(Some(svid))).unwrap();
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(super) fn given_up(&self) -> usize {
        self.seen.given_up.load(Ordering::SeqCst)
    }

    /// From now on, or no more, every request is rejected unprocessed.
    pub(super) fn rejects(&self, rejects: bool) {
        self.seen.rejects.store(rejects, Ordering::SeqCst);
    }

    /// Says GOAWAY after its next answer.
    pub(super) fn leaves(&self) {
        self.seen.leaves.store(true, Ordering::SeqCst);
    }

    /// Why the connection that was opened first ended.
    pub(super) async fn parted(&self) -> quinn::ConnectionError {
        let first = self.seen.open.lock().first().cloned().unwrap();
        first.closed().await
    }

    /// Cuts every connection.
    pub(super) fn cut(&self) {
        self.seen.open.lock().drain(..).for_each(|open| open.close(0x102_u32.into(), b""));
    }
}

async fn serve(connection: Connection, seen: Arc<Seen>) {
    let tasks = Tasks::new("streams");
    let Ok(mut frames) = h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await
    else {
        return;
    };
    while let Ok(Some(resolver)) = frames.accept().await {
        let Ok((request, mut stream)) = resolver.resolve_request().await else { continue };
        if seen.rejects.load(Ordering::SeqCst) {
            stream.stop_stream(Code::H3_REQUEST_REJECTED);
            stream.stop_sending(Code::H3_REQUEST_REJECTED);
            continue;
        }
        seen.requests.fetch_add(1, Ordering::SeqCst);
        if seen.leaves.swap(false, Ordering::SeqCst) {
            frames.shutdown(1).await.unwrap();
        }
        let here = Arc::clone(&seen);
        tasks.spawn("stream", async move {
            if let Err(StreamError::RemoteTerminate { .. }) = answer(request, stream).await {
                here.given_up.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

async fn answer(request: Request<()>, mut stream: Stream) -> Result<(), StreamError> {
    let path = request.uri().path().to_owned();
    let number = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
    let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    let head = || {
        let head = Response::builder();
        if grpc { head.header("content-type", "application/grpc") } else { head }
    };
    let plain = || head().body(()).unwrap();
    match path.as_str() {
        // Answers before it has read anything.
        "/early" => {
            stream.send_response(Response::builder().status(413).body(()).unwrap()).await?;
            stream.send_data(Bytes::from_static(b"big")).await?;
            stream.finish().await?;
            stream.stop_sending(Code::H3_NO_ERROR);
            return Ok(());
        }
        "/silent" => {
            // The end of the request, or its reset.
            while stream.recv_data().await?.is_some() {}
            loop {
                tokio::time::sleep(Duration::from_millis(80)).await;
                // An interim answer finds out whether anybody still waits.
                stream.send_response(Response::builder().status(103).body(()).unwrap()).await?;
            }
        }
        "/drip" => {
            stream.send_response(plain()).await?;
            for _ in 0..number {
                stream.send_data(Bytes::from_static(b"drip")).await?;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            return stream.finish().await;
        }
        "/half" => {
            let head = Response::builder().header("content-length", 100).body(()).unwrap();
            stream.send_response(head).await?;
            stream.send_data(Bytes::from_static(b"half")).await?;
            return stream.finish().await;
        }
        "/reset" => {
            stream.send_response(plain()).await?;
            stream.send_data(Bytes::from_static(b"half")).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
            return Ok(());
        }
        // One answer message per request message, as they come.
        "/shop.Orders/Watch" => {
            stream.send_response(plain()).await?;
            while let Some(mut part) = stream.recv_data().await? {
                stream.send_data(part.copy_to_bytes(part.remaining())).await?;
            }
            stream.send_trailers(status("0")).await?;
            return stream.finish().await;
        }
        _ => {}
    }
    let mut body = BytesMut::new();
    while let Some(part) = stream.recv_data().await? {
        body.extend_from_slice(part.chunk());
    }
    let trailers = stream.recv_trailers().await?;
    let answer: Bytes = match path.as_str() {
        "/head" => {
            let mut text = format!("{} {}\r\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
            text.into()
        }
        "/big" => pattern(number).into(),
        "/count" => {
            format!("{} {} {}", body.len(), checksum(&body), trailers.map_or(0, |all| all.len())).into()
        }
        "/echo" => body.freeze(),
        _ if grpc && body.get(5..) == Some(b"only") => {
            let head = head().header("grpc-status", "5").header("grpc-message", "none");
            stream.send_response(head.body(()).unwrap()).await?;
            return stream.finish().await;
        }
        _ if grpc => framed(body.get(5..).unwrap_or_default()).into(),
        _ => Bytes::from_static(b"hello"),
    };
    // What comes before an answer is no answer.
    stream.send_response(Response::builder().status(103).body(()).unwrap()).await?;
    stream.send_response(plain()).await?;
    for part in answer.chunks(10_000) {
        stream.send_data(Bytes::copy_from_slice(part)).await?;
    }
    if grpc {
        stream.send_trailers(status("0")).await?;
    }
    stream.finish().await
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers
}
