//! Kept HTTP/2 connections of an endpoint: few connections, many streams (PL-03), dials coalesced (PL-04).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use h2::client::{Builder, SendRequest};
use parking_lot::Mutex;

use super::wire::Standing;
use super::{Endpoint, Opened, Terms};
use crate::fault::{Broken, Fault};
use crate::worker::Worker;

/// Above so many live streams another connection is opened.
const BUSY: u32 = 32;
/// Connections per endpoint and worker at most.
const MOST: usize = 8;

const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const HEADER_LIST: u32 = 64 * 1024;

/// The connections of one endpoint, and the dial under way.
#[derive(Debug, Default)]
pub(super) struct Links {
    open: Mutex<Vec<Arc<H2Link>>>,
    dialing: Mutex<Option<Dial>>,
}

type Dial = Shared<BoxFuture<'static, Result<Arc<H2Link>, NoLink>>>;

/// Why there is no new connection.
#[derive(Debug, Clone)]
enum NoLink {
    /// The cluster has as many as it may.
    Full,
    /// The endpoint cannot be reached.
    Connect(Arc<io::Error>),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct H2Link {
    sender: SendRequest<Bytes>,
    live: AtomicU32,
    has_served: AtomicBool,
    is_closed: AtomicBool,
    standing: Option<Arc<Standing>>,
    _opened: Opened,
}

/// The right to one stream on a connection; counted while it lives.
#[derive(Debug)]
pub(crate) struct Stream {
    link: Arc<H2Link>,
    pub(crate) sender: SendRequest<Bytes>,
    /// The connection has served before.
    pub(crate) is_used: bool,
}

impl Links {
    fn least_busy(&self, generation: u64) -> Option<Arc<H2Link>> {
        let open = self.open.lock();
        open.iter().filter(|link| link.is_good(generation)).min_by_key(|link| link.live()).map(Arc::clone)
    }

    fn len(&self, generation: u64) -> usize {
        self.open.lock().iter().filter(|link| link.is_good(generation)).count()
    }

    /// A connection that is lent no more ends with its last stream.
    pub(super) fn sweep(&self, generation: u64) {
        self.open.lock().retain(|link| link.is_good(generation));
    }
}

impl Endpoint {
    /// A stream for one call.
    pub(crate) async fn lend_h2(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        terms: Terms,
    ) -> Result<Stream, Fault> {
        loop {
            let generation = self.generation(worker);
            let best = self.h2.least_busy(generation);
            let wants_another =
                best.as_ref().is_none_or(|link| link.live() >= BUSY && self.h2.len(generation) < MOST);
            let link = match (best, wants_another) {
                (Some(link), false) => link,
                (best, _) => match (Box::pin(self.dial_h2(worker, terms)).await, best) {
                    (Ok(link), _) | (Err(_), Some(link)) => link,
                    (Err(failed), None) => return Err(self.no_connection(&failed)),
                },
            };
            let mut stream = Stream::of(link);
            // The endpoint may take fewer streams than we would give it; then this waits, else it does not.
            match poll_fn(|context| stream.sender.poll_ready(context)).await {
                Ok(()) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(event = "upstream_connection_lost", endpoint = %self.address, %error, "");
                    stream.link.close();
                    self.h2.sweep(generation);
                    if let Some(alert) = stream.rejected() {
                        return Err(Fault::TlsRejected { address: self.address.clone(), alert });
                    }
                }
            }
        }
    }

    /// Joins the dial under way, or starts one.
    async fn dial_h2(self: &Arc<Self>, worker: &Arc<Worker>, terms: Terms) -> Result<Arc<H2Link>, NoLink> {
        let dial = {
            let mut dialing = self.h2.dialing.lock();
            match dialing.as_ref() {
                Some(dial) => dial.clone(),
                None => {
                    let (endpoint, worker) = (Arc::clone(self), Arc::clone(worker));
                    let connecting = async move {
                        let connected = endpoint.connect_h2(&worker, terms).await;
                        *endpoint.h2.dialing.lock() = None;
                        connected
                    };
                    dialing.insert(connecting.boxed().shared()).clone()
                }
            }
        };
        dial.await
    }

    fn no_connection(&self, failed: &NoLink) -> Fault {
        match failed {
            NoLink::Full => Fault::Full,
            NoLink::Connect(error) => Fault::of_shared_dial(&self.address, error),
        }
    }

    async fn connect_h2(&self, worker: &Arc<Worker>, terms: Terms) -> Result<Arc<H2Link>, NoLink> {
        let opened = self.open(&terms).map_err(|_full| NoLink::Full)?;
        let socket = self.dial(worker, terms.limit).await?;
        let standing = socket.standing().cloned();
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .enable_push(false);
        let (sender, connection) = builder.handshake::<_, Bytes>(socket).await.map_err(io::Error::other)?;
        let link = Arc::new(H2Link {
            sender,
            live: AtomicU32::new(0),
            has_served: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            standing,
            _opened: opened,
        });
        let (driven, address) = (Arc::downgrade(&link), self.address.clone());
        worker.tasks.spawn("upstream", async move {
            if let Err(error) = connection.await {
                tracing::debug!(event = "upstream_connection_ended", endpoint = %address, %error, "");
            }
            if let Some(link) = driven.upgrade() {
                link.close();
            }
        });
        self.h2.open.lock().push(Arc::clone(&link));
        Ok(link)
    }
}

impl From<io::Error> for NoLink {
    fn from(error: io::Error) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl H2Link {
    fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Open, and opened under the trust in force.
    fn is_good(&self, generation: u64) -> bool {
        !self.is_closed() && self.standing.as_ref().map_or(0, |standing| standing.generation) == generation
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    fn of(link: Arc<H2Link>) -> Self {
        link.live.fetch_add(1, Ordering::Relaxed);
        Self { sender: link.sender.clone(), is_used: link.has_served.load(Ordering::Relaxed), link }
    }

    /// An answer came over the connection.
    pub(crate) fn serves(&self) {
        self.link.has_served.store(true, Ordering::Relaxed);
    }

    /// The alert by which the endpoint rejected the connection.
    pub(crate) fn rejected(&self) -> Option<String> {
        self.link.standing.as_ref()?.alert().map(str::to_owned)
    }

    /// The connection broke or is going away: no further call uses it.
    pub(crate) fn give_up(&self, broken: &Broken) {
        if matches!(broken, Broken::H2(error) if error.is_io() || error.is_go_away()) {
            self.link.close();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.live.fetch_sub(1, Ordering::Relaxed);
    }
}
