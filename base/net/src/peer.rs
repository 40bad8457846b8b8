//! Who is at the other end of an accepted connection, as far as the kernel knows.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Its address; an IPv4 address mapped into IPv6 is told as IPv4.
    Tcp(SocketAddr),
    /// The credentials of the process that connected, from the kernel (`SO_PEERCRED`).
    Unix {
        /// Effective user.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// Process, where the kernel tells it.
        pid: Option<i32>,
    },
}

impl Peer {
    /// The address with its port, for TCP.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            Peer::Unix { .. } => None,
        }
    }

    /// The address, for TCP.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => write!(f, "{address}"),
            Peer::Unix { uid, gid, pid: Some(pid) } => write!(f, "uid {uid} gid {gid} pid {pid}"),
            Peer::Unix { uid, gid, pid: None } => write!(f, "uid {uid} gid {gid}"),
        }
    }
}
