//! What is held for each entry and what is due next, as a pure state machine: input and `now` in, work and state out.
//!
//! Driven by `agent` alone. It never holds an SVID past its end, and an answer that comes for an entry which has
//! changed meanwhile is dropped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base_ports::{Mono, Now, UnixTime};
use ca_identity::{Bundle, RevocationSet, X509Svid};

use crate::{
    issue::IssueError,
    rotate::{RETRY_FIRST, late_at, renew_at, retry_after, spread},
    state::{Crls, Others, Resource, Served, State},
    upstream::AgentEntry,
};

/// How far the wall clock may go back before an SVID that has expired would look valid again.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// The most delays that are kept for who takes them.
pub(crate) const DELAYS: usize = 1024;

/// Every entry of this agent with its SVID.
#[derive(Debug)]
pub(crate) struct Cache {
    items: BTreeMap<String, Item>,
    bundle: Arc<Bundle>,
    crls: Crls,
    revoked: RevocationSet,
    others: Arc<Others>,
    is_known: bool,
    latest: UnixTime,
    dirty: bool,
    /// How long entries waited for their SVID, until somebody takes that.
    delays: Vec<Duration>,
}

#[derive(Debug)]
struct Item {
    entry: Arc<AgentEntry>,
    held: Option<Held>,
    step: Step,
    /// Since when it waits for an SVID because its entry is new or has changed.
    since: Option<Mono>,
    failures: u32,
    problem: Option<Arc<str>>,
}

#[derive(Debug)]
struct Held {
    svid: Arc<X509Svid>,
    resource: Arc<Resource>,
    received: UnixTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Due,
    Signing,
    RenewAt(UnixTime),
    RetryAt(Mono),
}

impl Cache {
    pub(crate) fn new(entries: Vec<AgentEntry>, bundle: Arc<Bundle>) -> Self {
        let (items, revoked) = (BTreeMap::new(), RevocationSet::default());
        let (crls, latest) = (Crls::default(), UnixTime::from_nanos(i64::MIN));
        let (others, delays) = (Arc::default(), Vec::new());
        let mut cache =
            Self { items, bundle, crls, revoked, others, is_known: true, latest, dirty: true, delays };
        cache.take_entries(entries);
        cache
    }

    /// Follows the authority: entries come, go and change; the bundle changes.
    pub(crate) fn reconcile(&mut self, entries: Vec<AgentEntry>, bundle: Arc<Bundle>, now: Mono) {
        self.take_entries(entries);
        for item in self.items.values_mut().filter(|item| item.step == Step::Due) {
            item.since.get_or_insert(now);
        }
        self.bundle = bundle;
        self.dirty = true;
    }

    /// Whether the authority was heard.
    pub(crate) fn hear(&mut self, is_known: bool) {
        self.dirty |= self.is_known != is_known;
        self.is_known = is_known;
    }

    /// Takes the revocation lists.
    pub(crate) fn list(&mut self, crls: &[Arc<[u8]>]) {
        let crls = Crls::of(crls);
        if self.crls != crls {
            self.crls = crls;
            self.dirty = true;
        }
    }

    /// Takes the bundles of other trust domains.
    pub(crate) fn federate(&mut self, bundles: Vec<Arc<Bundle>>) {
        self.others = Arc::new(self.others.next(bundles));
        self.dirty = true;
    }

    /// Takes the deny set: what it denies is served no longer, and signed anew at once.
    pub(crate) fn deny(&mut self, revoked: RevocationSet) {
        for item in self.items.values_mut() {
            let denies = |held: &mut Held| revoked.check_path(&held.svid.id, &held.svid.path).is_err();
            if item.held.take_if(denies).is_some() {
                tracing::warn!(entry = item.entry.id, id = %item.entry.spiffe_id, "SVID revoked and withdrawn");
                if item.step != Step::Signing {
                    item.step = Step::Due;
                }
            }
        }
        self.revoked = revoked;
        self.dirty = true;
    }

    /// Has SVIDs of tainted keys renewed, each at a moment of its own within half a minute. They are served until then.
    pub(crate) fn renew(&mut self, tainted: &RevocationSet, now: Now, mut jitter: impl FnMut() -> u64) {
        if tainted.is_empty() {
            return;
        }
        let wall = self.judge(now.wall);
        for item in self.items.values_mut() {
            let is_hit = |held: &Held| tainted.check_path(&held.svid.id, &held.svid.path).is_err();
            if let (true, Step::RenewAt(due)) = (item.held.as_ref().is_some_and(is_hit), item.step) {
                item.step = Step::RenewAt(due.min(wall + spread(jitter())));
            }
        }
    }

    /// The bundle that is served.
    pub(crate) fn sequence(&self) -> u64 {
        self.bundle.sequence
    }

    fn take_entries(&mut self, entries: Vec<AgentEntry>) {
        let mut before = std::mem::take(&mut self.items);
        for entry in entries {
            let item = match before.remove(&entry.id) {
                Some(item) if item.entry.spiffe_id == entry.spiffe_id => item.with(entry),
                _ => Item::new(entry),
            };
            self.items.insert(item.entry.id.clone(), item);
        }
    }

    /// Entries whose signing is to begin now, at most `room` of them: those without SVID first, then the oldest.
    pub(crate) fn take_due(&mut self, now: Now, room: usize) -> Vec<Arc<AgentEntry>> {
        let wall = self.judge(now.wall);
        let mut due: Vec<&mut Item> =
            self.items.values_mut().filter(|item| item.step.left(now, wall).is_zero()).collect();
        due.sort_by_key(|item| item.held.as_ref().map(|held| held.svid.not_after));
        let start = |item: &mut Item| {
            item.step = Step::Signing;
            Arc::clone(&item.entry)
        };
        due.into_iter().take(room).map(start).collect()
    }

