//! Kept HTTP/3 connections of an endpoint, and when it is asked over HTTP/2 instead (LT-06, QU-07).

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base_ports::Mono;
use bytes::Bytes;
use ca_identity::tls::alert_in;
use futures_util::FutureExt;
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, StreamError};
use http::Request;
use parking_lot::Mutex;

use super::links::{Link, Links, NoLink, Place};
use super::{Endpoint, Terms, quic};
use crate::fault::Fault;
use crate::quic::{Both, FIELD_SECTION, Intake, Opener, Transport, Watch, close};
use crate::worker::Worker;

const BUSY: u32 = 64;
/// So many dials in a row fail before an endpoint is asked over HTTP/2, and for so long.
const FAILURES: u32 = 2;
const AWAY: Duration = Duration::from_secs(300);

pub(super) type H3Links = Links<Speaker>;

/// What requests are sent with on one connection.
pub(crate) struct Speaker {
    sender: Mutex<SendRequest<Opener, Bytes>>,
    quic: quinn::Connection,
    opened: Arc<Intake>,
}

/// The right to one stream.
pub(crate) type H3Place = Place<Speaker>;

/// A stream whose request was sent, and the watch over it.
pub(crate) type Asked = (RequestStream<Both, Bytes>, Watch);

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum Unasked {
    /// The connection takes no more; nothing of the request left.
    Closed,
    /// It broke meanwhile.
    Broke(StreamError),
}

/// Whether HTTP/3 leads to an endpoint.
#[derive(Debug, Default)]
pub(super) struct Reach {
    failures: AtomicU32,
    /// When the next try is due, nanoseconds.
    again: AtomicU64,
}

impl Reach {
    /// Whether a dial is of use. After failures one is, from time to time.
    fn is_tried(&self, now: Mono) -> bool {
        if self.failures.load(Ordering::Relaxed) < FAILURES {
            return true;
        }
        // Only the tasks of this worker ask, so this needs no exchange.
        let is_due = now.as_nanos() >= self.again.load(Ordering::Relaxed);
        if is_due {
            self.put_off(now);
        }
        is_due
    }

    fn put_off(&self, now: Mono) {
        self.again.store((now + AWAY).as_nanos(), Ordering::Relaxed);
    }

    fn failed(&self, now: Mono) {
        if self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= FAILURES {
            self.put_off(now);
        }
    }

    fn reached(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }
}

pub(super) fn links() -> H3Links {
    Links::new(BUSY)
}

impl Endpoint {
    /// A place for one call on a connection over HTTP/3; none when the call is to go over HTTP/2.
    ///
    /// # Errors
    /// When there is no connection, and HTTP/2 is no way out or would not be one.
    pub(crate) async fn lend_h3(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        terms: Terms,
    ) -> Result<Option<H3Place>, Fault> {
        let generation = self.generation(worker);
        let is_open = self.h3.least_busy(generation).is_some();
        if !is_open && !terms.requires_h3 && !self.reach.is_tried(worker.clock.mono()) {
            return Ok(None);
        }
        let connect = || {
            let (endpoint, worker) = (Arc::clone(self), Arc::clone(worker));
            let connecting = async move {
                let connected = endpoint.connect_h3(&worker, terms).await;
                endpoint.h3.dialled(&connected);
                connected
            };
            connecting.boxed()
        };
        match self.h3.lend(generation, connect).await {
            Ok(place) => Ok(Some(place)),
            Err(failed) => match self.no_connection(&failed) {
                // Who is somebody else there is so over HTTP/2 too.
                Fault::Connect { .. } if !terms.requires_h3 => Ok(None),
                fault => Err(fault),
            },
        }
    }

