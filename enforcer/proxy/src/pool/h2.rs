//! Kept HTTP/2 connections of an endpoint, and the task that drives each.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use base_ports::Mono;
use enforcer_codec::Limits;
use enforcer_codec::h2::Reason;
use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;

use super::links::{Links, NoLink, Place};
use super::{Endpoint, Terms, Wire};
use crate::body::{self, Moved, Over};
use crate::fault::Fault;
use crate::worker::Worker;

const BUSY: u32 = 32;

/// What is left to say at the end of a connection.
const CALM: Duration = Duration::from_millis(100);

pub(super) type H2Links = Links<Speaker>;
type H2Link = super::links::Link<Speaker>;

/// The end of a connection that calls use; the connection ends when it is dropped and no call is left.
#[derive(Debug)]
pub(crate) struct Speaker(Arc<body::Link>);

/// A stream that can be asked on.
#[derive(Debug)]
pub(crate) struct H2Stream {
    pub(crate) place: Place<Speaker>,
}

pub(super) fn links() -> H2Links {
    Links::new(BUSY)
}

impl Endpoint {
    /// A stream for one call.
    pub(crate) async fn lend_h2(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        terms: Terms,
    ) -> Result<H2Stream, Fault> {
        loop {
            let generation = self.generation(worker);
            let connect = || {
                let (endpoint, worker) = (Arc::clone(self), Arc::clone(worker));
                let connecting = async move {
                    let connected = endpoint.connect_h2(&worker, terms).await;
                    endpoint.h2.dialled(&connected);
                    connected
                };
                connecting.boxed()
            };
            let lent = self.h2.lend(generation, connect).await;
            let stream = H2Stream { place: lent.map_err(|failed| self.no_connection(&failed))? };
            // The endpoint may take fewer streams than we would give it; then this waits, else it does not.
            if poll_fn(|context| stream.link().poll_open(context)).await {
                return Ok(stream);
            }
            stream.place.link.close();
            self.h2.sweep(generation);
            if let Some(alert) = stream.rejected() {
                return Err(Fault::TlsRejected { address: self.address.clone(), alert });
            }
        }
    }

    async fn connect_h2(self: &Arc<Self>, worker: &Arc<Worker>, terms: Terms) -> Result<Arc<H2Link>, NoLink> {
        let opened = self.open(&terms).map_err(|_full| NoLink::Full)?;
        let wire = self.dial(worker, terms.limit).await?;
        let standing = wire.standing().cloned();
        let shared = Arc::new(body::Link::to_endpoint(Limits::default(), worker.clock.mono()));
        let link = H2Link::new(Speaker(Arc::clone(&shared)), standing, opened);
        let driver = Driver {
            shared,
            link: Arc::downgrade(&link),
            wire,
            endpoint: Arc::downgrade(self),
            ping: Duration::from_millis(self.ping_millis.load(Ordering::Relaxed)),
        };
        let worker = Arc::clone(worker);
        worker.clone().tasks.spawn("upstream", async move { driver.run(&worker).await });
        Ok(link)
    }
}

impl H2Stream {
    /// The connection that it is on.
    pub(crate) fn link(&self) -> &body::Link {
        &self.place.link.speaker.0
    }

