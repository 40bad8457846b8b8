//! The accept loop every listener of every role uses (AL-01). No error of the kernel ends it (AL-02); a drain does.

use crate::{ConnectionPermit, DrainWatch, Gate, Listener, Peer, Stream, backoff::Backoff};
use std::{io, time::Duration};

/// A connection within the caps, not yet trusted in any way.
#[derive(Debug)]
pub struct Accepted {
    /// The bytes.
    pub stream: Stream,
    /// Who connected.
    pub peer: Peer,
    /// Keep it as long as the connection: dropping it counts the connection out.
    pub permit: ConnectionPermit,
}

/// Accepts until the drain starts, and hands each connection to `on`, which must not block: it starts a task.
///
/// `caps` is a [`Caps`](crate::Caps), or a [`Gate`] when several loops share one. What is above the caps is closed
/// without a byte. When descriptors run out those idle for longest are asked to close, and the loop waits
/// 5 ms, doubling to 1 s. At the drain, connections that the kernel has completed already are still handed on.
pub async fn accept_loop<F>(listener: Listener, caps: impl Into<Gate>, mut drain: DrainWatch, mut on: F)
where
    F: FnMut(Accepted),
{
    let gate = caps.into();
    let watch = drain.clone();
    let mut backoff = Backoff::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !backoff.is_fresh() {
                    tracing::info!(event = "listener_recovered", listener = %listener.bound(), "accepting again");
                    backoff.succeed();
                }
                admit(&gate, &watch, stream, peer, &mut on);
            }
            Err(cause) => {
                gate.count_fault();
                if let Fault::Lasting = Fault::of(&cause) {
                    pause(&listener, &gate, &mut drain, &mut backoff, &cause).await;
                }
            }
        }
    }
    if !watch.is_relieved() {
        hand_on_the_rest(&listener, &gate, &watch, &mut on).await;
    }
}

fn admit(gate: &Gate, drain: &DrainWatch, stream: Stream, peer: Peer, on: &mut impl FnMut(Accepted)) {
    match gate.admit(&peer, drain.hold()) {
        Ok(permit) => on(Accepted { stream, peer, permit }),
        Err(refused) => {
            tracing::debug!(event = "connection_shed", %peer, ?refused, "connection refused at accept")
        }
    }
}

async fn pause(
    listener: &Listener,
    gate: &Gate,
    drain: &mut DrainWatch,
    backoff: &mut Backoff,
    cause: &io::Error,
) {
    let has_evicted = gate.evict_idle();
    if backoff.is_fresh() {
        let listener = listener.bound();
        tracing::warn!(event = "listener_exhausted", %listener, %cause, has_evicted, "cannot accept, waiting");
    }
    let wait = backoff.fail();
    tokio::select! {
        () = drain.started() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Completed handshakes in the backlog would be reset when the socket closes; their clients did nothing wrong.
async fn hand_on_the_rest(
    listener: &Listener,
    gate: &Gate,
    drain: &DrainWatch,
    on: &mut impl FnMut(Accepted),
) {
    const MOST: usize = 1024;
    const PATIENCE: Duration = Duration::from_millis(1);
    for _ in 0..MOST {
        match tokio::time::timeout(PATIENCE, listener.accept()).await {
            Ok(Ok((stream, peer))) => admit(gate, drain, stream, peer, on),
            Ok(Err(cause)) if matches!(Fault::of(&cause), Fault::Passing) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// What an error of `accept` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// That one connection, gone already (`accept(2)` says to treat network errors so); go on at once.
    Passing,
    /// The process or the host; trying again at once would spin.
    Lasting,
}

impl Fault {
    fn of(error: &io::Error) -> Fault {
        use rustix::io::Errno;
        const PASSING: [Errno; 12] = [
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::INTR,
            Errno::AGAIN,
            Errno::PROTO,
            Errno::NETDOWN,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
        ];
        let passing = PASSING.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if passing { Fault::Passing } else { Fault::Lasting }
    }
}

#[cfg(test)]
mod tests;
