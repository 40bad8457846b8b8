//! Origins that speak no HTTP: each says its greeting first, then says back what it hears.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running origin; it ends with the process.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Bytes {
    /// Starts one with that greeting.
    ///
    /// # Panics
    /// When this machine has no free port.
    pub fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let origin =
            Self { address: listener.local_addr().expect("its address"), connections: Arc::default() };
        let counted = Arc::clone(&origin.connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || drop(serve(stream, greeting)));
            }
        });
        origin
    }

    /// Connections that were opened.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..read).unwrap_or_default())?;
    }
}
