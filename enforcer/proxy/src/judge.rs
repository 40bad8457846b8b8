//! The worker's judge: the view in force as this worker uses it, its engine, and its lane into the ledger.
//!
//! One lock that no other worker takes, held for the length of one decision and never across an await. The view is
//! looked at once per call: one load of the generation, nothing else, unless it changed (WK-02).

mod in_force;

use std::fmt;
use std::sync::Arc;

use base_ports::Now;
use enforcer_codec::{Call, NotCanonical, Upgrade};
use enforcer_traffic::Exceeded;
use parking_lot::Mutex;
use policies_engine::{
    AccessRequest, Action, Decision, DecisionId, DecisionRecord, Engine, Facts, Freshness, Lane, Mode, Phase,
    Reason, ReasonClass, Receipt, Resource, Samples,
};

use crate::View;
use crate::authorize::{CallFacts, Denied, Permitted, action_of, denies, soften, unread};
use crate::inbound::Connection;
use crate::meter::RouteMeter;
use crate::trail::trace_of;
use crate::worker::Worker;
pub(crate) use in_force::InForce;

/// Decides and records, one call at a time.
pub(crate) struct Judge(Mutex<Bench>);

struct Bench {
    lane: Box<dyn Lane>,
    samples: Arc<dyn Samples>,
    /// 0 before the first call.
    generation: u64,
    in_force: Arc<InForce>,
    engine: Option<Engine>,
}

/// A decision that is on its way into the ledger.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The number of the route when the call may pass, or why not.
    pub(crate) outcome: Result<usize, Reason>,
    pub(crate) in_force: Arc<InForce>,
    /// Counters of the route, or of calls without one.
    pub(crate) meter: Arc<RouteMeter>,
    pub(crate) decision: DecisionId,
    pub(crate) receipt: Receipt,
    /// The verdict may be another one later though nothing changed.
    pub(crate) reads_time: bool,
    /// The rule that the call breaks for its routes.
    pub(crate) flaw: Option<NotCanonical>,
    /// The call as it was judged.
    pub(crate) facts: Arc<CallFacts>,
}

impl Judge {
    pub(crate) fn new(
        lane: Box<dyn Lane>,
        samples: Arc<dyn Samples>,
        worker_view: Arc<View>,
        nowhere: Arc<RouteMeter>,
    ) -> Self {
        let in_force = InForce {
            view: worker_view,
            versions: None,
            resources: Vec::new(),
            clusters: Vec::new(),
            routes: Vec::new(),
            rates: Vec::new(),
            unknown: Resource::unknown(),
            nowhere,
        };
        Self(Mutex::new(Bench { lane, samples, generation: 0, in_force: Arc::new(in_force), engine: None }))
    }

    /// Records go another way from now on. What was recorded before is in the lane before.
    pub(crate) fn rewire(&self, lane: Box<dyn Lane>, samples: Arc<dyn Samples>) {
        let mut bench = self.0.lock();
        let before =
            (std::mem::replace(&mut bench.lane, lane), std::mem::replace(&mut bench.samples, samples));
        drop(bench);
        drop(before);
    }

