//! Connections that a forwarder hands on (PX-01, PX-02): its header says whose they are, before TLS. Only listed
//! forwarders are believed, and a connection without a header that holds is closed: the caller would pass for its
//! forwarder otherwise.

use std::pin::pin;
use std::time::Duration;

use base_net::{ConnectionPermit, Peer, Stream};
use enforcer_codec::proxy_protocol::{self, Header, Step};
use tokio::io::AsyncReadExt;

use crate::listening::Listening;
use crate::worker::Worker;

/// A header takes no longer.
const LIMIT: Duration = Duration::from_secs(1);

/// Who is behind the forwarder; none when the connection must be closed.
pub(super) async fn caller(
    worker: &Worker,
    listening: &Listening,
    stream: &mut Stream,
    peer: Peer,
    permit: &mut ConnectionPermit,
) -> Option<Peer> {
    let refuse = |cause: &dyn std::fmt::Display| {
        worker.meters.handshake("proxy_header");
        tracing::debug!(event = "forwarder_refused", listener = %listening.name, via = %peer, %cause, "a connection was closed before TLS");
        None
    };
    if !peer.ip().is_some_and(|ip| listening.forwarders.iter().any(|network| network.has(ip))) {
        return refuse(&"not among trusted_forwarders");
    }
    let timer = worker.wheel.timer();
    timer.set(worker.clock.mono() + LIMIT);
    let header = match timer.within(pin!(header(stream))).await {
        Some(Ok(header)) => header,
        Some(Err(cause)) => return refuse(&cause),
        None => return refuse(&"no header in time"),
    };
    let Header::Forwarded { source, .. } = header else { return Some(peer) };
    if permit.comes_from(source).is_err() {
        return refuse(&"its source has as many connections as it may");
    }
    tracing::trace!(event = "forwarded", %source, via = %peer, "a forwarder says whose connection it is");
    Some(Peer::Tcp(source))
}

/// Reads exactly the header.
async fn header(stream: &mut Stream) -> std::io::Result<Header> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::read(&bytes).map_err(std::io::Error::other)? {
            Step::Done(header) => return Ok(header),
            Step::More(count) => {
                let held = bytes.len();
                bytes.resize(held.saturating_add(count), 0);
                stream.read_exact(bytes.get_mut(held..).unwrap_or_default()).await?;
            }
        }
    }
}
