//! HTTP/3: all calls share a connection until it goes.

use std::net::SocketAddr;
use std::path::Path;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use tests::Result;
use tokio::sync::Mutex;

use super::{Answer, Seen, Trouble, cut, lost};

type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;

pub(super) struct H3 {
    config: quinn::ClientConfig,
    address: SocketAddr,
    endpoint: Mutex<Option<quinn::Endpoint>>,
    /// Numbered, so that only the one that failed is forgotten.
    sender: Mutex<Option<(usize, Sender)>>,
}

impl H3 {
    pub(super) fn new(address: SocketAddr, tls: &Path) -> Result<Self> {
        let config = tests::h3::client(tls, true)?;
        Ok(Self { config, address, endpoint: Mutex::default(), sender: Mutex::default() })
    }

    pub(super) async fn ask(&self, path: &str, seen: &Mutex<Seen>) -> Answer {
        let (number, mut sender) = self.sender(seen).await?;
        let url = format!("https://localhost:{}{path}", self.address.port());
        let request = http::Request::get(url).body(()).map_err(lost)?;
        let Ok(mut stream) = sender.send_request(request).await else { return self.again(number).await };
        let answer = match stream.finish().await {
            Ok(()) => stream.recv_response().await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            // RFC 9114 4.1.1: it has not been looked at.
            Err(error) if format!("{error:?}").contains("H3_REQUEST_REJECTED") => {
                return self.again(number).await;
            }
            Err(error) => return Err(cut(error)),
        };
        let mut body = Vec::new();
        while let Some(mut part) = stream.recv_data().await.map_err(cut)? {
            body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        }
        Ok((answer.status().as_u16(), body))
    }

    async fn again(&self, number: usize) -> Answer {
        let mut sender = self.sender.lock().await;
        if sender.as_ref().is_some_and(|(known, _)| *known == number) {
            *sender = None;
        }
        Err(Trouble::Again)
    }

    pub(super) async fn forget_all(&self) {
        *self.sender.lock().await = None;
    }

    async fn sender(&self, seen: &Mutex<Seen>) -> std::result::Result<(usize, Sender), Trouble> {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = &*sender {
            return Ok(sender.clone());
        }
        let mut endpoint = self.endpoint.lock().await;
        let endpoint = match &mut *endpoint {
            Some(endpoint) => endpoint,
            none => none.insert(quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).map_err(lost)?),
        };
        let quic = endpoint.connect_with(self.config.clone(), self.address, "localhost").map_err(lost)?;
        let quic = quic.await.map_err(cut)?;
        let made = h3::client::new(h3_quinn::Connection::new(quic)).await;
        let (mut connection, made) = made.map_err(cut)?;
        tokio::spawn(async move { std::future::poll_fn(|context| connection.poll_close(context)).await });
        let mut seen = seen.lock().await;
        seen.connections += 1;
        *sender = Some((seen.connections, made.clone()));
        Ok((seen.connections, made))
    }
}
