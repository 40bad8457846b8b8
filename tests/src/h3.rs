//! A caller over HTTP/3 with the identity that `svid write` left in a directory; curl has none.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Buf;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;

use crate::gateway::Builder;
use crate::{Result, wire};

impl Builder {
    /// HTTP/3 on the port of listener `public`.
    pub fn quic(mut self) -> Self {
        self.quic = true;
        self
    }
}

/// Settings of a caller; without an identity it shows no certificate.
pub fn client(tls: &Path, shows: bool) -> Result<quinn::ClientConfig> {
    let config = wire::tls(tls, shows, &[b"h3"])?;
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)))
}

/// GET of a path at `localhost`; status and body. Without an identity the caller shows no certificate.
pub fn get(address: SocketAddr, tls: &Path, shows: bool, path: &str) -> Result<(u16, String)> {
    let config = client(tls, shows)?;
    let url = format!("https://localhost:{}{path}", address.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let quic = endpoint.connect_with(config, address, "localhost")?.await?;
        let (mut connection, mut sender) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
        let driven = async {
            std::future::poll_fn(|context| connection.poll_close(context)).await;
            std::future::pending().await
        };
        let asked = async {
            let mut stream = sender.send_request(Request::get(url).body(())?).await?;
            stream.finish().await?;
            let status = stream.recv_response().await?.status().as_u16();
            let mut body = Vec::new();
            while let Some(mut part) = stream.recv_data().await? {
                body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
            }
            Ok((status, String::from_utf8(body)?))
        };
        tokio::select! { answer = asked => answer, () = driven => Err("not driven".into()) }
    })
}