    /// The answer to a signing that [`Cache::take_due`] began.
    pub(crate) fn signed(
        &mut self,
        entry: &Arc<AgentEntry>,
        answer: Result<X509Svid, IssueError>,
        now: Now,
        jitter: u64,
    ) {
        let wall = self.judge(now.wall);
        let Some(item) = self.items.get_mut(&entry.id) else { return };
        if item.step != Step::Signing || !item.asked_for(entry) {
            return;
        }
        let allowed = |svid: X509Svid| match self.revoked.check_path(&svid.id, &svid.path) {
            Ok(()) => Ok(svid),
            Err(denied) => Err(IssueError::Chain(denied.to_string())),
        };
        match answer.and_then(allowed) {
            Ok(svid) => {
                let due = renew_at(svid.not_before.max(wall), svid.not_after, jitter);
                item.step = Step::RenewAt(due.max(wall + RETRY_FIRST));
                item.failures = 0;
                item.problem = None;
                let waited = item.since.take().map(|since| now.mono.saturating_since(since));
                let has_room = self.delays.len() < DELAYS;
                self.delays.extend(waited.filter(|_| has_room));
                let svid = Arc::new(svid);
                item.held = Some(Held { resource: Arc::new(Resource::of(&svid)), svid, received: wall });
            }
            Err(error) => {
                item.failures = item.failures.saturating_add(1);
                item.step = Step::RetryAt(now.mono + retry_after(item.failures, jitter));
                item.problem = Some(error.to_string().into());
                item.tell(wall);
            }
        }
        self.dirty = true;
    }

    /// How long entries waited for their SVID, since the last call.
    pub(crate) fn take_delays(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.delays)
    }

    /// Drops what has expired.
    pub(crate) fn expire(&mut self, now: Now) {
        let wall = self.judge(now.wall);
        for item in self.items.values_mut() {
            if item.held.take_if(|held| held.svid.not_after <= wall).is_some() {
                tracing::error!(entry = item.entry.id, id = %item.entry.spiffe_id, "SVID expired and is withdrawn");
                item.problem.get_or_insert_with(|| "the SVID expired before it was renewed".into());
                self.dirty = true;
            }
        }
    }

    /// How long nothing will be due, at most `longest`.
    pub(crate) fn idle(&mut self, now: Now, longest: Duration) -> Duration {
        let wall = self.judge(now.wall);
        self.items.values().map(|item| item.idle(now, wall)).min().unwrap_or(longest).min(longest)
    }

    /// The state to publish, when it has changed since the last call.
    pub(crate) fn changed_state(&mut self) -> Option<State> {
        std::mem::take(&mut self.dirty).then(|| self.state())
    }

    pub(crate) fn state(&self) -> State {
        let mut served: Vec<Arc<Served>> = self.items.values().map(|item| Arc::new(item.served())).collect();
        served.sort_by(|a, b| a.order().cmp(&b.order()));
        let state = State::new(served, &self.bundle).listing(self.crls.clone());
        state.denying(self.revoked.clone()).knowing(Arc::clone(&self.others)).heard(self.is_known)
    }

    /// The time that validity is judged by: a wall clock that goes back does not revive what has expired.
    fn judge(&mut self, wall: UnixTime) -> UnixTime {
        self.latest = self.latest.max(wall);
        wall.max(self.latest - CLOCK_SLACK)
    }
}

impl Item {
    fn new(entry: AgentEntry) -> Self {
        Self { entry: Arc::new(entry), held: None, step: Step::Due, since: None, failures: 0, problem: None }
    }

    /// The same identity as before; other DNS names ask for a new SVID while the old one serves on.
    fn with(mut self, entry: AgentEntry) -> Self {
        if self.entry.dns_names != entry.dns_names {
            self.step = Step::Due;
        }
        self.entry = Arc::new(entry);
        self
    }

    fn asked_for(&self, entry: &AgentEntry) -> bool {
        self.entry.spiffe_id == entry.spiffe_id && self.entry.dns_names == entry.dns_names
    }

    fn idle(&self, now: Now, wall: UnixTime) -> Duration {
        let step = self.step.left(now, wall);
        match &self.held {
            Some(held) => step.min(held.svid.not_after.saturating_since(wall)),
            None => step,
        }
    }

    fn served(&self) -> Served {
        Served {
            entry: Arc::clone(&self.entry),
            resource: self.held.as_ref().map(|held| Arc::clone(&held.resource)),
            problem: self.problem.clone(),
        }
    }

    fn tell(&self, wall: UnixTime) {
        let (entry, id) = (&self.entry.id, &self.entry.spiffe_id);
        let error = self.problem.as_deref().unwrap_or_default();
        match &self.held {
            Some(held) if late_at(held.received, held.svid.not_after) > wall => {
                tracing::warn!(entry, %id, error, "renewal failed, the SVID in use is still valid");
            }
            Some(_) => tracing::error!(entry, %id, error, "renewal is late, the SVID in use will expire"),
            None => tracing::warn!(entry, %id, error, "no SVID for this entry"),
        }
    }
}

impl Step {
    fn left(self, now: Now, wall: UnixTime) -> Duration {
        match self {
            Self::Due => Duration::ZERO,
            Self::Signing => Duration::MAX,
            Self::RenewAt(due) => due.saturating_since(wall),
            Self::RetryAt(due) => due.saturating_since(now.mono),
        }
    }
}

#[cfg(test)]
mod tests;