    /// What this worker judges by now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.0.lock().in_force)
    }

    /// The verdict on a call, put on record with the view that made it.
    ///
    /// # Errors
    /// When the listener takes no more calls: that is no decision, so nothing is judged.
    pub(crate) fn judge(
        &self,
        conn: &Connection,
        mut facts: Arc<CallFacts>,
        now: Now,
    ) -> Result<Judged, Box<Exceeded>> {
        let mut bench = self.0.lock();
        bench.refresh(&conn.worker);
        let Bench { lane, in_force, engine, .. } = &mut *bench;
        if conn.mirrors.is_none()
            && let Some(Some(limit)) = in_force.rates.get(conn.listening.number)
        {
            conn.accounts.take(limit, &conn.secured, now.mono)?;
        }
        let in_force = Arc::clone(in_force);
        let mut question = in_force.question(conn, facts.call());
        if facts.call().upgrade() == Some(Upgrade::WebSocket)
            && question.route.is_some_and(|route| route.handling.bars_websocket)
        {
            facts = CallFacts::of(facts.call().without_upgrade(), conn);
            question = in_force.question(conn, facts.call());
        }
        let call = facts.call();
        let action = action_of(call);
        facts.found(question.route);
        let decision = match in_force.refuses(conn, call, &question, now) {
            Some(reason) => Decision::refusal(reason),
            None => match engine {
                Some(engine) => {
                    let request = AccessRequest {
                        principal: &conn.secured.principal,
                        action,
                        resource: question.resource,
                        facts: facts.as_ref(),
                        now: now.wall,
                        extra: None,
                    };
                    soften(engine.decide(&request), question.mode, engine.snapshot())
                }
                None => Decision::refusal(Reason::NoPolicy),
            },
        };
        let outcome = match (decision.is_allowed(), question.route) {
            (true, Some(route)) => Ok(route.index as usize),
            (true, None) => Err(Reason::UnknownRoute),
            (false, _) => Err(decision.reason),
        };
        let reads_time = decision.reads_time;
        question.meter.decision(&decision, question.mode);
        let took = conn.worker.clock.mono().saturating_since(now.mono);
        let about = (action, question.resource);
        let flaw = question.flaw;
        let phase = match &conn.mirrors {
            Some(_) => Phase::Mirror,
            None if action == Action::TcpConnect => Phase::Connect,
            None => Phase::Request,
        };
        let mirrors = conn.mirrors.as_ref().map(|of| format!("mirrors {of}"));
        let record = DecisionRecord {
            phase,
            trace: trace_of(call),
            detail: flaw.map(|flaw| format!("{}: {}", flaw.rule, flaw.detail)).or(mirrors),
            decide_ns: u32::try_from(took.as_nanos()).unwrap_or(u32::MAX),
            stale: in_force.view.freshness(question.route) != Freshness::Fresh,
            ..in_force.record(conn, decision, about, Arc::<CallFacts>::clone(&facts), question.mode, now)
        };
        let meter = Arc::clone(question.meter);
        let (decision, receipt) = lane.record(record);
        Ok(Judged { outcome, in_force, meter, decision, receipt, reads_time, flaw, facts })
    }

    /// Judges a running call once more, last judged by `since`; answers what judged it now. A call that no change
    /// concerns keeps its verdict, unless `is_timed` asks all the same (CT-03).
    ///
    /// # Errors
    /// When it must not go on; that is on record then (CT-05).
    pub(crate) fn again(
        &self,
        conn: &Connection,
        permitted: &Permitted<Call>,
        since: &Arc<InForce>,
        is_timed: bool,
        now: Now,
    ) -> Result<Arc<InForce>, Denied> {
        let mut bench = self.0.lock();
        bench.refresh(&conn.worker);
        let Bench { lane, in_force, engine, .. } = &mut *bench;
        let action = action_of(permitted.call());
        let question = permitted.in_force().question(conn, permitted.call());
        let principal = &conn.secured.principal;
        let lapsed = conn.secured.lapsed(&conn.worker.trust, now);
        let mode = in_force.mode_after(permitted.in_force(), &question, conn);
        let is_enforced = question.mode == Mode::Observe && mode == Mode::Enforce;
        let is_concerned = || in_force.concerns(since, principal, action, question.resource);
        if lapsed.is_none() && !is_timed && !is_enforced && !is_concerned() {
            return Ok(Arc::clone(in_force));
        }
        let facts = permitted.facts(conn);
        facts.found(question.route);
        let unread = unread(in_force.versions.as_deref(), permitted.call()).map(|_flaw| Reason::NotCanonical);
        let decision = match (lapsed.or(unread), engine) {
            (Some(lapsed), _) => Decision::refusal(lapsed),
            // Policies do not go away; a view without them judges nothing.
            (None, None) => return Ok(Arc::clone(since)),
            (None, Some(engine)) => {
                let (resource, facts) = (question.resource, &*facts);
                let request =
                    AccessRequest { principal, action, resource, facts, now: now.wall, extra: None };
                soften(engine.decide(&request), mode, engine.snapshot())
            }
        };
        if decision.is_allowed() {
            return Ok(Arc::clone(in_force));
        }
        let verdict = decision.reason;
        let reason = match verdict.class() {
            ReasonClass::Unauthenticated => verdict,
            _ => Reason::RevokedByChange,
        };
        let ended = Decision { reason, ..decision };
        question.meter.decision(&ended, mode);
        let detail = (reason != verdict).then(|| denies(in_force.versions.as_deref(), verdict, &ended));
        let about = (action, question.resource);
        let record = DecisionRecord {
            detail,
            phase: Phase::Rejudge,
            stale: in_force.view.freshness(question.route) != Freshness::Fresh,
            ..in_force.record(conn, ended, about, facts, mode, now)
        };
        // A denial is best effort by definition (LS1); nothing waits for its receipt.
        let (decision, _) = lane.record(record);
        let (version, meter) = (in_force.version(), Arc::clone(question.meter));
        Err(Denied { reason, decision: Some(decision), version, flaw: None, meter })
    }

    /// Puts on record that a permitted call is refused all the same: where it leads is no place for it. That is a decision of
    /// its own, which ends the permit before it had an effect.
    pub(crate) fn withdraw(
        &self,
        conn: &Connection,
        permitted: &Permitted<Call>,
        (reason, detail): (Reason, String),
        now: Now,
    ) -> Denied {
        let in_force = permitted.in_force();
        let question = in_force.question(conn, permitted.call());
        let decision = Decision::refusal(reason);
        question.meter.decision(&decision, question.mode);
        let facts = permitted.facts(conn);
        facts.found(question.route);
        let about = (action_of(permitted.call()), question.resource);
        let record = DecisionRecord {
            detail: Some(detail),
            phase: Phase::Rejudge,
            ..in_force.record(conn, decision, about, facts, question.mode, now)
        };
        // A denial is best effort by definition (LS1); nothing waits for its receipt.
        let (decision, _) = self.0.lock().lane.record(record);
        let (version, meter) = (in_force.version(), Arc::clone(question.meter));
        Denied { reason, decision: Some(decision), version, flaw: None, meter }
    }

    /// Puts a refusal on record that no engine was asked for: bytes that make no call, or a record that was lost.
    pub(crate) fn refuse(
        &self,
        conn: &Connection,
        phase: Phase,
        (reason, detail): (Reason, Option<String>),
        action: Action,
        facts: Arc<dyn Facts>,
        now: Now,
    ) -> (DecisionId, Receipt) {
        let mut bench = self.0.lock();
        bench.refresh(&conn.worker);
        let decision = Decision::refusal(reason);
        let mode = bench.in_force.view.mode(conn.listening.number);
        bench.in_force.nowhere.decision(&decision, mode);
        let about = (action, &bench.in_force.unknown);
        let record = DecisionRecord {
            detail,
            phase,
            ..bench.in_force.record(conn, decision, about, facts, mode, now)
        };
        bench.lane.record(record)
    }
}

impl Bench {
    fn refresh(&mut self, worker: &Worker) {
        let generation = worker.view.generation();
        if generation == self.generation {
            return;
        }
        // INVARIANT: the generation is read before the view, so a publication in between is taken again next time.
        let view = worker.view.current();
        // Plans live as long as their snapshot, whatever else changes around it, and longer where entities alone change.
        let engine = self.engine.take();
        self.engine = view.policy.as_ref().map(|snapshot| match engine {
            Some(engine) if Arc::ptr_eq(engine.snapshot(), snapshot) => engine,
            Some(engine) => engine.succeed(Arc::clone(snapshot)),
            None => {
                let (samples, clock) = (Arc::clone(&self.samples), Arc::clone(&worker.clock));
                Engine::sampled(Arc::clone(snapshot), samples, clock)
            }
        });
        self.in_force = Arc::new(InForce::of(view, &self.in_force, worker));
        self.generation = generation;
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}
