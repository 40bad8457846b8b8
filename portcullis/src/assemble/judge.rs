//! The engine of the control runtime: judges admin calls and issuance with the policies in force and records each
//! verdict durably. One lane, one engine, both behind one lock that is never held across an await.

use std::sync::Arc;

use base_ports::Clock;
use parking_lot::Mutex;
use policies_engine::{
    AccessRequest, Action, AdminAction, AdminContext, Audit, AuditUnavailable, Decision, DecisionId,
    DecisionRecord, Engine, Facts, Lane, OwnedFacts, Phase, Principal, Reason, Receipt, Resource, Snapshot,
};
use tokio::sync::watch;

/// One question about our own APIs.
pub(crate) struct Question<'a> {
    pub(crate) principal: Principal,
    pub(crate) action: AdminAction,
    pub(crate) resource: Resource,
    pub(crate) context: Option<&'a AdminContext>,
    pub(crate) phase: Phase,
    pub(crate) facts: Option<OwnedFacts>,
}

/// Its answer, already on its way into the ledger.
pub(crate) struct Verdict {
    pub(crate) allow: bool,
    pub(crate) id: DecisionId,
    /// The policies that decided.
    pub(crate) determining: Arc<[Arc<str>]>,
    receipt: Receipt,
}

impl Verdict {
    /// Resolves when the record is as durable as it must be.
    pub(crate) async fn recorded(self) -> Result<(), AuditUnavailable> {
        match self.receipt {
            Receipt::Pending(pending) => pending.await,
            Receipt::Taken | Receipt::Lost => Ok(()),
        }
    }
}

pub(crate) struct Judge {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

struct State {
    engine: Option<Engine>,
    lane: Box<dyn Lane>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

impl Judge {
    pub(crate) fn new(
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        lane: Box<dyn Lane>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { snapshots, state: Mutex::new(State { engine: None, lane }), clock })
    }

    /// The snapshot in force.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }

    /// Judges and records.
    pub(crate) fn decide(&self, question: &Question<'_>) -> Verdict {
        let now = self.clock.now();
        let facts = question.facts.clone().unwrap_or_else(|| OwnedFacts::local("admin"));
        let action = Action::Admin(question.action);
        let current = self.snapshot();
        let mut state = self.state.lock();
        refresh(&mut state.engine, current);
        let decision = match &mut state.engine {
            Some(engine) => engine.decide(&AccessRequest {
                principal: &question.principal,
                action,
                resource: &question.resource,
                facts: &facts,
                now: now.wall,
                extra: question.context,
            }),
            None => Decision::refusal(Reason::NoPolicy),
        };
        let (allow, determining) = (decision.is_allowed(), Arc::clone(&decision.determining));
        let reads = question.action.is_read();
        let mut record =
            DecisionRecord::new(decision, question.principal.clone(), action, question.resource.clone(), now);
        record.phase = question.phase;
        record.versions = state.engine.as_ref().map(|engine| Arc::clone(engine.snapshot().versions()));
        record.facts = Some(Arc::new(facts) as Arc<dyn Facts>);
        record.audit = if reads { Audit::BestEffort } else { Audit::Durable };
        let (id, receipt) = state.lane.record(record);
        Verdict { allow, id, determining, receipt }
    }
}

/// Keeps the plans of a snapshot as long as the snapshot is in force.
pub(super) fn refresh(engine: &mut Option<Engine>, current: Option<Arc<Snapshot>>) {
    let is_current = match (engine.as_ref(), &current) {
        (Some(engine), Some(current)) => Arc::ptr_eq(engine.snapshot(), current),
        (None, None) => true,
        _ => false,
    };
    if !is_current {
        *engine = current.map(Engine::new);
    }
}
