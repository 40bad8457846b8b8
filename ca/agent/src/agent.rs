//! The running agent: one task that follows the authority, has SVIDs signed and renewed, and publishes the state. Tokens
//! are had on demand.
//!
//! `portcullis` starts it; `service` reads what it publishes. The task is the only writer. When it ends, streams end as
//! Unavailable, so that workloads keep what they hold (DF-06).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base_ports::{
    Clock, Rng, UnixTime,
    task::{TaskHandle, Tasks},
};
use ca_identity::{BundleMap, IdentitySnapshot, X509Svid, verify_jwt_svid};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    cache::{Cache, DELAYS},
    issue::{IssueError, SIGN_LIMIT, issue, silent},
    state::State,
    tokens::{Asked, Tokens},
    upstream::{AgentEntry, Upstream},
};

/// Signings that are under way at once.
const PARALLEL: usize = 16;

/// The longest sleep of the task, so that a jump of the wall clock is seen.
const TICK: Duration = Duration::from_secs(1);

/// The SVIDs of this host's workloads, kept fresh. Ends with the [`Tasks`] it was started on.
#[derive(Debug)]
pub struct Agent {
    states: watch::Receiver<Arc<State>>,
    upstream: Arc<dyn Upstream>,
    tokens: Mutex<Tokens>,
    clock: Arc<dyn Clock>,
    /// Responses of SDS that clients refused.
    rejected: AtomicU64,
    delays: Arc<Mutex<Vec<Duration>>>,
    task: TaskHandle,
}

/// What the agent says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// Entries of this agent.
    pub entries: usize,
    /// Entries that have an SVID.
    pub held: usize,
    /// A failure of an entry without SVID, or of one whose renewal fails; the oldest entry's.
    pub problem: Option<String>,
    /// Responses of SDS that clients refused since the start.
    pub rejected: u64,
}

impl Agent {
    /// Starts to follow `upstream`.
    pub fn start(
        upstream: Arc<dyn Upstream>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Self::start_with(upstream, clock, rng, tasks, TICK)
    }

    pub(crate) fn start_with(
        upstream: Arc<dyn Upstream>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tasks: &Tasks,
        tick: Duration,
    ) -> Arc<Self> {
        let mut changed = upstream.changed();
        changed.mark_unchanged();
        let mut cache = Cache::new(upstream.entries(), upstream.bundle());
        cache.deny(upstream.revoked());
        cache.list(&upstream.crls());
        cache.federate(upstream.federated());
        cache.hear(upstream.is_known());
        let (publish, states) = watch::channel(Arc::new(cache.state()));
        let delays = Arc::default();
        let work = Work {
            upstream: Arc::clone(&upstream),
            changed,
            cache,
            publish,
            delays: Arc::clone(&delays),
            clock: Arc::clone(&clock),
            rng,
            tick,
        };
        let task = tasks.spawn("agent", work.run());
        Arc::new(Self {
            states,
            upstream,
            tokens: Mutex::default(),
            clock,
            rejected: AtomicU64::new(0),
            delays,
            task,
        })
    }

