//! Connections of an endpoint that carry many calls at a time: few connections, many streams (PL-03), dials coalesced
//! (PL-04). What a connection speaks is its speaker's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ca_identity::SpiffeId;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::Opened;
use super::wire::Standing;

/// Connections per endpoint and worker at most.
const MOST: usize = 8;

/// The connections of one endpoint, and the dial under way.
#[derive(Debug)]
pub(super) struct Links<S> {
    open: Mutex<Vec<Arc<Link<S>>>>,
    dialing: Mutex<Option<Dial<S>>>,
    /// Above so many live streams another connection is opened.
    busy: u32,
}

type Dialled<S> = Result<Arc<Link<S>>, NoLink>;
type Dial<S> = Shared<BoxFuture<'static, Dialled<S>>>;

/// Why there is no new connection.
#[derive(Debug, Clone)]
pub(super) enum NoLink {
    /// The cluster has as many as it may.
    Full,
    /// The endpoint cannot be reached.
    Connect(Arc<io::Error>),
}

impl From<io::Error> for NoLink {
    fn from(error: io::Error) -> Self {
        Self::Connect(Arc::new(error))
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link<S> {
    pub(super) speaker: S,
    live: AtomicU32,
    has_served: AtomicBool,
    is_closed: AtomicBool,
    standing: Option<Arc<Standing>>,
    _opened: Opened,
}

/// The right to one stream on a connection; counted while it lives.
#[derive(Debug)]
pub(crate) struct Place<S> {
    pub(super) link: Arc<Link<S>>,
    /// The connection has served before.
    pub(crate) is_used: bool,
}

impl<S> Links<S> {
    pub(super) const fn new(busy: u32) -> Self {
        Self { open: Mutex::new(Vec::new()), dialing: Mutex::new(None), busy }
    }

    pub(super) fn least_busy(&self, generation: u64) -> Option<Arc<Link<S>>> {
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

    /// The connection for one more stream; when there is none, or all are busy, `connect` opens another. Calls that come
    /// meanwhile wait for the same dial.
    pub(super) async fn lend(
        &self,
        generation: u64,
        connect: impl FnOnce() -> BoxFuture<'static, Dialled<S>>,
    ) -> Result<Place<S>, NoLink> {
        let best = self.least_busy(generation);
        let wants_another =
            best.as_ref().is_none_or(|link| link.live() >= self.busy && self.len(generation) < MOST);
        let link = match (best, wants_another) {
            (Some(link), false) => link,
            (best, _) => {
                let dial = self.dialing.lock().get_or_insert_with(|| connect().shared()).clone();
                match (dial.await, best) {
                    (Ok(link), _) | (Err(_), Some(link)) => link,
                    (Err(failed), None) => return Err(failed),
                }
            }
        };
        Ok(Place::on(link))
    }

    /// The dial is over.
    pub(super) fn dialled(&self, connected: &Dialled<S>) {
        *self.dialing.lock() = None;
        if let Ok(link) = connected {
            self.open.lock().push(Arc::clone(link));
        }
    }
}

impl<S> Link<S> {
    pub(super) fn new(speaker: S, standing: Option<Arc<Standing>>, opened: Opened) -> Arc<Self> {
        Arc::new(Self {
            speaker,
            live: AtomicU32::new(0),
            has_served: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            standing,
            _opened: opened,
        })
    }

    fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Open, and opened under the trust in force.
    fn is_good(&self, generation: u64) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
            && self.standing.as_ref().map_or(0, |standing| standing.generation) == generation
    }

    /// No further call uses it.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    pub(super) fn standing(&self) -> Option<&Arc<Standing>> {
        self.standing.as_ref()
    }
}

impl<S> Place<S> {
    /// Who the endpoint is, as it has proved.
    pub(crate) fn identity(&self) -> Option<&SpiffeId> {
        self.link.standing.as_ref().map(|standing| standing.identity())
    }

    fn on(link: Arc<Link<S>>) -> Self {
        link.live.fetch_add(1, Ordering::Relaxed);
        Self { is_used: link.has_served(), link }
    }

    /// An answer came over the connection.
    pub(crate) fn serves(&self) {
        self.link.has_served.store(true, Ordering::Relaxed);
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        self.link.live.fetch_sub(1, Ordering::Relaxed);
    }
}
