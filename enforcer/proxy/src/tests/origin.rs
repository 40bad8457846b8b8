//! Small origins: raw HTTP/1, and HTTP/2 with gRPC. What they do follows from the path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use base_ports::Tasks;
use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{framed, send_all};
use crate::forward::accept_of;

/// A running origin.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    pub(super) connections: Arc<AtomicUsize>,
    mood: Arc<AtomicU16>,
    at_once: Arc<AtOnce>,
    _tasks: Tasks,
}

impl Origin {
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answers of an HTTP/1 origin that were taken whole.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests that an HTTP/1 origin had at the same time, at most.
    pub(super) fn most_at_once(&self) -> usize {
        self.at_once.most.load(Ordering::SeqCst)
    }

    /// Every request is answered with that status from now on, as HTTP or as gRPC; 0 = as its path says, [`HANG_UP`] =
    /// its connection is cut.
    pub(super) fn answer_all(&self, status: u16) {
        self.mood.store(status, Ordering::SeqCst);
    }

    /// An HTTP/1 origin.
    pub(super) async fn h1() -> Self {
        let (answered, mood) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU16>::default());
        let at_once = Arc::<AtOnce>::default();
        let (counted, felt, here) = (Arc::clone(&answered), Arc::clone(&mood), Arc::clone(&at_once));
        let serve = move |socket, tasks: &Tasks, requests| {
            tasks.spawn(
                "h1",
                h1(socket, requests, Arc::clone(&counted), (Arc::clone(&felt), Arc::clone(&here))),
            )
        };
        Self { answered, mood, at_once, ..Self::start(serve).await }
    }

    /// An HTTP/2 origin.
    pub(super) async fn h2() -> Self {
        let mood = Arc::<AtomicU16>::default();
        let felt = Arc::clone(&mood);
        let serve =
            move |socket, tasks: &Tasks, requests| tasks.spawn("h2", h2(socket, requests, Arc::clone(&felt)));
        Self { mood, ..Self::start(serve).await }
    }

    async fn start<T>(serve: impl Fn(TcpStream, &Tasks, Arc<AtomicUsize>) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        let (tasks, served) = (Tasks::new("origin"), Tasks::new("origin"));
        tasks.spawn("accept", async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                serve(socket, &served, Arc::clone(&counted));
            }
        });
        Self {
            address,
            requests,
            answered: Arc::default(),
            connections,
            mood: Arc::default(),
            at_once: Arc::default(),
            _tasks: tasks,
        }
    }
}

/// A status that is none: gRPC 14 in trailers after a head that says nothing of it.
pub(super) const LATE_STATUS: u16 = 2;

/// Requests under way.
#[derive(Debug, Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn enter(&self) -> Here<'_> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Here(self)
    }
}

struct Here<'a>(&'a AtOnce);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A status that is none: the connection is cut.
pub(super) const HANG_UP: u16 = 1;

async fn h1(
    mut socket: TcpStream,
    requests: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    (mood, at_once): (Arc<AtomicU16>, Arc<AtOnce>),
) {
    let mut buffer = BytesMut::new();
    while serve_h1(&mut socket, &mut buffer, &requests, (&mood, &at_once)).await.is_some() {
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// One exchange; none when the connection is to end.
async fn serve_h1(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
    requests: &AtomicUsize,
    (mood, at_once): (&AtomicU16, &AtOnce),
) -> Option<()> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    requests.fetch_add(1, Ordering::SeqCst);
    let _here = at_once.enter();
    let head = String::from_utf8(buffer.split_to(end).to_vec()).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let number = || query.parse::<usize>().unwrap_or(0);
    if path == "/early" {
        socket
            .write_all(b"HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
            .await
            .ok()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        return None;
    }
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let mut body = Vec::new();
    if field("transfer-encoding").is_some() {
        body = chunks(socket, buffer).await?;
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().unwrap();
        while body.len() < length {
            if buffer.is_empty() && socket.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
            body.extend_from_slice(&buffer.split_to(buffer.len().min(length - body.len())));
        }
    }
    match mood.load(Ordering::SeqCst) {
        0 => {}
        HANG_UP => return None,
        status => {
            let answer = format!("HTTP/1.1 {status} Sick\r\nretry-after: 0\r\ncontent-length: 4\r\n\r\nsick");
            return socket.write_all(answer.as_bytes()).await.ok();
        }
    }
    let plain = |body: &[u8]| {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    let answer = match path {
        "/head" => plain(head.as_bytes()),
        "/echo" => plain(&body),
        "/count" => plain(format!("{} {}", body.len(), checksum(&body)).as_bytes()),
        "/big" => plain(&pattern(number())),
        "/chunked" => {
            let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for part in pattern(number()).chunks(1000) {
                answer.extend(format!("{:x}\r\n", part.len()).into_bytes());
                answer.extend_from_slice(part);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\nx-sum: 1\r\n\r\n");
            answer
        }
        "/close" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.ok()?;
            return None;
        }
        // Switches, with an answer to the key of RFC 6455 or a wrong one, and sends back what it gets.
        "/socket" => {
            assert!(buffer.is_empty(), "bytes before the switch");
            let key = field("sec-websocket-key").unwrap_or_default();
            let accept = if query == "wrong" { "x".to_owned() } else { accept_of(key.as_bytes()) };
            let head = format!(
                "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await.ok()?;
            let (mut read, mut write) = socket.split();
            tokio::io::copy(&mut read, &mut write).await.ok()?;
            write.write_all(b"bye").await.ok()?;
            return None;
        }
        "/silent" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return None;
        }
        "/drop" => return None,
        "/half" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.ok()?;
            return None;
        }
        "/bad" => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx")
                .await
                .ok()?;
            return None;
        }
        // Answers, and goes away without a word soon after.
        "/stale" => {
            socket.write_all(&plain(b"once")).await.ok()?;
            return None;
        }
        // Answers; the next request on this connection is swallowed.
        "/trap" => {
            socket.write_all(&plain(b"trap")).await.ok()?;
            socket.read_buf(buffer).await.ok()?;
            return None;
        }
        "/drip" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            for _ in 0..query.parse().unwrap_or(3) {
                socket.write_all(b"4\r\ndrip\r\n").await.ok()?;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            b"0\r\n\r\n".to_vec()
        }
        "/reserved" => {
            b"HTTP/1.1 200 OK\r\nportcullis-peer: me\r\nx-own: 1\r\ncontent-length: 0\r\n\r\n".to_vec()
        }
        _ => plain(b"hello"),
    };
    socket.write_all(&answer).await.ok()
}

async fn chunks(socket: &mut TcpStream, buffer: &mut BytesMut) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if socket.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        let size = usize::from_str_radix(str::from_utf8(&buffer[..end]).unwrap(), 16).unwrap();
        buffer.advance(end + 2);
        while buffer.len() < size + 2 {
            if socket.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        body.extend_from_slice(&buffer.split_to(size));
        buffer.advance(2);
        if size == 0 {
            return Some(body);
        }
    }
}

