//! A caller whose bytes are the test's own: a TLS connection with the identity that `svid write` left in a directory,
//! and a reader of HTTP/1 answers that takes nothing which a caller could read in two ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Result;

/// So long a step of a caller waits for the gateway.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Who calls, and where.
#[derive(Debug, Clone)]
pub struct Caller {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

/// How TLS is spoken with an identity, or without one.
pub fn tls(tls: &Path, shows: bool, alpn: &[&[u8]]) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(tls.join("bundle.pem"))? {
        roots.add(root?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = if shows {
        let chain =
            CertificateDer::pem_file_iter(tls.join("svid.pem"))?.collect::<std::result::Result<_, _>>()?;
        config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(tls.join("svid.key"))?)?
    } else {
        config.with_no_client_auth()
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

impl Caller {
    /// One with the identity of a directory, who speaks `alpn`.
    pub fn new(address: SocketAddr, tls: &Path, alpn: &[u8]) -> Result<Self> {
        Ok(Self { address, config: Arc::new(self::tls(tls, true, &[alpn])?) })
    }

    /// One without an identity.
    pub fn stranger(address: SocketAddr, tls: &Path, alpn: &[u8]) -> Result<Self> {
        Ok(Self { address, config: Arc::new(self::tls(tls, false, &[alpn])?) })
    }

    /// A connection, its handshake done.
    pub fn dial(&self) -> Result<Wire> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut tls = ClientConnection::new(Arc::clone(&self.config), "localhost".try_into()?)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Wire { stream: StreamOwned::new(tls, stream), read: Vec::new() })
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    read: Vec<u8>,
}

/// An HTTP/1 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Status line and fields, names in lower case.
    pub head: String,
    pub body: Vec<u8>,
    /// Its end was told, by its framing or, where there is none, by an end of the connection that TLS vouches for.
    pub is_whole: bool,
}

/// What comes next on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Reply(Reply),
    /// The gateway has closed it.
    Closed,
    /// Nothing was said in time.
    Silence,
}

impl Wire {
    /// Sends bytes. A gateway that has closed meanwhile is seen when its answer is read.
    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).and_then(|()| self.stream.flush()));
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn finish(&mut self) {
        self.stream.conn.send_close_notify();
        drop(self.stream.flush());
        drop(self.stream.sock.shutdown(std::net::Shutdown::Write));
    }

    /// Takes new keys, and asks the gateway to do so too.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn update_keys(&mut self) -> Result {
        self.stream.conn.refresh_traffic_keys()?;
        Ok(self.stream.flush()?)
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }

    /// Reads what is there, at least one byte; `Ok(0)` is an end that TLS vouches for.
    ///
    /// # Errors
    /// When nothing comes until `end`, or the connection broke.
    pub fn more(&mut self, end: Instant) -> std::io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.sock.set_read_timeout(Some(left))?;
        let mut part = [0; 16 * 1024];
        let length = self.stream.read(&mut part)?;
        self.read.extend_from_slice(&part[..length]);
        Ok(length)
    }

    /// What was read and not taken.
    pub fn unread(&mut self) -> &mut Vec<u8> {
        &mut self.read
    }

    /// The next answer. `is_head`: it has no body, whatever it says.
    pub fn hear(&mut self, is_head: bool, within: Duration) -> Result<Heard> {
        let end = Instant::now() + within;
        loop {
            if let Some(reply) = self.take(is_head, None)? {
                return Ok(Heard::Reply(reply));
            }
            let is_clean = match self.more(end) {
                Ok(1..) => continue,
                Ok(0) => true,
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return Ok(Heard::Silence);
                }
                Err(_) => false,
            };
            return match self.take(is_head, Some(is_clean))? {
                Some(reply) => Ok(Heard::Reply(reply)),
                None => Ok(Heard::Closed),
            };
        }
    }

    /// Takes an answer out of what was read; `ended`: nothing more follows, and whether that is certain.
    fn take(&mut self, is_head: bool, ended: Option<bool>) -> Result<Option<Reply>> {
        let Some(end) = find(&self.read, b"\r\n\r\n") else {
            return match ended {
                Some(_) if !self.read.is_empty() => {
                    Err(format!("half a head: {:?}", String::from_utf8_lossy(&self.read)).into())
                }
                _ => Ok(None),
            };
        };
        let head = String::from_utf8(self.read[..end].to_vec())?;
        let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        let status: u16 = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| format!("no status line: {line:?}"))?;
        let mut named = Vec::new();
        for field in fields.split("\r\n").filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").ok_or_else(|| format!("no field line: {field:?}"))?;
            named.push((name.to_ascii_lowercase(), value));
        }
        let all = |wanted: &str| {
            named.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let head =
            named.iter().fold(line.to_owned(), |text, (name, value)| format!("{text}\n{name}: {value}"));
        let mut rest = &self.read[end + 4..];
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        let mut body = Vec::new();
        let mut is_whole = true;
        match (&lengths[..], &codings[..]) {
            _ if is_head || status < 200 || status == 204 || status == 304 => {}
            ([length], []) => {
                let length: usize = length.parse()?;
                if rest.len() < length && ended.is_none() {
                    return Ok(None);
                }
                is_whole = rest.len() >= length;
                body.extend_from_slice(&rest[..length.min(rest.len())]);
                rest = &rest[body.len()..];
            }
            ([], ["chunked"]) => loop {
                let Some(line) = find(rest, b"\r\n") else {
                    if ended.is_none() {
                        return Ok(None);
                    }
                    (rest, is_whole) = (&[], false);
                    break;
                };
                let size = usize::from_str_radix(str::from_utf8(&rest[..line])?, 16)?;
                let from = line + 2;
                if size == 0 {
                    let Some(end) = find(&rest[line..], b"\r\n\r\n") else {
                        if ended.is_none() {
                            return Ok(None);
                        }
                        (rest, is_whole) = (&[], false);
                        break;
                    };
                    rest = &rest[line + end + 4..];
                    break;
                }
                if rest.len() < from + size + 2 {
                    if ended.is_none() {
                        return Ok(None);
                    }
                    (rest, is_whole) = (&[], false);
                    break;
                }
                body.extend_from_slice(&rest[from..from + size]);
                rest = &rest[from + size + 2..];
            },
            ([], []) => match ended {
                None => return Ok(None),
                Some(is_clean) => {
                    body.extend_from_slice(rest);
                    (rest, is_whole) = (&[], is_clean);
                }
            },
            _ => return Err(format!("an answer with two framings: {head}").into()),
        }
        self.read = rest.to_vec();
        Ok(Some(Reply { status, head, body, is_whole }))
    }
}

/// Where `part` begins.
pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
