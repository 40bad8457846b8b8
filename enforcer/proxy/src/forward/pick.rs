//! One try of a call at one endpoint: counted while it lives, and what it tells of the endpoint (LB-02, OD-01).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use base_ports::Mono;
use ca_identity::SpiffeId;
use enforcer_codec::{Call, CallProtocol, Upgrade};
use enforcer_traffic::fleet::{Entry, Outcome};
use enforcer_traffic::{BalancerKind, Trigger, UpstreamProtocol};

use super::tries::{Chance, Tried, Wish};
use crate::authorize::Permitted;
use crate::fault::Fault;
use crate::pool::{Endpoint, Terms};
use crate::upstream::Upstream;
use crate::waiting::PATIENCE;

/// Who waits looks so often whether another worker's call made a place.
const LOOK: Duration = Duration::from_millis(5);

/// A permitted call and the endpoint that gets it.
#[derive(Debug)]
pub(crate) struct Pick<'a> {
    pub(super) permitted: &'a Permitted<Call>,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) place: usize,
    pub(super) chance: &'a Chance<'a>,
    upstream: &'a Upstream,
    entry: Entry,
    since: Mono,
    /// How it ended for the endpoint is told.
    told: AtomicBool,
}

impl<'a> Pick<'a> {
    /// Chooses an endpoint, none of those that were tried while there is another.
    ///
    /// # Errors
    /// When none can be used.
    pub(super) fn new(
        permitted: &'a Permitted<Call>,
        upstream: &'a Upstream,
        chance: &'a Chance<'a>,
        tried: Option<&Tried>,
        since: Mono,
    ) -> Result<Self, Fault> {
        let call = permitted.call();
        let needs = match call.upgrade() {
            _ if call.protocol() == CallProtocol::Grpc => Some(UpstreamProtocol::Http2),
            _ if call.protocol() == CallProtocol::Tcp => Some(UpstreamProtocol::Tcp),
            Some(Upgrade::WebSocket) => Some(UpstreamProtocol::Http1),
            _ => None,
        };
        let key = upstream.key(permitted, chance.conn);
        let fits = |endpoint: &Endpoint| {
            needs.is_none_or(|needed| endpoint.protocol == needed)
                || (needs == Some(UpstreamProtocol::Http2) && endpoint.protocol == UpstreamProtocol::Http3)
        };
        let found = match tried {
            None => upstream.pick(since, key, |endpoint, _| fits(endpoint)),
            Some(tried) => {
                let new = |endpoint: &Endpoint, place| fits(endpoint) && !tried.has(place);
                let old = |endpoint: &Endpoint, place| fits(endpoint) && !tried.is_closed(place);
                upstream.pick(since, key, new).or_else(|_tried| upstream.pick(since, key, old))
            }
        };
        let (place, endpoint, entry) = found.map_err(|nobody| Fault::of_nobody(nobody, needs))?;
        let told = AtomicBool::new(false);
        Ok(Self { permitted, endpoint, place, chance, upstream, entry, since, told })
    }

    /// The next try, after a pause, at another endpoint than those when there is one.
    ///
    /// # Errors
    /// When none can be used, or the deadline passed meanwhile.
    pub(super) async fn after(self, tried: &Tried, pause: Duration) -> Result<Self, Fault> {
        let (permitted, upstream, chance) = (self.permitted, self.upstream, self.chance);
        drop(self);
        chance.conn.worker.pause(pause).await;
        let now = chance.clocks.now();
        chance.clocks.left(now)?;
        match Self::new(permitted, upstream, chance, Some(tried), now) {
            Err(Fault::Busy) => Self::wait(permitted, upstream, chance, Some(tried)).await,
            found => found,
        }
    }

