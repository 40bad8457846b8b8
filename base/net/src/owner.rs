//! Whose process is at the other end of a connection of this host, by the word of the kernel (OUT4).
//!
//! A Unix socket tells it itself. For TCP the socket at the other end is looked up by its four numbers over `sock_diag(7)`,
//! which costs the same however many sockets there are. What is unclear is an error, never an answer: an orphan, whose
//! process is gone, has no inode and would pass for one of root's.

use std::io;
use std::net::{IpAddr, SocketAddr};

use base_ports::Stream;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::Peer;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `SOCK_DIAG_BY_FAMILY`, the type of request and answer.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
/// States in which a process still has the socket and had it connected: established, and after its own shutdown.
const CONNECTED: [u8; 3] = [1, 4, 5];

/// The user whose process is at the other end.
///
/// # Errors
/// When the other end is not on this host, or the kernel does not say clearly whose it is.
pub fn owner(stream: &Stream, peer: &Peer) -> io::Result<u32> {
    let (Peer::Tcp(theirs), Some(ours)) = (peer, stream.local()) else {
        return match peer {
            Peer::Unix { uid, .. } => Ok(*uid),
            Peer::Tcp(_) => Err(io::Error::other("the connection has no address")),
        };
    };
    let theirs = SocketAddr::new(theirs.ip().to_canonical(), theirs.port());
    let ours = SocketAddr::new(ours.ip().to_canonical(), ours.port());
    if !theirs.ip().is_loopback() || !ours.ip().is_loopback() {
        return Err(io::Error::other("only a caller on loopback can be told"));
    }
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&socket, &question(theirs, ours), SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered by the time that the question is sent.
    let (_, length) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    uid_in(answer.get(..length).unwrap_or_default())
}

/// Asks for exactly that socket, as its own process sees it.
fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let length = HEADER.saturating_add(REQUEST);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port
    bytes.extend([u8::try_from(family.as_raw()).unwrap_or_default(), IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // any state; it is looked at in the answer
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for ip in [local.ip(), remote.ip()] {
        let mut field = [0; 16];
        match ip {
            IpAddr::V4(v4) => field.iter_mut().zip(v4.octets()).for_each(|(to, from)| *to = from),
            IpAddr::V6(v6) => field = v6.octets(),
        }
        bytes.extend(field);
    }
    bytes.extend([0; 4]); // any interface
    bytes.extend([0xff; 8]); // no cookie
    bytes
}

/// The user in an answer: `struct inet_diag_msg` behind a header.
fn uid_in(answer: &[u8]) -> io::Result<u32> {
    let unclear = || io::Error::other("the kernel knows no such socket");
    let word = |at: usize| answer.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk().copied()).map(u16::from_ne_bytes);
    let state = answer.get(HEADER.saturating_add(1)).copied();
    let (uid, inode) = (word(HEADER.saturating_add(64)), word(HEADER.saturating_add(68)));
    match (kind, state, uid, inode) {
        (Some(BY_FAMILY), Some(state), Some(uid), Some(1..)) if CONNECTED.contains(&state) => Ok(uid),
        _ => Err(unclear()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair(address: &str) -> (TcpStream, Stream, Peer) {
        let listener = TcpListener::bind(address).await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        (dialled, Stream::Tcp(accepted), Peer::Tcp(from))
    }

    #[tokio::test]
    async fn out4_the_kernel_says_whose_process_called() {
        let own = rustix::process::getuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (dialled, accepted, peer) = pair(address).await;
            assert_eq!(owner(&accepted, &peer).unwrap(), own, "{address}");
            drop(dialled);
        }
        let unix = Peer::Unix { uid: 7, gid: 7, pid: None };
        let (_, accepted, _) = pair("127.0.0.1:0").await;
        assert_eq!(owner(&accepted, &unix).unwrap(), 7);
    }

    #[tokio::test]
    async fn out4_a_socket_without_a_process_is_nobodys() {
        let (dialled, accepted, peer) = pair("127.0.0.1:0").await;
        drop(dialled);
        owner(&accepted, &peer).unwrap_err();
        let (_open, accepted, _) = pair("127.0.0.1:0").await;
        owner(&accepted, &Peer::Tcp(([127, 0, 0, 1], 1).into())).unwrap_err();
        owner(&accepted, &Peer::Tcp(([192, 0, 2, 1], 80).into())).unwrap_err();
    }

    #[test]
    fn out4_an_answer_that_is_cut_or_of_another_kind_is_none() {
        let mut answer = [0; HEADER + 72];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[HEADER + 1] = 1;
        answer[HEADER + 64..HEADER + 68].copy_from_slice(&1000u32.to_ne_bytes());
        uid_in(&answer).unwrap_err();
        answer[HEADER + 68] = 9;
        assert_eq!(uid_in(&answer).unwrap(), 1000);
        for length in 0..answer.len() {
            uid_in(&answer[..length]).unwrap_err();
        }
        answer[HEADER + 1] = 2; // it is only about to connect
        uid_in(&answer).unwrap_err();
        answer[HEADER + 1] = 1;
        answer[4] = 2; // NLMSG_ERROR
        uid_in(&answer).unwrap_err();
    }
}