    /// The alert by which the endpoint rejected the connection.
    pub(crate) fn rejected(&self) -> Option<String> {
        self.place.link.standing()?.alert().map(str::to_owned)
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// What moves the bytes of a connection.
struct Driver {
    shared: Arc<body::Link>,
    link: Weak<H2Link>,
    wire: Wire,
    endpoint: Weak<Endpoint>,
    ping: Duration,
}

impl Driver {
    async fn run(mut self, worker: &Worker) {
        let timer = worker.wheel.timer();
        let mut pulse = Pulse::new(worker.clock.mono(), self.ping);
        timer.set(pulse.look);
        let over = poll_fn(|context| {
            loop {
                let mut moved = Moved::default();
                let driven = self.shared.poll_drive(
                    &mut self.wire,
                    &worker.scratch,
                    || worker.clock.mono(),
                    &mut moved,
                    context,
                );
                if self.shared.is_leaving() {
                    self.close();
                }
                if driven.is_ready() {
                    return driven;
                }
                pulse.moved(&moved);
                if timer.poll(context).is_pending() {
                    return Poll::Pending;
                }
                let has_calls = self.shared.has_calls();
                if !has_calls {
                    self.shared.trim();
                }
                match pulse.beat(worker.clock.mono(), has_calls) {
                    Beat::Rest => {}
                    Beat::Ask => self.shared.ping(),
                    Beat::Dead => return Poll::Ready(Err(Over::Lost)),
                }
                timer.set(pulse.look);
            }
        })
        .await;
        self.close();
        if let Some(endpoint) = self.endpoint.upgrade() {
            tracing::debug!(event = "upstream_connection_ended", endpoint = %endpoint.address, ?over, "");
            endpoint.h2.sweep(endpoint.generation(worker));
        }
        match over {
            Ok(()) => self.shared.end(Reason::NO_ERROR),
            Err(over) => self.shared.ended(over),
        }
        // What is left to say, to an endpoint that did wrong as to one that is not needed any more.
        timer.set(worker.clock.mono() + CALM);
        let closing = pin!(async {
            let written = poll_fn(|context| self.shared.poll_write(&mut self.wire, context)).await;
            if written.is_ok() {
                self.wire.shutdown().await.unwrap_or_default();
            }
        });
        timer.within(closing).await;
    }

    /// No further call uses the connection.
    fn close(&self) {
        if let Some(link) = self.link.upgrade() {
            link.close();
        }
    }
}

/// An endpoint that was told nothing owes nothing. It is asked as much less often as gRPC servers want, which end connections
/// of clients that ask more often than every five minutes without saying anything.
const QUIET: u32 = 31;

/// Whether the endpoint is there: it is asked when it owes a call something and was silent for a while, and given up after twice
/// that (PL-03).
#[derive(Debug)]
struct Pulse {
    every: Duration,
    /// Since when nothing was heard.
    quiet_since: Option<Mono>,
    /// A call has said something since it got anything.
    is_owed: bool,
    asked: Option<Mono>,
    heard: bool,
    look: Mono,
}

#[derive(Debug, PartialEq, Eq)]
enum Beat {
    Rest,
    Ask,
    Dead,
}

impl Pulse {
    fn new(now: Mono, every: Duration) -> Self {
        Self { every, quiet_since: None, is_owed: false, asked: None, heard: false, look: now + every }
    }

    fn moved(&mut self, moved: &Moved) {
        self.heard |= moved.heard;
        self.is_owed = moved.asked || (self.is_owed && !moved.answered);
    }

    /// What is due now.
    fn beat(&mut self, now: Mono, has_calls: bool) -> Beat {
        self.look = now + self.every;
        if std::mem::take(&mut self.heard) || !has_calls {
            // An endpoint that answered a PING is at work on what it owes.
            self.is_owed &= self.asked.is_none();
            (self.quiet_since, self.asked) = (Some(now), None);
            return Beat::Rest;
        }
        if let Some(asked) = self.asked {
            let ends = asked + self.every.saturating_mul(2);
            self.look = ends;
            return if now >= ends { Beat::Dead } else { Beat::Rest };
        }
        let since = *self.quiet_since.get_or_insert(now);
        if !self.is_owed && now < since + self.every.saturating_mul(QUIET) {
            return Beat::Rest;
        }
        (self.asked, self.look) = (Some(now), now + self.every.saturating_mul(2));
        Beat::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::from_nanos(secs * 1_000_000_000)
    }

    const ASKED: Moved = Moved { heard: false, answered: false, asked: true };
    const HEARD: Moved = Moved { heard: true, answered: false, asked: false };
    const ANSWERED: Moved = Moved { heard: true, answered: true, asked: false };

    #[test]
    fn pl_03_an_endpoint_that_owes_an_answer_is_asked_and_given_up() {
        let mut pulse = Pulse::new(at(0), Duration::from_secs(10));
        pulse.moved(&ASKED);
        // Its settings are no answer.
        pulse.moved(&HEARD);
        assert_eq!(pulse.beat(at(0), true), Beat::Rest);
        assert_eq!(pulse.beat(at(10), true), Beat::Ask);
        assert_eq!(pulse.look, at(30));
        assert_eq!(pulse.beat(at(30), true), Beat::Dead);
    }

    #[test]
    fn pl_03_anything_that_comes_is_an_answer() {
        let mut pulse = Pulse::new(at(0), Duration::from_secs(10));
        pulse.moved(&ASKED);
        assert_eq!(pulse.beat(at(10), true), Beat::Ask);
        pulse.moved(&HEARD);
        assert_eq!(pulse.beat(at(30), true), Beat::Rest);
        // It is at work, and is not asked again and again.
        assert_eq!(pulse.beat(at(40), true), Beat::Rest);
        // A connection without calls is not asked.
        pulse.moved(&ASKED);
        assert_eq!(pulse.beat(at(50), false), Beat::Rest);
    }

    #[test]
    fn pl_03_a_stream_on_which_nothing_is_said_is_asked_for_seldom() {
        let mut pulse = Pulse::new(at(0), Duration::from_secs(10));
        pulse.moved(&ASKED);
        pulse.moved(&ANSWERED);
        let asked = (1..=60).map(|nth| nth * 10).find(|secs| pulse.beat(at(*secs), true) == Beat::Ask);
        assert_eq!(asked, Some(320));
    }
}
