//! An HTTP/1 origin that takes nothing lenient and keeps what it received, whole requests and broken ones, in order.
//!
//! It answers each whole request with JSON: how it read it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A running origin; it ends with the process.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Arc<Mutex<Vec<Received>>>,
}

/// A request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Request line and fields, as they came.
    pub head: String,
    pub body: Vec<u8>,
    /// Why it is no whole request.
    pub broken: Option<String>,
}

impl Received {
    /// The request line's target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Method, path, query, fields and body.
    pub fn told(&self) -> Value {
        let mut lines = self.head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let method = line.split(' ').next().unwrap_or_default();
        let (path, query) = match self.target().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target(), None),
        };
        let fields: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| json!([name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])]))
            .collect();
        json!({ "method": method, "path": path, "query": query, "headers": fields,
                "body": self.body.iter().map(|byte| char::from(*byte)).collect::<String>() })
    }
}

impl Recorder {
    /// Starts one.
    ///
    /// # Panics
    /// When this machine has no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let origin = Self { address: listener.local_addr().expect("its address"), kept: Arc::default() };
        let kept = Arc::clone(&origin.kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || drop(serve(stream, &kept)));
            }
        });
        origin
    }

    /// Takes out what was received so far.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = Lines { stream: stream.try_clone()?, buffer: Vec::new() };
    loop {
        let mut received = Received::default();
        let outcome = receive(&mut reader, &mut received);
        let keep = |received| kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(received);
        match outcome {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(reason) => {
                keep(Received { broken: Some(reason), ..received });
                return Ok(());
            }
        }
        let is_head = received.head.starts_with("HEAD ");
        let told = received.told().to_string();
        keep(received);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            told.len()
        )?;
        if !is_head {
            stream.write_all(told.as_bytes())?;
        }
    }
}

/// Reads one request; false when the connection ended before it began.
fn receive(reader: &mut Lines, received: &mut Received) -> Result<bool, String> {
    let Some(line) = reader.line()? else {
        return if reader.buffer.is_empty() { Ok(false) } else { Err("half a request line".into()) };
    };
    received.head = line;
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = reader.line()?.ok_or("half a head")?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or("a field line without a colon")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_some() || chunked => return Err("two framings".into()),
            "content-length" => {
                length = Some(value.trim().parse::<usize>().map_err(|error| error.to_string())?);
            }
            "transfer-encoding" if length.is_some() || chunked => return Err("two framings".into()),
            "transfer-encoding" if value.trim() == "chunked" => chunked = true,
            "transfer-encoding" => return Err("another transfer coding".into()),
            _ => {}
        }
        received.head.push_str("\r\n");
        received.head.push_str(&line);
    }
    if let Some(length) = length {
        received.body = reader.exactly(length)?;
    }
    if !chunked {
        return Ok(true);
    }
    loop {
        let size = reader.line()?.ok_or("no chunk size")?;
        let size = usize::from_str_radix(&size, 16).map_err(|error| format!("{size:?}: {error}"))?;
        if size == 0 {
            while !reader.line()?.ok_or("half a trailer section")?.is_empty() {}
            return Ok(true);
        }
        received.body.extend(reader.exactly(size)?);
        if !reader.exactly(2)?.eq(b"\r\n") {
            return Err("a chunk without its end".into());
        }
    }
}

struct Lines {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Lines {
    fn fill(&mut self) -> Result<bool, String> {
        let mut part = [0; 16 * 1024];
        let length = self.stream.read(&mut part).map_err(|error| error.to_string())?;
        self.buffer.extend_from_slice(&part[..length]);
        Ok(length > 0)
    }

    /// A line without its CRLF; none at the end of the connection.
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = line.strip_suffix(b"\r\n").ok_or("a bare lf")?;
                if text.contains(&b'\r') {
                    return Err("a bare cr".into());
                }
                return Ok(Some(text.iter().map(|byte| char::from(*byte)).collect()));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(format!("{} of {length} bytes of a body", self.buffer.len()));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }
}
