//! HTTP/2: all calls share a connection until it goes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tests::Result;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Answer, Seen, Trouble, cut, lost};

pub(super) struct H2 {
    tls: TlsConnector,
    address: SocketAddr,
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

impl H2 {
    pub(super) fn new(address: SocketAddr, tls: &Path) -> Result<Self> {
        let tls = TlsConnector::from(Arc::new(tests::wire::tls(tls, true, &[b"h2"])?));
        Ok(Self { tls, address, sender: Mutex::default() })
    }

    pub(super) async fn ask(&self, path: &str, seen: &Mutex<Seen>) -> Answer {
        let sender = self.sender(seen).await?;
        let Ok(mut sender) = sender.ready().await else { return self.again().await };
        let url = format!("https://localhost:{}{path}", self.address.port());
        let request = http::Request::get(url).body(()).map_err(lost)?;
        let Ok((answer, _)) = sender.send_request(request, true) else { return self.again().await };
        let answer = match answer.await {
            Ok(answer) => answer,
            // The other side says that it has not looked at it (RFC 9113 8.7).
            Err(error)
                if error.reason() == Some(h2::Reason::REFUSED_STREAM)
                    || (error.is_go_away()
                        && error.is_remote()
                        && error.reason() == Some(h2::Reason::NO_ERROR)) =>
            {
                return self.again().await;
            }
            Err(error) => return Err(cut(error)),
        };
        let status = answer.status().as_u16();
        let (mut stream, mut body) = (answer.into_body(), Vec::new());
        while let Some(part) = stream.data().await {
            let part = part.map_err(cut)?;
            body.extend_from_slice(&part);
            stream.flow_control().release_capacity(part.len()).map_err(lost)?;
        }
        Ok((status, body))
    }

    async fn again(&self) -> Answer {
        self.forget().await;
        Err(Trouble::Again)
    }

    pub(super) async fn forget(&self) {
        *self.sender.lock().await = None;
    }

    async fn sender(&self, seen: &Mutex<Seen>) -> std::result::Result<SendRequest<Bytes>, Trouble> {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = &*sender {
            return Ok(sender.clone());
        }
        let stream = dial(&self.tls, self.address).await?;
        let (made, connection) = h2::client::handshake(stream).await.map_err(cut)?;
        tokio::spawn(connection);
        seen.lock().await.connections += 1;
        *sender = Some(made.clone());
        Ok(made)
    }
}

/// A connection that is refused is a call that is lost; one that breaks off in its handshake may have met a process that was
/// killed.
pub(super) async fn dial(
    tls: &TlsConnector,
    address: SocketAddr,
) -> std::result::Result<TlsStream<TcpStream>, Trouble> {
    let stream = TcpStream::connect(address).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    tls.connect("localhost".try_into().map_err(lost)?, stream).await.map_err(cut)
}