    async fn connect_h3(&self, worker: &Arc<Worker>, terms: Terms) -> Result<Arc<Link<Speaker>>, NoLink> {
        let opened = self.open(&terms).map_err(|_full| NoLink::Full)?;
        let dialled = self.dial_quic(worker, terms.limit).await;
        let now = worker.clock.mono();
        let (quic, standing) = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                self.reach.failed(now);
                let again = self.reach.failures.load(Ordering::Relaxed) < FAILURES;
                tracing::info!(event = "h3_unreached", endpoint = %self.address, %error, again, "an endpoint is not reached over http/3");
                return Err(error.into());
            }
        };
        let transport = Transport::new(quic.clone());
        let intake = transport.intake();
        let mut greeting = h3::client::builder();
        greeting.max_field_section_size(FIELD_SECTION).send_grease(false);
        let greeted = greeting.build(transport).await.map_err(io::Error::other);
        let (mut connection, sender) = greeted.inspect_err(|_| self.reach.failed(now))?;
        self.reach.reached();
        let speaker = Speaker { sender: Mutex::new(sender), quic: quic.clone(), opened: intake };
        let link = Link::new(speaker, Some(Arc::clone(&standing)), opened);
        let (driven, address) = (Arc::downgrade(&link), self.address.clone());
        worker.tasks.spawn("upstream", async move {
            let ended = poll_fn(|context| {
                if standing.poll_over(context).is_ready() {
                    close(&quic, Code::H3_NO_ERROR, b"");
                }
                connection.poll_close(context)
            });
            let error = ended.await;
            tracing::debug!(event = "upstream_connection_ended", endpoint = %address, %error, "");
            if let Some(link) = driven.upgrade() {
                link.close();
            }
        });
        Ok(link)
    }
}

impl H3Place {
    /// Opens a stream and sends a request on it.
    ///
    /// # Errors
    /// When the connection is of no use; it is lent no more then.
    pub(crate) async fn ask(&self, request: Request<()>) -> Result<Asked, Unasked> {
        let Speaker { sender, opened, .. } = &self.link.speaker;
        let (mut sender, mut watch) = (sender.lock().clone(), None);
        let mut sending = pin!(sender.send_request(request));
        let sent = poll_fn(|context| {
            let polled = sending.as_mut().poll(context);
            // No other task of the worker runs between the two, so what was opened is ours.
            if let Some(latest) = opened.latest() {
                watch = Some(latest);
            }
            polled
        });
        match (sent.await, watch) {
            (Ok(stream), Some(watch)) => Ok((stream, watch)),
            (Ok(_), None) | (Err(_), None) => {
                self.link.close();
                Err(Unasked::Closed)
            }
            (Err(error), Some(_)) => Err(Unasked::Broke(error)),
        }
    }

    /// The alert by which the endpoint rejected the connection, before it answered anything (TL-10).
    pub(crate) fn rejected(&self) -> Option<String> {
        if self.link.has_served() {
            return None;
        }
        alert_in(&quic::alert(&self.link.speaker.quic.close_reason()?)?)
    }

    /// A request failed: when that is for the connection, no further call uses it.
    pub(crate) fn give_up(&self) {
        if self.link.speaker.quic.close_reason().is_some() {
            self.link.close();
        }
    }
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker").field("quic", &self.quic.stable_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lt_06_two_failed_dials_lead_to_http_2_for_five_minutes_and_then_one_is_tried() {
        let at = |seconds: u64| Mono::from_nanos(seconds * 1_000_000_000);
        let reach = Reach::default();
        assert!(reach.is_tried(at(10)));
        reach.failed(at(10));
        assert!(reach.is_tried(at(11)) && reach.is_tried(at(11)));
        reach.failed(at(20));
        assert!(!reach.is_tried(at(20)) && !reach.is_tried(at(319)));
        assert!(reach.is_tried(at(320)), "after five minutes");
        assert!(!reach.is_tried(at(321)), "by one call");
        reach.failed(at(325));
        assert!(!reach.is_tried(at(624)) && reach.is_tried(at(625)));
        reach.reached();
        assert!(reach.is_tried(at(626)) && reach.is_tried(at(626)));
    }
}
