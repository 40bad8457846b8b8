//! Clients that know nothing of the crate under test: raw HTTP/1 over TLS, and the `h2` client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::Gateway;

/// The rest of what comes, which ends within that time, in whatever way.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin), within: Duration) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(within, stream.read_to_end(&mut rest)).await.expect("ended in time").ok();
    rest
}

/// A caller with an HTTP/1 connection.
pub(super) struct H1 {
    pub(super) tls: TlsStream<TcpStream>,
    buffer: BytesMut,
}

/// An answer as it stood on the wire.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(super) async fn connect(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    connect_to("gateway.test", tcp, config).await
}

/// The same for a caller that asks for that name.
pub(super) async fn connect_to(
    name: &'static str,
    tcp: TcpStream,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(name.try_into().unwrap(), tcp).await
}

impl Gateway {
    /// An HTTP/1 connection of the workload at that path.
    pub(super) async fn h1(&self, path: &str) -> H1 {
        let config = self.client_tls(Some(self.ca.svid(path)), &[b"http/1.1"]);
        H1 { tls: connect(self.address, config).await.unwrap(), buffer: BytesMut::new() }
    }

    /// An HTTP/2 connection of the workload at that path.
    pub(super) async fn h2(&self, path: &str) -> H2 {
        let config = self.client_tls(Some(self.ca.svid(path)), &[b"h2"]);
        H2::over(connect(self.address, config).await.unwrap()).await
    }
}

impl H1 {
    pub(super) fn over(tls: TlsStream<TcpStream>) -> Self {
        Self { tls, buffer: BytesMut::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tls.write_all(bytes.as_ref()).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// A whole exchange.
    pub(super) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer().await.expect("an answer")
    }

    /// GET on route `site`.
    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: site.test\r\n\r\n")).await
    }

    /// The same on a connection that may be closed already.
    pub(super) async fn ask_once(&mut self, path: &str) -> std::io::Result<Answer> {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: site.test\r\n\r\n");
        self.tls.write_all(ask.as_bytes()).await?;
        self.answer().await
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        self.tls.read_buf(&mut self.buffer).await
    }

    async fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8(line.to_vec()).unwrap());
            }
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fields(&mut self) -> std::io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else {
                assert!(line.is_empty(), "{line}");
                return Ok(fields);
            };
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    async fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).to_vec())
    }

    /// The next answer, read to its end.
    pub(super) async fn answer(&mut self) -> std::io::Result<Answer> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = self.fields().await?;
        let mut answer = Answer { status, fields, body: Vec::new(), trailers: Vec::new() };
        if status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
                if size == 0 {
                    answer.trailers = self.fields().await?;
                    return Ok(answer);
                }
                let chunk = self.exactly(size + 2).await?;
                answer.body.extend_from_slice(&chunk[..size]);
            }
        }
        match answer.field("content-length") {
            Some(length) => answer.body = self.exactly(length.parse().unwrap()).await?,
            None => {
                while self.more().await? > 0 {}
                answer.body = self.buffer.split().to_vec();
            }
        }
        Ok(answer)
    }

    /// Whether the gateway has closed, cleanly.
    pub(super) async fn is_closed(&mut self) -> bool {
        assert!(self.buffer.is_empty(), "{:?}", self.buffer);
        self.more().await.unwrap() == 0
    }
}

/// A caller with an HTTP/2 connection.
pub(super) struct H2 {
    pub(super) sender: SendRequest<Bytes>,
    _tasks: Tasks,
}

/// A request that was sent.
pub(super) struct Asked {
    pub(super) response: h2::client::ResponseFuture,
    pub(super) body: SendStream<Bytes>,
}

impl H2 {
    pub(super) async fn over(tls: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = h2::client::handshake(tls).await.unwrap();
        let tasks = Tasks::new("client");
        tasks.spawn("h2", async move { drop(connection.await) });
        Self { sender, _tasks: tasks }
    }

    /// The same with so large windows.
    pub(super) async fn wide(tls: TlsStream<TcpStream>, stream: u32, connection: u32) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(stream).initial_connection_window_size(connection);
        let (sender, connection) = builder.handshake(tls).await.unwrap();
        let tasks = Tasks::new("client");
        tasks.spawn("h2", async move { drop(connection.await) });
        Self { sender, _tasks: tasks }
    }

    pub(super) async fn start(&mut self, request: Request<()>, over: bool) -> Asked {
        self.sender = self.sender.clone().ready().await.unwrap();
        let (response, body) = self.sender.send_request(request, over).unwrap();
        Asked { response, body }
    }

    pub(super) async fn ask(&mut self, request: Request<()>, body: &[u8]) -> Answer {
        let mut asked = self.start(request, body.is_empty()).await;
        if !body.is_empty() {
            send_all(&mut asked.body, Bytes::copy_from_slice(body), true).await;
        }
        read(asked.response.await.unwrap()).await.unwrap()
    }

    /// GET on that host.
    pub(super) async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.ask(Request::get(format!("https://{host}{path}")).body(()).unwrap(), &[]).await
    }

    /// A gRPC call with one message.
    pub(super) async fn call(&mut self, path: &str, message: &[u8]) -> Answer {
        self.ask(grpc(path), &framed(message)).await
    }
}

pub(super) fn grpc(path: &str) -> Request<()> {
    Request::post(format!("https://grpc.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A gRPC message with its prefix.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// Sends within the windows of the receiver.
pub(super) async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes, over: bool) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(64 * 1024));
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        let part = bytes.split_to(room.min(bytes.len()));
        let last = over && bytes.is_empty();
        stream.send_data(part, last).unwrap();
    }
}

/// Reads an answer to its end.
pub(super) async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await.transpose()? {
        body.extend_from_slice(&part);
        stream.flow_control().release_capacity(part.len()).unwrap();
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Answer {
        status: parts.status.as_u16(),
        fields: list(&parts.headers),
        body,
        trailers: list(&trailers),
    })
}

pub(super) fn list(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}
