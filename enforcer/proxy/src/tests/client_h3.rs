//! A client of HTTP/3 that knows nothing of the crate under test: quinn and `h3`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use bytes::{Buf, Bytes};
use ca_identity::X509Svid;
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, StreamError};
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use tokio::time::timeout;

use super::client::{Answer, list};
use super::harness::Gateway;

pub(super) const SOON: Duration = Duration::from_secs(1);
pub(super) const LONG: Duration = Duration::from_secs(5);

/// A caller with an HTTP/3 connection.
pub(super) struct H3 {
    pub(super) sender: SendRequest<h3_quinn::OpenStreams, Bytes>,
    pub(super) quic: Connection,
    pub(super) _endpoint: Endpoint,
    pub(super) _tasks: Tasks,
}

pub(super) type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap()
}

impl Gateway {
    pub(super) fn quic_address(&self) -> SocketAddr {
        self.proxy.quic_addresses().first().unwrap().1
    }

    pub(super) fn quic_tls(&self, svid: Option<X509Svid>) -> ClientConfig {
        let tls = self.client_tls(svid, &[b"h3"]);
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    pub(super) async fn h3_at(&self, path: &str, address: SocketAddr) -> H3 {
        self.h3_to(path, address, "gateway.test").await
    }

    /// The status of a call for `host` over HTTP/3 whose handshake asks for `sni`.
    pub(super) async fn h3_status(&self, sni: &str, host: &str) -> u16 {
        let request = Request::get(format!("https://{host}/hello")).body(()).unwrap();
        self.h3_to("/web", self.quic_address(), sni).await.ask(request, &[]).await.unwrap().status
    }

    async fn h3_to(&self, path: &str, address: SocketAddr, name: &str) -> H3 {
        let endpoint = endpoint();
        let config = self.quic_tls(Some(self.ca.svid(path)));
        let quic = endpoint.connect_with(config, address, name).unwrap().await.unwrap();
        let (mut connection, sender) =
            h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let tasks = Tasks::new("client");
        tasks.spawn("h3", async move {
            std::future::poll_fn(|context| connection.poll_close(context)).await;
        });
        H3 { sender, quic, _endpoint: endpoint, _tasks: tasks }
    }

    /// An HTTP/3 connection of the workload at that path.
    pub(super) async fn h3(&self, path: &str) -> H3 {
        self.h3_at(path, self.quic_address()).await
    }
}

impl H3 {
    pub(super) async fn start(&mut self, request: Request<()>) -> Stream {
        self.sender.send_request(request).await.unwrap()
    }

    pub(super) async fn ask(&mut self, request: Request<()>, body: &[u8]) -> Result<Answer, StreamError> {
        let mut stream = self.start(request).await;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body)).await?;
        }
        stream.finish().await?;
        read(&mut stream).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path), &[]).await.unwrap()
    }
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(format!("https://site.test{path}")).body(()).unwrap()
}

pub(super) fn post(path: &str) -> http::request::Builder {
    Request::post(format!("https://site.test{path}"))
}

pub(super) async fn read(stream: &mut Stream) -> Result<Answer, StreamError> {
    let head = stream.recv_response().await?;
    let mut body = Vec::new();
    while let Some(mut part) = stream.recv_data().await? {
        body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    let trailers = stream.recv_trailers().await?.unwrap_or_default();
    let fields = list(head.headers());
    Ok(Answer { status: head.status().as_u16(), fields, body, trailers: list(&trailers) })
}

pub(super) fn code(error: &StreamError) -> Option<Code> {
    match error {
        StreamError::RemoteTerminate { code, .. } => Some(*code),
        _ => None,
    }
}

/// How a body is cut off, which happens within a second.
pub(super) async fn cut(stream: &mut Stream) -> StreamError {
    let ended = timeout(SOON, async {
        loop {
            match stream.recv_data().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("looks complete"),
                Err(error) => return error,
            }
        }
    });
    ended.await.expect("within a second")
}