    /// Waits for an endpoint that has a place, when there is a use in it (EL-02).
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn wait(
        permitted: &'a Permitted<Call>,
        upstream: &'a Upstream,
        chance: &'a Chance<'a>,
        tried: Option<&Tried>,
    ) -> Result<Self, Fault> {
        let clocks = chance.clocks;
        let now = clocks.now();
        let until = now + clocks.left(now)?.map_or(PATIENCE, |left| left.min(PATIENCE));
        let principal = chance.conn.secured.principal.hash64();
        let route = permitted.upstreams().map(|upstreams| &upstreams.route);
        let class = route.map(|route| route.priority).unwrap_or_default().class();
        let place = upstream.waiting.join(class, principal, until, upstream.slots(), now);
        let place = place.map_err(Fault::of_no_wait)?;
        let timer = chance.conn.worker.wheel.timer();
        let found = poll_fn(|context| {
            loop {
                let now = clocks.now();
                if place.is_first(context.waker()) {
                    match Self::new(permitted, upstream, chance, tried, now) {
                        Err(Fault::Busy) => {}
                        found => return Poll::Ready(found),
                    }
                }
                if now >= until {
                    return Poll::Ready(Err(Fault::QueueDeadline));
                }
                timer.set(until.min(now + LOOK));
                if timer.poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
        if let Some(notes) = clocks.notes() {
            notes.queued(clocks.now().saturating_since(now));
        }
        found
    }

    /// Runs a try whose head must come in the time of a try.
    pub(super) async fn within_try(
        &self,
        mut trying: impl Future<Output = Result<(), Fault>> + Unpin,
    ) -> Result<(), Fault> {
        let clocks = self.chance.clocks;
        let timer = self.chance.conn.worker.wheel.timer();
        if let Some(limit) = self.chance.try_timeout() {
            timer.set(clocks.now() + limit);
        }
        poll_fn(|context| match Pin::new(&mut trying).poll(context) {
            Poll::Pending if clocks.is_answered() => Poll::Pending,
            Poll::Pending => timer.poll(context).map(|()| Err(Fault::Deadline)),
            told => told,
        })
        .await
    }

    /// What the endpoint is told.
    pub(super) fn call(&self) -> &'a Call {
        self.chance.call
    }

    /// Name of the cluster.
    pub(super) fn cluster(&self) -> &'a Arc<str> {
        &self.upstream.cluster.name
    }

    /// On which terms a connection to the endpoint is opened.
    pub(super) fn terms(&self) -> Terms {
        let spec = &self.upstream.cluster.spec;
        let (limit, limits) = (spec.connect_timeout, *self.upstream.fleet.limits());
        Terms { limit, limits, requires_h3: spec.requires_h3 }
    }

    /// A connection is asked for.
    pub(super) fn connecting(&self) {
        if let Some(notes) = self.chance.clocks.notes() {
            notes.connecting(self.chance.clocks.now());
        }
    }

    /// It is there, and it is that one's.
    pub(super) fn connected(&self, identity: Option<&SpiffeId>) {
        if let Some(notes) = self.chance.clocks.notes() {
            notes.connected(self.chance.clocks.now(), identity);
        }
    }

    /// The endpoint hears first who calls (PX-03).
    pub(super) fn tells_caller(&self) -> bool {
        self.upstream.cluster.spec.tells_caller
    }

    /// The head of an answer with that status is there.
    pub(super) fn answered(&self, status: Trigger, wish: Wish) {
        let outcome = match status {
            Trigger::Status(429) | Trigger::Grpc(8) => Outcome::Declined,
            Trigger::Status(500..=599) | Trigger::Grpc(2 | 4 | 13 | 14 | 15) => Outcome::Failed,
            _ => Outcome::Answered,
        };
        self.tell(outcome, wish.pause());
    }

    /// The try ended without a complete answer.
    pub(super) fn failed(&self, fault: &Fault) {
        match fault {
            Fault::Connect { .. }
            | Fault::WrongPeer { .. }
            | Fault::TlsRejected { .. }
            | Fault::Upstream { .. }
            | Fault::NotGrpc { .. }
            | Fault::Deadline => {
                self.tell(Outcome::Failed, None);
            }
            _ => {}
        }
    }

    fn tell(&self, outcome: Outcome, wish: Option<Duration>) {
        // Only the task of the call tells anything, so this needs no exchange.
        let is_first = !self.told.load(Ordering::Relaxed);
        self.told.store(true, Ordering::Relaxed);
        let by_latency = is_first && self.upstream.cluster.spec.balancer == BalancerKind::PeakEwma;
        if !by_latency && !self.upstream.fleet.learns() {
            return;
        }
        let now = self.chance.clocks.now();
        if by_latency {
            let took = now.saturating_since(self.since);
            let latency = self.endpoint.state.latency();
            match outcome {
                Outcome::Answered | Outcome::Nothing => latency.sample(took, now),
                Outcome::Failed | Outcome::Declined => latency.penalty(took, wish, now),
            }
        }
        if is_first {
            self.upstream.fleet.ended(outcome, now);
        }
        let entry = if is_first { self.entry } else { self.entry.decided() };
        if let Some(turn) = self.upstream.fleet.tell(self.place, entry, outcome, now) {
            self.upstream.turned(&self.chance.conn.worker, turn);
        }
    }
}

impl Drop for Pick<'_> {
    fn drop(&mut self) {
        if !self.told.load(Ordering::Relaxed) {
            // A call that its caller gave up says only how long it took.
            let is_late = self.chance.clocks.is_overdue();
            self.tell(if is_late { Outcome::Failed } else { Outcome::Nothing }, None);
        }
        self.endpoint.state.leave(self.entry);
        if self.upstream.waiting.is_busy() {
            self.upstream.waiting.freed(self.chance.clocks.now().saturating_since(self.since));
        }
    }
}
