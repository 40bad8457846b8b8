//! HTTP/1.1: a connection carries one call at a time and is kept when the answer says so.

use std::net::SocketAddr;
use std::path::Path;

use tests::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Answer, Seen, Trouble, cut, lost};

pub(super) struct H1 {
    tls: TlsConnector,
    address: SocketAddr,
    idle: Mutex<Vec<TlsStream<TcpStream>>>,
}

impl H1 {
    pub(super) fn new(address: SocketAddr, tls: &Path) -> Result<Self> {
        let tls = TlsConnector::from(std::sync::Arc::new(tests::wire::tls(tls, true, &[b"http/1.1"])?));
        Ok(Self { tls, address, idle: Mutex::default() })
    }

    pub(super) async fn ask(&self, path: &str, seen: &Mutex<Seen>) -> Answer {
        let kept = self.idle.lock().await.pop();
        if let Some(stream) = kept {
            match self.ask_on(stream, path).await? {
                Some(answer) => return Ok(answer),
                // Closed before the call arrived.
                None => seen.lock().await.again += 1,
            }
        }
        let stream = super::h2::dial(&self.tls, self.address).await?;
        seen.lock().await.connections += 1;
        self.ask_on(stream, path).await?.ok_or_else(|| Trouble::Cut("closed without an answer".to_owned()))
    }

    /// None when there is not a byte of an answer.
    async fn ask_on(
        &self,
        mut stream: TlsStream<TcpStream>,
        path: &str,
    ) -> std::result::Result<Option<(u16, Vec<u8>)>, Trouble> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost:{}\r\n\r\n", self.address.port());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return Ok(None);
        }
        let mut answer = Vec::new();
        let (head, mut body) = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
                break (head, answer.split_off(at + 4));
            }
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) if answer.is_empty() => return Ok(None),
                Ok(0) => return Err(cut("an answer was cut")),
                read => drop(read.map_err(cut)?),
            }
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or_else(|| lost(&head))?.parse().map_err(lost)?;
        let mut rest = vec![0; length.saturating_sub(body.len())];
        stream.read_exact(&mut rest).await.map_err(cut)?;
        body.extend_from_slice(&rest);
        let status = head.split(' ').nth(1).ok_or_else(|| lost(&head))?.parse().map_err(lost)?;
        if !head.contains("\r\nconnection: close") {
            self.idle.lock().await.push(stream);
        }
        Ok(Some((status, body)))
    }
}
