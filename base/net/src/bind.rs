//! Where a listener listens, as a value. Made by the configuration; refused addresses are refused at bind.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// Mode of a Unix socket when nobody asks for another (LT-13).
pub const UNIX_MODE: u32 = 0o660;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// TCP; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix stream socket. Abstract names are refused: they have no permissions.
    Unix {
        /// Path of the socket file; its directory must not be writable by everybody.
        path: PathBuf,
        /// Permission bits of the socket file, [`UNIX_MODE`] unless configured.
        mode: u32,
    },
}

impl fmt::Display for Bind {
    /// As the configuration writes it: `tcp://127.0.0.1:80`, `unix:///run/x.sock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "tcp://{address}"),
            Bind::Unix { path, .. } => write!(f, "unix://{}", path.display()),
        }
    }
}