async fn h2(socket: TcpStream, requests: Arc<AtomicUsize>, mood: Arc<AtomicU16>) {
    let tasks = Tasks::new("streams");
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        requests.fetch_add(1, Ordering::SeqCst);
        let mood = mood.load(Ordering::SeqCst);
        tasks.spawn("stream", async move { drop(serve_h2(request, respond, mood).await) });
    }
}

async fn serve_h2(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    mood: u16,
) -> Result<(), h2::Error> {
    let (parts, mut stream) = request.into_parts();
    if mood == HANG_UP {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return Ok(());
    }
    if mood == LATE_STATUS {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut out = respond.send_response(head.body(()).unwrap(), false)?;
        return out.send_trailers(status("14"));
    }
    if mood > 0 {
        let mut head = Response::builder().header("content-type", "application/grpc");
        head = if mood < 100 { head.header("grpc-status", mood) } else { head.status(mood) };
        return respond.send_response(head.body(()).unwrap(), true).map(drop);
    }
    let path = parts.uri.path().to_owned();
    let number = parts.uri.query().and_then(|query| query.parse().ok()).unwrap_or(0);
    let grpc = parts.headers.get("content-type").is_some_and(|kind| kind == "application/grpc");
    let mut head = Response::builder();
    if grpc {
        head = head.header("content-type", "application/grpc");
        if let Some(timeout) = parts.headers.get("grpc-timeout") {
            head = head.header("x-timeout", timeout);
        }
    }
    if path == "/silent" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    if path == "/shop.Orders/Watch" {
        // One answer message per request message, as they come.
        let mut out = respond.send_response(head.body(()).unwrap(), false)?;
        while let Some(part) = stream.data().await.transpose()? {
            let length = part.len();
            send_all(&mut out, part, false).await;
            stream.flow_control().release_capacity(length)?;
        }
        return out.send_trailers(status("0"));
    }
    let mut body = BytesMut::new();
    while let Some(part) = stream.data().await.transpose()? {
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    let body = match path.as_str() {
        "/head" => {
            let mut text = String::new();
            for (name, value) in &parts.headers {
                text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
            text.into()
        }
        "/big" => pattern(number).into(),
        "/count" => format!("{} {}", body.len(), checksum(&body)).into(),
        "/echo" => body.freeze(),
        // SERVING.
        "/grpc.health.v1.Health/Check" => framed(&[8, 1]).into(),
        _ if grpc => framed(body.get(5..).unwrap_or_default()).into(),
        _ => Bytes::from_static(b"hello"),
    };
    // A message says what goes wrong.
    let wish = body.get(5..).unwrap_or_default().to_vec();
    if grpc && wish == b"html" {
        let head = Response::builder().status(503).header("content-type", "text/html");
        let mut out = respond.send_response(head.body(()).unwrap(), false)?;
        return out.send_data(Bytes::from_static(b"<p>down</p>"), true);
    }
    if grpc && wish == b"only" {
        let head = head.header("grpc-status", "5").header("grpc-message", "none");
        return respond.send_response(head.body(()).unwrap(), true).map(drop);
    }
    let mut out = respond.send_response(head.body(()).unwrap(), false)?;
    if grpc && wish == b"reset" {
        out.send_data(body, false)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        out.send_reset(h2::Reason::INTERNAL_ERROR);
        return Ok(());
    }
    if grpc && wish == b"bare" {
        return out.send_data(body, true);
    }
    send_all(&mut out, body, !grpc).await;
    if grpc { out.send_trailers(status("0")) } else { Ok(()) }
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("x-origin", HeaderValue::from_static("yes"));
    trailers
}

/// Bytes that show a lost or repeated part.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at / 1021) % 251).unwrap()).collect()
}

pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}
