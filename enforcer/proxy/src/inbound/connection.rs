//! A connection as its calls see it: who is at its end, its place at the listener, and when it must go.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base_net::ConnectionPermit;
use base_ports::{Mono, Now};
use enforcer_codec::headers::Extra;
use enforcer_traffic::{Held, Priority, Step};
use policies_engine::{DecisionId, Protocol};

use super::LINGER;
use super::bearer::Bearers;
use crate::accounts::Accounts;
use crate::fault::Fault;
use crate::listening::Listening;
use crate::secured::Secured;
use crate::shed::Shed;
use crate::worker::Worker;

/// So long calls of the local application wait until this process is ready.
const HELD: Duration = Duration::from_secs(5);

/// A secured connection and what its calls need.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Arc<Worker>,
    pub(crate) listening: Arc<Listening>,
    pub(crate) secured: Secured,
    pub(crate) accounts: Accounts,
    /// The identity was found to hold no longer.
    pub(super) lapsed: AtomicBool,
    /// Who forwarded it, when the caller did not connect itself (PX-02).
    pub(crate) via: Option<SocketAddr>,
    /// Its place at the listener; none before it has one.
    pub(super) permit: Option<ConnectionPermit>,
    /// Its number among those of the worker, once it has its place.
    pub(super) number: Option<u64>,
    /// The decision on the call whose copy it carries; none of a caller's own.
    pub(crate) mirrors: Option<Box<DecisionId>>,
    /// Whom tokens of its calls named.
    pub(super) bearers: Bearers,
    /// Calls that run, as its worker counts them: those that are dropped as well.
    pub(super) running: AtomicU32,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.load.leave(self.running.load(Ordering::Relaxed));
        // A copy has no place of its own.
        let number = self.number.filter(|_| self.permit.is_some());
        number.into_iter().for_each(|number| self.worker.standing.leave(number));
    }
}

impl Connection {
    pub(super) fn begins_call(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.worker.load.enter();
    }

    pub(super) fn ends_call(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.worker.load.leave(1);
    }

    /// The peer should be asked to go, whatever the time.
    pub(crate) fn must_leave(&self) -> bool {
        // Under load, one that is new gets its first call served.
        let is_idle = || self.permit.as_ref().is_some_and(ConnectionPermit::has_served);
        self.is_asked_to_leave()
            || self.lapsed.load(Ordering::Relaxed)
            || self.is_evicted()
            || (self.worker.load.step() >= Step::Idle && is_idle())
    }

    /// What its caller is told of HTTP/3, when it came over TCP: withdrawn while the listener drains (LT-05).
    pub(crate) fn alternative(&self) -> Option<Extra<'_>> {
        let told = self.listening.alternative(self.secured.local.port())?;
        let is_tcp = self.secured.protocol() != Protocol::H3;
        is_tcp.then(|| ("alt-svc", if self.is_draining() { b"clear" } else { told.as_bytes() }))
    }

    /// Its listener takes in nothing any more.
    pub(super) fn is_draining(&self) -> bool {
        self.permit.as_ref().is_some_and(ConnectionPermit::is_draining)
    }

    /// Its time in the drain has come.
    pub(super) fn is_asked_to_leave(&self) -> bool {
        let asks = |permit: &ConnectionPermit| {
            permit.is_asked_to_leave(self.worker.clock.mono(), self.secured.share)
        };
        self.is_draining() && self.permit.as_ref().is_some_and(asks)
    }

    /// Descriptors have run out, and this connection was idle for longest.
    pub(super) fn is_evicted(&self) -> bool {
        self.permit.as_ref().is_some_and(ConnectionPermit::is_asked)
    }

    /// Takes its place at the listener.
    ///
    /// # Errors
    /// When its identity has as many as it may have.
    pub(super) fn takes_place(&mut self, mut permit: ConnectionPermit) -> Result<(), Shed> {
        let is_known = self.secured.credential.is_some();
        if is_known && permit.identify(self.secured.principal.hash64()).is_err() {
            self.worker.meters.shed(Shed::IdShare);
            return Err(Shed::IdShare);
        }
        let (worker, now) = (&self.worker, self.worker.clock.mono());
        permit.ready(now);
        self.number = Some(worker.standing.join(&self.listening.name, &self.secured, permit.activity(), now));
        self.permit = Some(permit);
        Ok(())
    }

    /// Whether a call is looked at at all: the last step of load takes none, the one before it none of strangers (OV-02).
    pub(super) fn is_taken_in(&self) -> Result<(), Fault> {
        let most = if self.secured.credential.is_some() { Step::Calls } else { Step::New };
        self.worker.load.gives_up(most).map_or(Ok(()), |strain| Err(Fault::Overload(strain)))
    }

    /// Calls of the local application wait until this process can hand them on, for a while (SC-04).
    pub(super) async fn is_held(&self) -> Result<(), Fault> {
        if self.worker.is_ready() {
            return Ok(());
        }
        let until = self.worker.clock.mono() + HELD;
        while self.worker.clock.mono() < until {
            self.worker.pause(HELD / 200).await;
            if self.worker.is_ready() {
                return Ok(());
            }
        }
        Err(Fault::NotReady)
    }

    /// An account of what a call holds in memory, on a route of that class.
    pub(super) fn holding(&self, priority: Priority) -> NonZeroU32 {
        let connection = self.number.unwrap_or_default();
        let is_stranger = self.secured.credential.is_none();
        let owner = if is_stranger { connection } else { self.secured.principal.hash64() };
        self.worker.holdings.open(Held { owner, is_stranger, priority, bytes: 0 }, connection)
    }

    /// The time for the head of a call.
    pub(super) fn header_time(&self) -> Duration {
        self.shortened(self.listening.timers.header)
    }

    /// The time without a call.
    pub(super) fn idle_time(&self) -> Duration {
        self.shortened(self.listening.timers.idle)
    }

    pub(super) fn shortened(&self, time: Duration) -> Duration {
        if self.worker.load.step() >= Step::Shorter { time / 2 } else { time }
    }

    /// So long a peer has to take an answer of our own: one that reads nothing does not hold its connection.
    pub(super) fn tells_until(&self) -> Mono {
        let now = self.worker.clock.mono();
        (now + self.listening.timers.header).min(self.secured.ends).max(now + LINGER)
    }

    /// What carries a copy of one of its calls, the one of that decision.
    pub(crate) fn mirror(&self, of: DecisionId) -> Self {
        let mut copy = self.copy();
        copy.mirrors = Some(Box::new(of));
        copy
    }

    /// The same caller, with no place at the listener.
    pub(super) fn copy(&self) -> Self {
        Self {
            worker: Arc::clone(&self.worker),
            listening: Arc::clone(&self.listening),
            secured: self.secured.copy(),
            accounts: Accounts::default(),
            lapsed: AtomicBool::new(false),
            via: self.via,
            permit: None,
            number: self.number,
            mirrors: None,
            bearers: Bearers::default(),
            running: AtomicU32::new(0),
        }
    }

    /// No new call should come over this connection.
    pub(crate) fn is_retired(&self, now: Now) -> bool {
        self.must_leave() || now.mono >= self.secured.retires
    }
}
