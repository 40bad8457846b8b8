//! Calls at a fixed rate over HTTP/1.1, HTTP/2 and HTTP/3 by callers that keep their connections and obey when they are
//! asked to go. A call that was certainly not looked at is made again, as every client does; whatever else goes wrong is
//! a call that was lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tests::{Result, h3 as quic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::policies::load::connector_of;

/// Between two calls over one protocol.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of the calls over one protocol.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) answered: usize,
    pub(crate) connections: usize,
    /// Made again, because nobody had looked at them.
    pub(crate) again: usize,
    pub(crate) lost: Vec<String>,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    caller: std::thread::JoinHandle<Result<BTreeMap<&'static str, Seen>>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, tls: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (until, h1, h2) = (Arc::clone(&stop), connector_of(tls, b"http/1.1")?, connector_of(tls, b"h2")?);
        let h3 = quic::client(tls, true)?;
        let caller = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
                let h1 = Arc::new(H1 { tls: h1, address, idle: Mutex::default(), seen: Mutex::default() });
                let h2 = Arc::new(H2 { tls: h2, address, sender: Mutex::default(), seen: Mutex::default() });
                let h3 = Arc::new(H3 {
                    config: h3,
                    endpoint,
                    address,
                    sender: Mutex::default(),
                    seen: Mutex::default(),
                });
                let mut calls = tokio::task::JoinSet::new();
                let mut pace = tokio::time::interval(PACE);
                while !until.load(Ordering::SeqCst) {
                    pace.tick().await;
                    let (one, two, three) = (Arc::clone(&h1), Arc::clone(&h2), Arc::clone(&h3));
                    calls.spawn(async move { count(&one.seen, one.call()).await });
                    calls.spawn(async move { count(&two.seen, two.call()).await });
                    calls.spawn(async move { count(&three.seen, three.call()).await });
                    while calls.try_join_next().is_some() {}
                }
                while calls.join_next().await.is_some() {}
                Ok(BTreeMap::from([
                    ("h1", h1.seen.lock().await.clone()),
                    ("h2", h2.seen.lock().await.clone()),
                    ("h3", h3.seen.lock().await.clone()),
                ]))
            })
        });
        Ok(Self { stop, caller })
    }

    pub(crate) fn stop(self) -> Result<BTreeMap<&'static str, Seen>> {
        self.stop.store(true, Ordering::SeqCst);
        self.caller.join().map_err(|_| "the caller panicked")?
    }
}

async fn count(seen: &Mutex<Seen>, call: impl Future<Output = Result<u16>>) {
    let ended = tokio::time::timeout(PATIENCE, call).await;
    let mut seen = seen.lock().await;
    match ended {
        Ok(Ok(200)) => seen.answered += 1,
        Ok(Ok(status)) => seen.lost.push(format!("status {status}")),
        Ok(Err(error)) => seen.lost.push(format!("{error:?}")),
        Err(elapsed) => seen.lost.push(elapsed.to_string()),
    }
}

struct H1 {
    tls: TlsConnector,
    address: SocketAddr,
    idle: Mutex<Vec<TlsStream<TcpStream>>>,
    seen: Mutex<Seen>,
}

impl H1 {
    async fn call(&self) -> Result<u16> {
        let kept = self.idle.lock().await.pop();
        if let Some(mut stream) = kept {
            match self.ask(&mut stream).await? {
                Some((status, keeps)) => {
                    if keeps {
                        self.idle.lock().await.push(stream);
                    }
                    return Ok(status);
                }
                // Closed before the call arrived.
                None => self.seen.lock().await.again += 1,
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.tls.connect("localhost".try_into()?, stream).await?;
        self.seen.lock().await.connections += 1;
        let (status, keeps) = self.ask(&mut stream).await?.ok_or("closed without an answer")?;
        if keeps {
            self.idle.lock().await.push(stream);
        }
        Ok(status)
    }

    /// Status, and whether the connection is kept; none when there is not a byte of an answer.
    async fn ask(&self, stream: &mut TlsStream<TcpStream>) -> Result<Option<(u16, bool)>> {
        let head = format!("GET /flip HTTP/1.1\r\nhost: localhost:{}\r\n\r\n", self.address.port());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return Ok(None);
        }
        let mut answer = Vec::new();
        let (head, body) = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break (String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase(), answer.len() - at - 4);
            }
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) if answer.is_empty() => return Ok(None),
                Ok(0) => return Err("an answer was cut".into()),
                read => drop(read?),
            }
        };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
        let mut rest = vec![0; length.parse::<usize>()?.saturating_sub(body)];
        stream.read_exact(&mut rest).await?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok(Some((status, !head.contains("\r\nconnection: close"))))
    }
}

