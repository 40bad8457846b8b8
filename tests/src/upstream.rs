//! Upstreams that tell what they received: plain HTTP/1.1 that echoes the request, and gRPC over h2c.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A thread that answers until the test process ends.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    calls: Arc<AtomicUsize>,
    mood: Arc<AtomicU16>,
    last: Arc<Mutex<String>>,
}

/// A mood that is no status: the connection is cut without a word.
pub const HANG_UP: u16 = 1;
/// A mood that is no status: nothing is answered.
pub const SILENCE: u16 = 2;

impl Upstream {
    /// Answers every request with 200 and, as the body, the request head it received and its body.
    pub fn echo() -> Self {
        Self::echo_at(([127, 0, 0, 1], 0).into())
    }

    /// The same at an address.
    pub fn echo_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("loopback has ports");
        let upstream = Self {
            address: listener.local_addr().expect("bound"),
            calls: Arc::default(),
            mood: Arc::default(),
            last: Arc::default(),
        };
        let serving = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || {
                    stream.set_nodelay(true)?;
                    serve(stream.try_clone()?, stream, &serving)
                });
            }
        });
        upstream
    }

    /// The same on a Unix socket; it has no address.
    pub fn echo_on(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("the path is free");
        let upstream = Self {
            address: ([0, 0, 0, 0], 0).into(),
            calls: Arc::default(),
            mood: Arc::default(),
            last: Arc::default(),
        };
        let serving = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serve(stream.try_clone()?, stream, &serving));
            }
        });
        upstream
    }

    /// Answers every request with that status from now on, or as a mood says; 0 = echoes again.
    pub fn answer_all(&self, mood: u16) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    /// Head and body of the request that arrived last.
    pub fn last(&self) -> String {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }

    /// Requests that arrived.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn serve(reader: impl Read, mut writer: impl Write, upstream: &Upstream) -> std::io::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut head = String::new();
        let mut length = 0usize;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= lower.starts_with("transfer-encoding:");
            head.push_str(&line);
        }
        upstream.calls.fetch_add(1, Ordering::SeqCst);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        while chunked {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            chunk.truncate(size);
            body.extend_from_slice(&chunk);
            chunked = size > 0;
        }
        if let Ok(mut last) = upstream.last.lock() {
            *last = format!("{head}\r\n{}", String::from_utf8_lossy(&body));
        }
        match upstream.mood.load(Ordering::SeqCst) {
            0 => {}
            HANG_UP => return Ok(()),
            SILENCE => std::thread::sleep(Duration::from_secs(60)),
            status => {
                write!(writer, "HTTP/1.1 {status} Sick\r\ncontent-length: 4\r\n\r\nsick")?;
                continue;
            }
        }
        let answer = [head.as_bytes(), b"\n", body.as_slice()].concat();
        write!(
            writer,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        )?;
        writer.write_all(&answer)?;
    }
}
