//! Ports that a story writes into a configuration before anybody binds them.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port below those that the kernel gives to connections (32,768 and up on Linux): whoever dials beside this story cannot take
/// it before the gateway binds it, over TCP or over UDP.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 20_000).unwrap_or_default();
    let free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    (0..20_000)
        .map(|_| 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000) % 20_000)
        .find(free)
        .expect("loopback has ports")
}