struct H2 {
    tls: TlsConnector,
    address: SocketAddr,
    sender: Mutex<Option<h2::client::SendRequest<Bytes>>>,
    seen: Mutex<Seen>,
}

impl H2 {
    async fn call(&self) -> Result<u16> {
        for _ in 0..5 {
            let sender = self.sender().await?;
            let Ok(mut sender) = sender.ready().await else {
                self.forget().await;
                continue;
            };
            let request =
                http::Request::get(format!("https://localhost:{}/flip", self.address.port())).body(())?;
            let Ok((answer, _)) = sender.send_request(request, true) else {
                self.forget().await;
                continue;
            };
            let answer = match answer.await {
                Ok(answer) => answer,
                // The other side says that it has not looked at it (RFC 9113 8.7).
                Err(error)
                    if error.reason() == Some(h2::Reason::REFUSED_STREAM)
                        || (error.is_go_away()
                            && error.is_remote()
                            && error.reason() == Some(h2::Reason::NO_ERROR)) =>
                {
                    self.forget().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let status = answer.status().as_u16();
            let mut body = answer.into_body();
            while let Some(part) = body.data().await {
                let part = part?;
                body.flow_control().release_capacity(part.len())?;
            }
            return Ok(status);
        }
        Err("refused again and again".into())
    }

    async fn sender(&self) -> Result<h2::client::SendRequest<Bytes>> {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = &*sender {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect("localhost".try_into()?, stream).await?;
        let (made, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        self.seen.lock().await.connections += 1;
        *sender = Some(made.clone());
        Ok(made)
    }

    async fn forget(&self) {
        *self.sender.lock().await = None;
        self.seen.lock().await.again += 1;
    }
}

type Sender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

struct H3 {
    config: quinn::ClientConfig,
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    sender: Mutex<Option<(usize, Sender)>>,
    seen: Mutex<Seen>,
}

impl H3 {
    async fn call(&self) -> Result<u16> {
        for _ in 0..5 {
            let (number, mut sender) = self.sender().await?;
            let url = format!("https://localhost:{}/flip", self.address.port());
            let Ok(mut stream) = sender.send_request(http::Request::get(url).body(())?).await else {
                self.forget(number).await;
                continue;
            };
            let answer = match stream.finish().await {
                Ok(()) => stream.recv_response().await,
                Err(error) => Err(error),
            };
            let answer = match answer {
                Ok(answer) => answer,
                // RFC 9114 4.1.1: it has not been looked at.
                Err(error) if format!("{error:?}").contains("H3_REQUEST_REJECTED") => {
                    self.forget(number).await;
                    continue;
                }
                Err(error) => return Err(format!("{error:?}").into()),
            };
            let mut body = 0;
            while let Some(mut part) = stream.recv_data().await? {
                body += part.remaining();
                part.advance(part.remaining());
            }
            return if body > 0 { Ok(answer.status().as_u16()) } else { Err("no body".into()) };
        }
        Err("refused again and again".into())
    }

    async fn sender(&self) -> Result<(usize, Sender)> {
        let mut sender = self.sender.lock().await;
        if let Some(sender) = &*sender {
            return Ok(sender.clone());
        }
        let quic = self.endpoint.connect_with(self.config.clone(), self.address, "localhost")?.await?;
        let (mut connection, made) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
        tokio::spawn(async move { std::future::poll_fn(|context| connection.poll_close(context)).await });
        let mut seen = self.seen.lock().await;
        seen.connections += 1;
        *sender = Some((seen.connections, made.clone()));
        Ok((seen.connections, made))
    }

    async fn forget(&self, number: usize) {
        let mut sender = self.sender.lock().await;
        if sender.as_ref().is_some_and(|(known, _)| *known == number) {
            *sender = None;
        }
        self.seen.lock().await.again += 1;
    }
}