    /// How many entries there are and how they fare.
    pub fn status(&self) -> AgentStatus {
        let state = Arc::clone(&self.states.borrow());
        let served = state.served();
        AgentStatus {
            entries: served.len(),
            held: served.iter().filter(|served| served.resource.is_some()).count(),
            problem: served.iter().find_map(|served| served.problem.as_deref().map(str::to_owned)),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// How long new and changed entries waited until their SVID was on the streams, since the last call.
    pub fn take_delays(&self) -> Vec<Duration> {
        std::mem::take(&mut self.delays.lock())
    }

    /// Ends the agent; every stream ends as Unavailable.
    pub fn stop(&self) {
        self.task.abort();
    }

    pub(crate) fn count_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }

    /// A JWT-SVID of that entry for that audience: one that was issued for the same and is young, or a new one.
    pub(crate) async fn token(&self, entry: &AgentEntry, audience: &[String]) -> Result<String, IssueError> {
        let asked = Asked::of(entry, audience);
        let (bundle, revoked) = (self.upstream.bundle(), self.upstream.revoked());
        let unusable = [&revoked, &self.upstream.tainted()];
        let held = self.tokens.lock().find(&asked, &bundle, &unusable, self.clock.now().wall);
        if let Some(token) = held {
            return Ok(token);
        }
        let signing = self.upstream.sign_token(&entry.id, audience.to_vec());
        let signed = tokio::time::timeout(SIGN_LIMIT, signing).await.unwrap_or_else(|_late| Err(silent()))?;
        let bundles = BundleMap::of(self.upstream.bundle());
        let trust = IdentitySnapshot { bundles, revoked, ..IdentitySnapshot::default() };
        let now = self.clock.now().wall;
        let first = audience.first().map_or("", String::as_str);
        let verified = verify_jwt_svid(&signed.token, first, &trust, now)?;
        if verified.id != entry.spiffe_id {
            return Err(IssueError::OtherIdentity { wanted: entry.spiffe_id.clone(), got: verified.id });
        }
        self.tokens.lock().keep(asked, &signed, &verified, now);
        Ok(signed.token)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }
}

struct Work {
    upstream: Arc<dyn Upstream>,
    changed: watch::Receiver<u64>,
    cache: Cache,
    publish: watch::Sender<Arc<State>>,
    delays: Arc<Mutex<Vec<Duration>>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    tick: Duration,
}

type Signing = FuturesUnordered<BoxFuture<'static, (Arc<AgentEntry>, Result<X509Svid, IssueError>)>>;

impl Work {
    async fn run(mut self) {
        let mut signing = Signing::new();
        let mut followed = true;
        loop {
            let now = self.clock.now();
            self.cache.expire(now);
            if let Some(state) = self.cache.changed_state() {
                self.publish.send_replace(Arc::new(state));
                self.keep_delays();
                self.upstream.acknowledge(self.cache.sequence());
            }
            let room = PARALLEL.saturating_sub(signing.len());
            signing.extend(self.cache.take_due(now, room).into_iter().map(|entry| self.sign(entry)));
            let idle = if signing.len() < PARALLEL { self.cache.idle(now, self.tick) } else { self.tick };

            // Every arm is cancellation safe: a watch, a set of futures that stays, a sleep.
            tokio::select! {
                biased;
                change = self.changed.changed(), if followed => {
                    followed = change.is_ok();
                    let now = self.clock.now().mono;
                    self.cache.reconcile(self.upstream.entries(), self.upstream.bundle(), now);
                    self.cache.deny(self.upstream.revoked());
                    self.cache.list(&self.upstream.crls());
                    self.cache.federate(self.upstream.federated());
                    self.cache.hear(self.upstream.is_known());
                    self.cache.renew(&self.upstream.tainted(), self.clock.now(), || self.rng.u64());
                }
                Some(answer) = signing.next(), if !signing.is_empty() => {
                    self.take(answer);
                    while let Some(Some(answer)) = signing.next().now_or_never() {
                        self.take(answer);
                    }
                }
                () = tokio::time::sleep(idle) => {}
            }
        }
    }

    /// Nobody may be there to take them.
    fn keep_delays(&mut self) {
        let mut kept = self.delays.lock();
        kept.extend(self.cache.take_delays());
        kept.truncate(DELAYS);
    }

    fn take(&mut self, (entry, answer): (Arc<AgentEntry>, Result<X509Svid, IssueError>)) {
        self.cache.signed(&entry, answer, self.clock.now(), self.rng.u64());
    }

    fn sign(
        &self,
        entry: Arc<AgentEntry>,
    ) -> BoxFuture<'static, (Arc<AgentEntry>, Result<X509Svid, IssueError>)> {
        let (upstream, clock) = (Arc::clone(&self.upstream), Arc::clone(&self.clock));
        Box::pin(async move {
            let send = |csr| upstream.sign(&entry.id, csr);
            let now = || -> UnixTime { clock.now().wall };
            let answer = issue(&entry.spiffe_id, &entry.dns_names, send, now).await;
            (entry, answer)
        })
    }
}

#[cfg(test)]
mod tests;
