//! The accept loop every listener uses (AL-01, AL-02): it ends on drain and on nothing else.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;

use crate::caps::Gate;
use crate::{Accepted, Caps, DrainWatch, Listener, Peer};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until the drain starts; `on` gets each connection and must not block. A connection above the caps is
/// closed at once.
pub async fn accept_loop<F>(listener: Listener, caps: Caps, mut drain: DrainWatch, mut on: F)
where
    F: FnMut(Accepted),
{
    let gate = Gate::new(caps);
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                match gate.enter(source(&peer)) {
                    Some(permit) => on(Accepted { stream, peer, permit }),
                    None => {
                        tracing::debug!(event = "connection_refused", cause = "cap", "connection above a cap")
                    }
                }
            }
            Err(error) if wants_pause(&error) => {
                tracing::warn!(event = "accept_paused", error = %error, "no room for another connection");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            Err(error) => tracing::debug!(event = "accept_failed", error = %error, "one connection was lost"),
        }
    }
}

fn source(peer: &Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(addr) => Some(addr.ip()),
        Peer::Unix { .. } => None,
    }
}

/// Whether trying again at once would only spin: descriptors or memory have run out.
fn wants_pause(error: &io::Error) -> bool {
    let gone = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bind, Drain};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    #[test]
    fn al_02_only_exhaustion_pauses_the_loop() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(wants_pause(&io::Error::from_raw_os_error(errno.raw_os_error())));
        }
        for errno in [Errno::CONNABORTED, Errno::INTR] {
            assert!(!wants_pause(&io::Error::from_raw_os_error(errno.raw_os_error())));
        }
    }

    #[tokio::test]
    async fn connections_above_the_cap_are_closed_and_a_drain_ends_the_loop() {
        let listener = Listener::bind(&Bind::Tcp(([127, 0, 0, 1], 0).into()), false).unwrap();
        let addr = listener.local_addr().unwrap();
        let (drain, watch) = Drain::new();
        let mut kept = Vec::new();
        let caps = Caps { connections: 1, per_source: 1 };
        let run = accept_loop(listener, caps, watch, |accepted| kept.push(accepted));
        let clients = async {
            let mut first = TcpStream::connect(addr).await.unwrap();
            let mut second = TcpStream::connect(addr).await.unwrap();
            assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0, "closed above the cap");
            let waits = tokio::time::timeout(Duration::from_millis(20), first.read_u8()).await;
            assert!(waits.is_err(), "the first stays open");
            drain.start();
        };
        tokio::join!(run, clients);
        assert_eq!(kept.len(), 1);
        assert!(TcpStream::connect(addr).await.is_err(), "the socket is closed");
    }
}
