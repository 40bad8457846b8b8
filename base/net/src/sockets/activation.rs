//! Sockets that the service manager has bound (`sd_listen_fds`): descriptors from 3 on, and a name for each.

use super::Named;
use listenfd::ListenFd;
use std::{env, io, net, os::fd::OwnedFd, os::unix::net::UnixListener};

/// Takes a descriptor of one kind.
type Take = fn(&mut ListenFd, usize) -> io::Result<Option<OwnedFd>>;

/// All of them; none when the environment names none, or means another process.
pub(super) fn named() -> io::Result<Option<Named>> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    if given.len() == 0 {
        return Ok(None);
    }
    let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
    if names.len() != given.len() {
        let text = format!("{} sockets were given with {} names in LISTEN_FDNAMES", given.len(), names.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut named = Named::with_capacity(names.len());
    for (at, name) in names.into_iter().enumerate() {
        let socket = one(&mut given, at)?.ok_or_else(|| {
            let text = format!("the descriptor named `{name}` is no tcp, udp or unix stream socket");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        named.push((name.to_owned(), socket));
    }
    Ok(Some(named))
}

/// The descriptor at that place, whatever kind of socket it is.
fn one(given: &mut ListenFd, at: usize) -> io::Result<Option<OwnedFd>> {
    let kinds: [Take; 3] = [
        |given, at| Ok(given.take_tcp_listener(at)?.map(|socket: net::TcpListener| socket.into())),
        |given, at| Ok(given.take_udp_socket(at)?.map(|socket: net::UdpSocket| socket.into())),
        |given, at| Ok(given.take_unix_listener(at)?.map(|socket: UnixListener| socket.into())),
    ];
    Ok(kinds.into_iter().find_map(|kind| kind(given, at).ok().flatten()))
}
